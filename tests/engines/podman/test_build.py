"""podman build."""

from tests.support.podman import Podman

CONTAINERFILE = """
FROM localhost/busybox
ARG WORD=none
RUN echo $WORD >/etc/word && id -u >/etc/who
USER joan
WORKDIR /tmp
RUN id -un >/tmp/who && pwd >>/tmp/who
COPY file /etc/copied
"""


def context(podman):
    folder = podman.folder / "context"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "file").write_text("copied")
    return folder


def test_build(either: Podman) -> None:
    """build: RUN as root and as another user, in a working directory, with an argument."""
    either("build", "--quiet", "--build-arg", "WORD=said", "--tag", "made", context(either))
    try:
        out = either("run", "--rm", "made", "cat", "/etc/word", "/etc/who", "/tmp/who", "/etc/copied")
        assert ["said", "0", "joan", "/tmp", "copied"] == out.split()
    finally:
        either("rmi", "made")


def test_build_that_fails(either: Podman) -> None:
    """build: the status of a RUN that fails."""
    folder = context(either)
    (folder / "Containerfile").write_text("FROM localhost/busybox\nRUN echo before; exit 42\n")
    said = either("build", "--tag", "made", folder, status=42)
    assert "before" in said


def test_build_with_mounts(either: Podman) -> None:
    """build: RUN with --mount of a cache, a tmpfs, a secret."""
    folder = context(either)
    (folder / "secret").write_text("hidden")
    (folder / "Containerfile").write_text(
        "FROM localhost/busybox\n"
        "RUN --mount=type=tmpfs,target=/mnt --mount=type=secret,id=word --mount=type=cache,target=/cache "
        "cp /run/secrets/word /etc/word && touch /cache/x && grep -q '/mnt tmpfs' /proc/mounts\n"
    )
    either("build", "--quiet", "--secret", f"id=word,src={folder}/secret", "--tag", "made", folder)
    try:
        assert "hidden" == either("run", "--rm", "made", "cat", "/etc/word")
    finally:
        either("rmi", "made")
