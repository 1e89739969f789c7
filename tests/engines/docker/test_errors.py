"""What can't be run: docker's exit status is the same as with runc, and the message says what is wrong."""

import re

import pytest

pytestmark = pytest.mark.compares

EARLY = "pyoci says so when the container is created; with runc the program's output says so, and the status is 255."
LATE = "With pyoci `docker start` fails, status 125; with runc the program's output says so, and the status is 255."

EXEC = "With pyoci docker's status is 128, as for any start that fails; with runc it is 255."


def case(what, status, message, *options, command=("true",), differs=""):
    """A row: what can't be run, docker's exit status, what the message says, the command line."""
    return pytest.param(
        options, command, status, message, id=what, marks=[pytest.mark.differs(differs)] if differs else []
    )


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of programs that can't be run."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "script").write_text("#!/none\n")
    (folder / "broken").write_bytes(b"\x7fELF not really")
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


def said(done):
    """A client's exit status and what it says, for docs/errors.md; without its word on how to get help."""
    text = (done.stdout + done.stderr).partition("Run 'docker run --help'")[0]
    return {"status": done.returncode, "message": text.strip()}


@pytest.mark.parametrize(
    ("options", "command", "status", "message"),
    [
        case("a program that is not there", 127, '"/none": .*no such file or directory', command=["/none"]),
        case("a program that is not in $PATH", 127, r'"none": executable file not found in \$PATH', command=["none"]),
        case("a program whose name is empty", 127, r"executable file not found in \$PATH", command=[""]),
        case("a program that may not be executed", 126, '"/etc/passwd": .*permission denied', command=["/etc/passwd"]),
        case("a program that is a folder", 126, '"/etc": .*(is a directory|permission denied)', command=["/etc"]),
        case("a program below a file", 125, "not a directory", command=["/etc/passwd/x"]),
        case(
            "a script without its interpreter",
            127,
            "`#!` interpreter /none: no such file or directory",
            command=["/bad/script"],
            differs=EARLY,
        ),
        case("a program of no known format", 125, "exec format error", command=["/bad/broken"], differs=LATE),
        case("a working directory that is a file", 125, "not a directory", "--workdir", "/etc/passwd"),
        case("a user who is not there", 125, "unable to find user none", "--user", "none"),
        case("a group that is not there", 125, "unable to find group none", "--user", "joan:none"),
        case("a device that is not there", 127, '"/dev/none": no such file or directory', "--device", "/dev/none"),
        case(
            "a folder to bind that is not there",
            125,
            "bind source path does not exist: /none",
            *("--mount", "type=bind,source=/none,target=/mnt"),
        ),
        case("a folder bound on a file", 125, "not a directory", "-v", "/etc:/etc/passwd"),
        case("a file bound on a folder", 125, "not a directory", "-v", "/etc/passwd:/etc"),
        case("a sysctl that is not there", 127, "no such file or directory", "--sysctl", "net.none=1"),
        case("a sysctl of the host's", 125, "kernel.pid_max", "--sysctl", "kernel.pid_max=99999"),
        case("a container to share with that is not there", 125, "No such container", "--pid", "container:none"),
        case("a name that is used", 125, 'name "/used" is already in use', "--name", "used"),
        case("a runtime that is not there", 125, "unknown or invalid runtime name: none", "--runtime", "none"),
    ],
)
def test_run(request, docker, bad, record_property, options, command, status, message):
    """run of what can't be run: exit status and message."""
    docker("create", "--name", "used", "busybox")
    for terminal in ["-t"], []:
        line = ["run", "--rm", *terminal, "-v", f"{bad}:/bad"]
        done = docker.run(*line, *options, "busybox", *command)
        runc = docker.run(*line, "--runtime", "runc", *options, "busybox", *command)
        assert re.search(message, done.stdout + done.stderr)
        assert status == done.returncode, done.stderr
        assert any(request.node.iter_markers("differs")) == (done.returncode != runc.returncode), runc
    record_property("said", {"pyoci": said(done), "runc": said(runc)})


@pytest.mark.parametrize(
    ("options", "command", "status", "message"),
    [
        case("a program that is not there", 127, '"/none": .*no such file or directory', command=["/none"]),
        case("a program that is not in $PATH", 127, r'"none": executable file not found in \$PATH', command=["none"]),
        case("a program whose name is empty", 127, r"executable file not found in \$PATH", command=[""]),
        case("a program that may not be executed", 126, '"/etc/passwd": .*permission denied', command=["/etc/passwd"]),
        case("a program that is a folder", 126, '"/etc": .*(is a directory|permission denied)', command=["/etc"]),
        case("a program below a file", 127, "not a directory", command=["/etc/passwd/x"]),
        case("a script without its interpreter", 127, "/none: no such file", command=["/bad/script"], differs=EARLY),
        case("a program of no known format", 128, "exec format error", command=["/bad/broken"], differs=EXEC),
        case("a working directory that is not there", 127, "no such file or directory", "--workdir", "/none"),
        case("a working directory that is a file", 127, "not a directory", "--workdir", "/etc/passwd"),
        case("a user who is not there", 1, "unable to find user none", "--user", "none"),
    ],
)
@pytest.mark.parametrize("terminal", ["", "-t"])
def test_exec(request, docker, bad, record_property, terminal, options, command, status, message):
    """exec of what can't be run: exit status and message."""
    for name in "pyoci", "runc":
        docker("run", "-d", "--name", name, "--runtime", name, "-v", f"{bad}:/bad", "busybox", "sleep", "99")

    done, runc = (
        docker.run("exec", *([terminal] if terminal else []), *options, name, *command) for name in ("pyoci", "runc")
    )

    assert re.search(message, done.stdout + done.stderr)
    if int(docker.version().partition(".")[0]) < 28:
        status = 126  # whatever it was
    differs = any(request.node.iter_markers("differs"))
    assert (status, differs) == (done.returncode, done.returncode != runc.returncode), (done, runc)
    if not terminal:
        record_property("said", {"pyoci": said(done), "runc": said(runc)})
