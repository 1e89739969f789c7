"""kill -9 of the runtime or of CRIU at any moment of checkpoint and restore.

`state` says what is true, `delete --force` removes what is left, and a container that was to stay keeps running.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_checkpoint_failures import LONG, Subject
from tests.support.moments import Moments, at, moments_in
from tests.support.runtime import PATIENCE, Runtime, wait_for

pytestmark = pytest.mark.root

BUILD = Path(__file__).resolve().parents[2] / "build"
STRACE = shutil.which("strace")
MOMENTS = 24  # of each command: one takes a second


@pytest.fixture
def subject(runtime: Runtime, criu: Path) -> Iterator[Subject]:
    """A container, and a directory that only root can write to."""
    folder = BUILD / f"crash-{runtime.id}"
    folder.mkdir(mode=0o755)
    try:
        yield Subject(runtime, criu, folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def moments(runtime: Runtime) -> Moments:
    """The moments of this runtime's commands."""
    return Moments(runtime)


def some(moments: list[tuple[str, int, str]], last: int = 1) -> list[tuple[str, int, str]]:
    """Some of the moments, from the whole course of the command, and this many of the last ones.

    A moment is the nth call of its name. On a busy machine the command may make more calls before the same point, so
    one late moment alone may come early.
    """
    step = max(1, len(moments) // MOMENTS)
    return [*moments[:-last:step], *moments[-last:]]


def settled(subject: Subject) -> str:
    """The status, once CRIU has ended and what it was killed with; "" if there is no container."""
    deadline = time.monotonic() + PATIENCE
    while True:
        subject.runtime.host.reap()
        working = criu_processes()
        status = subject.runtime.status()
        if not working and status != "creating":
            return status
        assert time.monotonic() < deadline, (status, working)
        time.sleep(0.02)


def criu_processes() -> list[int]:
    """The processes of CRIU."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_criu(Path("/proc", name))]


def is_criu(process: Path) -> bool:
    """Whether a process is CRIU of this checkout, in a conversation with a runtime."""
    try:
        return b"swrk" in (process / "cmdline").read_bytes() and os.readlink(process / "exe").startswith(f"{BUILD}/")
    except OSError:
        return False


def strace(subject: Subject, *options: object) -> Path:
    """A criu under strace, which stays its own process."""
    words = " ".join(map(str, options))
    return subject.script(f'exec {STRACE} -D -qq {words} {subject.criu} "$@"', "traced")


def moments_of_criu(subject: Subject, trace: Path) -> list[tuple[str, int, str]]:
    """Every call of CRIU after it got its request, as (name, n, the call)."""
    found = moments_in(trace, r"^recv")
    assert len(found) > MOMENTS
    return found


def killed_by_strace(subject: Subject, moment: tuple[str, int, str]) -> Path:
    """A criu that is killed as it enters this call."""
    return strace(subject, "-o", "/dev/null", *at(moment, "KILL"))


def assert_removed(subject: Subject) -> None:
    """`delete --force` removes what is left."""
    subject.runtime.delete("--force")
    subject.runtime.delete("--force")
    subject.runtime.assert_gone()
    shutil.rmtree(subject.images, ignore_errors=True)
    subject.count.unlink(missing_ok=True)


def assert_goes_on(subject: Subject, moment: object) -> None:
    """A running or paused container is whole: its program runs, or runs again once it is resumed."""
    status = settled(subject)
    assert status in ("running", "paused"), moment
    if status == "paused":
        assert not subject.counts(), moment
        assert (0, "", "") == tuple(subject.runtime("resume", subject.runtime.id)), moment
    assert subject.counts(LONG), moment
    assert subject.pids == [subject.runtime.pid()], moment
    shutil.rmtree(subject.images, ignore_errors=True)


def test_the_runtime_is_killed_while_a_container_stays(subject: Subject, moments: Moments) -> None:
    """With --leave-running nothing can end the container, and the next checkpoint works."""
    subject.start()
    words = (
        "--criu",
        subject.criu,
        "checkpoint",
        "--leave-running",
        "--image-path",
        subject.images,
        subject.runtime.id,
    )
    points = some(moments.of(*words, first=r"flock"))

    for moment in points:
        moments.kill(moment, *words)
        assert_goes_on(subject, moment)
    assert (0, "", "") == tuple(subject.checkpoint("--leave-running"))
    assert_removed(subject)


def test_the_runtime_is_killed_while_a_container_is_saved(subject: Subject, moments: Moments) -> None:
    """Either the container is still there, or its images are complete."""
    subject.start()
    words = ("--criu", subject.criu, "checkpoint", "--image-path", subject.images, subject.runtime.id)
    points = some(moments.of(*words, first=r"flock"), last=8)
    assert_removed(subject)

    seen = set()
    for moment in points:
        subject.start()
        moments.kill(moment, *words)
        status = settled(subject)
        seen.add(status)
        if status in ("running", "paused"):
            assert_goes_on(subject, moment)
        else:
            assert status in ("", "stopped"), moment
            subject.runtime.delete("--force")
            assert 0 == subject.restore().status, moment
            wait_for(subject.counts)
        assert_removed(subject)
    assert len(seen) > 1


def test_criu_is_killed_while_a_container_stays(subject: Subject) -> None:
    """The runtime thaws what CRIU has frozen. The program survives, unless CRIU has just changed its code."""
    subject.start()
    trace = subject.folder / "trace"
    assert 0 == subject.checkpoint("--leave-running", criu=strace(subject, "-o", trace)).status
    points = some(moments_of_criu(subject, trace))
    shutil.rmtree(subject.images)

    lost = []
    for moment in points:
        done = subject.checkpoint("--leave-running", criu=killed_by_strace(subject, moment))
        assert done.status in (0, 1)
        assert done.status == 0 or done.err.startswith("cannot checkpoint the container: criu ended"), (moment, done)
        status = settled(subject)
        assert status in ("running", "stopped"), moment
        if status == "running" and subject.counts(LONG):
            shutil.rmtree(subject.images, ignore_errors=True)
            continue
        lost.append(moment)
        assert_removed(subject)
        subject.start()
    assert_removed(subject)
    # CRIU runs code of its own in the process, by ptrace(2), and talks with it. Only CRIU can put back what it has
    # replaced.
    calls = {"ptrace", "wait4", "waitid", "accept", "recvmsg", "recvfrom", "sendmsg", "sendto"}
    assert {name for name, _, _ in lost} <= calls
    assert len(lost) < len(points) / 2


def test_the_runtime_is_killed_while_it_restores(subject: Subject, moments: Moments) -> None:
    """Before the commit the container dies with the runtime; after it, it runs."""
    subject.dump()
    bundle = subject.runtime.bundle.folder
    words = ("--criu", subject.criu, "restore", "--detach", "--bundle", bundle, "--image-path", subject.images)
    words = (*words, subject.runtime.id)
    null = {"stdout": -3, "stderr": -3}
    points = some(moments.of(*words, first=r"^mkdir", **null), last=8)
    subject.runtime.delete("--force")

    seen = set()
    for moment in points:
        moments.kill(moment, *words, **null)
        status = settled(subject)
        seen.add(status)
        assert status in ("", "stopped", "running", "paused"), moment
        if status == "paused":  # after the commit, and before the runtime thaws the cgroup
            assert (0, "", "") == tuple(subject.runtime("resume", subject.runtime.id)), moment
        if status in ("running", "paused"):
            assert subject.counts(LONG), moment
        elif status == "stopped":
            subject.runtime.delete()
        subject.runtime.delete("--force")
        subject.runtime.delete("--force")
        subject.runtime.assert_gone()
    assert "running" in seen
    assert len(seen) > 1
    assert 0 == subject.restore().status


def test_criu_is_killed_while_it_restores(subject: Subject) -> None:
    """Nothing of the container is left, and the images can still be restored."""
    subject.dump()
    trace = subject.folder / "trace"
    assert 0 == subject.restore(criu=strace(subject, "-o", trace)).status
    points = some(moments_of_criu(subject, trace))
    subject.runtime.delete("--force")

    for moment in points:
        done = subject.restore(criu=killed_by_strace(subject, moment))
        assert done.status in (0, 1), moment
        if done.status == 0:
            assert subject.runtime.status() == "running"
            subject.runtime.delete("--force")
        subject.runtime.assert_gone()
    assert 0 == subject.restore().status
