"""Send damaged blocks to the real helper, and check that it ends with a record or an exit status, never by a signal.

    unshare --user --map-root-user --mount --pid --fork --uts --ipc --net python -m tests.support.fuzz_helper SEED COUNT

COUNT is the number of damages to each block of each golden plan. The checksum is right, so the helper runs what it
accepts. It has nothing to act on: this process first leaves all files of the host behind, and each helper has new
namespaces.
Prints as JSON how often each kind of record came last.
"""

import collections
import ctypes
import json
import os
import random
import resource
import select
import sys

from pyoci import _native
from pyoci.parent.conversation import CLONED, EXEC, FAILED, RECORD, SYNC, UNREADABLE
from pyoci.parent.helper import Helper
from tests.support.damage import damaged, plans

# user, mount, pid, uts, ipc, cgroup, network
FLAGS = 0x10000000 | 0x20000 | 0x20000000 | 0x4000000 | 0x8000000 | 0x2000000 | 0x40000000
NAMES = {SYNC: "sync", FAILED: "failed", EXEC: "exec", CLONED: "cloned", UNREADABLE: "unreadable"}
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
MAX_ANSWERS = 12
TIMEOUT = 10_000  # milliseconds without a record
LIBC = ctypes.CDLL(None, use_errno=True)


def leave_the_host() -> None:
    """Make an empty directory the root, without any mount of the host."""
    checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, b"size=1m"))
    os.chdir("/tmp")
    checked(LIBC.pivot_root(b".", b"."))
    checked(LIBC.umount2(b".", MNT_DETACH))
    os.chdir("/")
    assert [] == os.listdir("/")


def checked(result: int) -> None:
    """Raise OSError if a call failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def course(helper: Helper, blocks: list[bytes], slots: list[int]) -> str:
    """Let a helper run a plan, and answer it. Return the name of the last record, or "none".

    Raises AssertionError if it ended by a signal, or does not end.
    """
    ours, theirs = _native.channel()
    pid, pidfd = helper.start(theirs, FLAGS)
    os.close(theirs)
    last = "none"
    try:
        for block in blocks:
            _native.send_plan(ours, block, slots)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has rejected a block
    try:
        for _ in range(MAX_ANSWERS):
            assert select.select([ours], [], [], TIMEOUT / 1000)[0], "no record"
            try:
                data, descriptors = _native.receive_fds(ours, 8192)
            except ConnectionResetError:  # it has ended with blocks that it did not read: its last record comes next
                continue
            for fd in descriptors:
                os.close(fd)
            if not data:
                break
            kind = RECORD.unpack_from(data)[0]
            last = NAMES[kind]
            if kind in (SYNC, CLONED):
                _native.send(ours, b"\1")
    except BrokenPipeError:
        pass
    os.close(ours)
    assert select.select([pidfd], [], [], TIMEOUT / 1000)[0], "it does not end"
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status), f"signal {os.WTERMSIG(status)}"
    return last


def main() -> None:
    """Run every block, and print the counts."""
    seed, count = map(int, sys.argv[1:])
    chance = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_NPROC, (200, 200))
    every = [*plans()]
    helper = Helper()
    found: collections.Counter[str] = collections.Counter()
    leave_the_host()
    os.makedirs("/bundle/rootfs")
    root = os.open("/bundle/rootfs", os.O_PATH)  # what every slot leads to: most operations then begin
    for name, blocks in every:
        slots = int.from_bytes(blocks[0][32:36], sys.byteorder)
        for n in range(count * len(blocks)):
            at = n % len(blocks)
            other = damaged(chance, blocks[at]) if n >= len(blocks) else blocks[at]
            try:
                found[course(helper, [*blocks[:at], other, *blocks[at + 1 :]], [root] * slots)] += 1
            except AssertionError as error:
                raise AssertionError(f"{name}, {n}: {error}") from error
    print(json.dumps(found))


if __name__ == "__main__":
    main()
