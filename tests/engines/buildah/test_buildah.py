"""`buildah run` and `buildah build` with a runtime: --isolation oci, and rootless."""

import json

import pytest

from tests.support.podman import Buildah

ISOLATION = ["--isolation", "oci"]


def test_run(buildah: Buildah, box: str) -> None:
    """from, run: output on both streams, the exit status."""
    done = buildah.run("run", *ISOLATION, box, "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (7, "out\n") == (done.returncode, done.stdout)
    assert done.stderr.startswith("err\n")


def test_run_input(buildah: Buildah, box: str) -> None:
    """run: input until its end."""
    assert "HELLO" == buildah("run", *ISOLATION, box, "tr", "a-z", "A-Z", input="hello")


def test_run_terminal(buildah: Buildah, box: str) -> None:
    """run --terminal: a terminal; the exit status."""
    terminal = buildah.terminal("run", "--terminal", *ISOLATION, box, "sh")
    try:
        terminal.expect("/ # ")
        terminal.type("tty; exit 5\r")
        terminal.expect("/dev/pts/0\r\n")
        assert 5 == terminal.wait()
    finally:
        terminal.end()


@pytest.mark.parametrize(("program", "message"), [
    ("/nothing", "no such file or directory"),
    ("nothing", "executable file not found in $PATH"),
    ("/etc", "is a directory"),
    ("/etc/passwd", "permission denied"),
])  # fmt: skip
def test_run_what_can_not_be_run(buildah: Buildah, box: str, program: str, message: str) -> None:
    """run: a program that does not exist, is a directory, or is not executable."""
    assert message in buildah("run", *ISOLATION, box, program, status=1)


def test_options(buildah: Buildah, box: str) -> None:
    """run --user, --workingdir, --env, --hostname, --cap-drop, --volume."""
    folder = buildah.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("shared")
    folder.chmod(0o755)
    options = ["--user", "joan", "--workingdir", "/tmp", "--env", "WORD=x", "--hostname", "box.example"]
    options += ["--cap-drop", "all", "--volume", f"{folder}:/data:ro"]
    script = "id -un; pwd; echo $WORD; hostname; cat /data/file; echo; sed -n 's/^CapBnd:\t//p' /proc/self/status"
    out = buildah("run", *ISOLATION, *options, box, "sh", "-c", script)
    assert ["joan", "/tmp", "x", "box.example", "shared", "0" * 16] == out.split()


@pytest.mark.parametrize("network", ["host", "none"])
def test_network(buildah: Buildah, box: str, network: str) -> None:
    """run --network."""
    assert "lo" in buildah("run", *ISOLATION, "--network", network, box, "ls", "/sys/class/net")


def test_mounts(buildah: Buildah, box: str) -> None:
    """run --mount: a tmpfs; what is written to the container stays."""
    script = "echo x >/etc/new; touch /scratch/x; grep -o '^tmpfs /scratch tmpfs' /proc/mounts"
    out = buildah("run", *ISOLATION, "--mount", "type=tmpfs,dst=/scratch", box, "sh", "-c", script)
    assert "tmpfs /scratch tmpfs" == out
    assert "x" == buildah("run", *ISOLATION, box, "cat", "/etc/new")


def test_isolation_rootless(buildah: Buildah, box: str) -> None:
    """run --isolation rootless."""
    assert "0" == buildah("run", "--isolation", "rootless", "--network", "none", box, "id", "-u")


def test_commit(buildah: Buildah, box: str) -> None:
    """config, commit, inspect: an image of what was made."""
    buildah("run", *ISOLATION, box, "sh", "-c", "echo made >/etc/made")
    buildah("config", "--user", "joan", box)
    buildah("commit", "--quiet", box, "made")
    try:
        assert "joan" == json.loads(buildah("inspect", "--type", "image", "made"))["Docker"]["config"]["User"]
        buildah("from", "--name", "second", "made")
        assert "made" == buildah("run", *ISOLATION, "second", "cat", "/etc/made")
        buildah("rm", "second")
    finally:
        buildah("rmi", "--force", "made")


def test_build(buildah: Buildah) -> None:
    """bud: RUN as root and as another user, with an argument, a mount, a working directory."""
    folder = buildah.folder / "context"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "Containerfile").write_text(
        "FROM localhost/busybox\n"
        "ARG WORD=none\n"
        "RUN --mount=type=tmpfs,target=/scratch echo $WORD >/etc/word && touch /scratch/x\n"
        "USER joan\nWORKDIR /tmp\n"
        "RUN id -un >who && pwd >>who\n"
    )
    buildah("bud", *ISOLATION, "--quiet", "--build-arg", "WORD=said", "--tag", "made", folder)
    try:
        buildah("from", "--name", "box", "made")
        assert ["said", "joan", "/tmp"] == buildah("run", *ISOLATION, "box", "cat", "/etc/word", "/tmp/who").split()
    finally:
        buildah("rm", "--all")
        buildah("rmi", "--force", "made")


def test_build_that_fails(buildah: Buildah) -> None:
    """bud: the status of a RUN that fails."""
    folder = buildah.folder / "context"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "Containerfile").write_text("FROM localhost/busybox\nRUN echo before; exit 42\n")
    assert "before" in buildah("bud", *ISOLATION, "--tag", "made", folder, status=42)
