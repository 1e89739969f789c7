"""Mistakes on the command line of docker: the exit status is the same as with runc, and the message names the cause."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.docker import Docker

pytestmark = pytest.mark.compares

EARLY = "pyoci reports a missing `#!` interpreter when it creates the process; with runc the output has the error."
LATE = "With pyoci, `docker start` fails for a program in an unknown format; with runc the output has the error."

EXEC = "With pyoci, `docker exec` fails for a program in an unknown format; with runc the output has the error."


def case(what, status, message, *options: Any, command=("true",), differs=""):
    """A mistake: its title, docker's exit status, a pattern of the message, options and command."""
    return pytest.param(
        options, command, status, message, id=what, marks=[pytest.mark.differs(differs)] if differs else []
    )


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory):
    """A directory with programs that cannot be executed."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "script").write_text("#!/none\n")
    (folder / "broken").write_bytes(b"\x7fELF not really")
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


def said(done):
    """A client's exit status and message, without the advice on how to get help, for docs/errors.md."""
    text = (done.stdout + done.stderr).partition("Run 'docker run --help'")[0]
    return {"status": done.returncode, "message": text.strip()}


@pytest.mark.parametrize(
    ("options", "command", "status", "message"),
    [
        case("a missing program", 127, '"/none": .*no such file or directory', command=["/none"]),
        case("a program that is not in $PATH", 127, r'"none": executable file not found in \$PATH', command=["none"]),
        case("an empty program name", 127, r"executable file not found in \$PATH", command=[""]),
        case(
            "a program without execute permission", 126, '"/etc/passwd": .*permission denied', command=["/etc/passwd"]
        ),
        case("a directory as the program", 126, '"/etc": .*(is a directory|permission denied)', command=["/etc"]),
        case("a program path through a file", 125, "not a directory", command=["/etc/passwd/x"]),
        case(
            "a script with a missing interpreter",
            127,
            "`#!` interpreter /none: no such file or directory",
            command=["/bad/script"],
            differs=EARLY,
        ),
        case("a program in an unknown format", 125, "exec format error", command=["/bad/broken"], differs=LATE),
        case("a file as the working directory", 125, "not a directory", "--workdir", "/etc/passwd"),
        case("an unknown user", 125, "unable to find user none", "--user", "none"),
        case("an unknown group", 125, "unable to find group none", "--user", "joan:none"),
        case("a missing device", 127, '"/dev/none": no such file or directory', "--device", "/dev/none"),
        case(
            "a missing bind source",
            125,
            "bind source path does not exist: /none",
            *("--mount", "type=bind,source=/none,target=/mnt"),
        ),
        case("a directory bound to a file", 125, "not a directory", "-v", "/etc:/etc/passwd"),
        case("a file bound to a directory", 125, "not a directory", "-v", "/etc/passwd:/etc"),
        case("an unknown sysctl", 127, "no such file or directory", "--sysctl", "net.none=1"),
        case("a sysctl of the host", 125, "kernel.pid_max", "--sysctl", "kernel.pid_max=99999"),
        case("a missing container to share with", 125, "No such container", "--pid", "container:none"),
        case("a name that is in use", 125, 'name "/used" is already in use', "--name", "used"),
        case("an unknown runtime", 125, "unknown or invalid runtime name: none", "--runtime", "none"),
    ],
)
def test_run(
    request: pytest.FixtureRequest,
    docker: Docker,
    bad,
    record_property: Callable[[str, object], None],
    options: Any,
    command: Any,
    status: Any,
    message: Any,
) -> None:
    """run with a mistake: exit status and message."""
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
        case("a missing program", 127, '"/none": .*no such file or directory', command=["/none"]),
        case("a program that is not in $PATH", 127, r'"none": executable file not found in \$PATH', command=["none"]),
        case("an empty program name", 127, r"executable file not found in \$PATH", command=[""]),
        case(
            "a program without execute permission", 126, '"/etc/passwd": .*permission denied', command=["/etc/passwd"]
        ),
        case("a directory as the program", 126, '"/etc": .*(is a directory|permission denied)', command=["/etc"]),
        case("a program path through a file", 127, "not a directory", command=["/etc/passwd/x"]),
        case("a script with a missing interpreter", 127, "/none: no such file", command=["/bad/script"], differs=EARLY),
        case("a program in an unknown format", 128, "exec format error", command=["/bad/broken"], differs=EXEC),
        case("a missing working directory", 127, "no such file or directory", "--workdir", "/none"),
        case("a file as the working directory", 127, "not a directory", "--workdir", "/etc/passwd"),
        case("an unknown user", 1, "unable to find user none", "--user", "none"),
    ],
)
@pytest.mark.parametrize("terminal", ["", "-t"])
def test_exec(
    request: pytest.FixtureRequest,
    docker: Docker,
    bad,
    record_property: Callable[[str, object], None],
    terminal: str,
    options: Any,
    command: Any,
    status: Any,
    message: Any,
) -> None:
    """exec with a mistake: exit status and message."""
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
