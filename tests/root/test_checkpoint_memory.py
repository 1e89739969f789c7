"""Memory that is dumped ahead of time, moved later, or sent to another host: pre-dumps, lazy pages, page servers.

Pre-dumps need a kernel that tracks which pages change: tests/vm/test_qemu.py runs these tests on one.
"""

import hashlib
import os
import random
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import criu as program
from tests.support.restoring import CheckpointRuntime, assert_same, facts, python
from tests.support.runtime import PATIENCE, Bundle, kill, wait_for

pytestmark = pytest.mark.root

MIB = 1 << 20
SIZE = 24 * MIB
# Fills memory. Changes a page for each file go-N, and then notes a digest of everything.
MEMORY = f"""
import hashlib, os, random, time

memory = bytearray(random.Random(7).randbytes({SIZE}))
turn = 0
while True:
    turn += 1
    while not os.path.exists(f"/dev/shm/go-{{turn}}"):
        time.sleep(0.02)
    memory[turn * 4096] = turn
    with open(f"/dev/shm/told-{{turn}}", "w") as file:
        print(hashlib.sha256(memory).hexdigest(), file=file)
"""


class Memory:
    """A container whose program has much memory."""

    def __init__(self, checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
        python(bundle, MEMORY)
        checkpoints.launch()
        self._runtime = checkpoints
        self._expected = bytearray(random.Random(7).randbytes(SIZE))
        self._turn = 0
        self.change()

    def change(self) -> None:
        """Let the program change a page; all of its memory is as it should be."""
        self._turn += 1
        self._expected[self._turn * 4096] = self._turn
        self._runtime.inside(f"touch /dev/shm/go-{self._turn}")
        told = self._runtime.wait_for_file(f"/dev/shm/told-{self._turn}")
        assert hashlib.sha256(self._expected).hexdigest() == told.strip()


@pytest.fixture
def memory(checkpoints: CheckpointRuntime, bundle: Bundle) -> Memory:
    """A container with much memory."""
    return Memory(checkpoints, bundle)


def pages(folder: Path) -> int:
    """How many bytes of memory a directory of images has itself."""
    return sum(file.stat().st_size for file in folder.glob("pages-*.img"))


TRACKS = program.supports(program.DIRTY_TRACKING)


@pytest.mark.may_skip("needs a kernel that tracks changed pages: tests/vm/test_qemu.py has one")
@pytest.mark.skipif(not TRACKS, reason="this kernel does not track changed pages")
def test_a_chain_of_pre_dumps(memory: Memory, checkpoints: CheckpointRuntime) -> None:
    """Each dump has only the pages that changed since its parent. The container runs on until the last one."""
    pid = checkpoints.pid()
    checkpoints.checkpoint("--pre-dump", images="first")
    assert ("running", pid) == (checkpoints.state()["status"], checkpoints.pid())
    memory.change()
    checkpoints.checkpoint("--pre-dump", "--parent-path", "../first", images="second")
    memory.change()
    before = facts(checkpoints)

    checkpoints.checkpoint("--parent-path", "../second", images="last")

    assert {} == checkpoints.state()
    sizes = [pages(checkpoints.images(name)) for name in ("first", "second", "last")]
    assert sizes[0] > SIZE
    assert max(sizes[1:]) < SIZE / 3
    checkpoints.restore(images="last")
    assert_same(before, facts(checkpoints))
    memory.change()


@pytest.mark.skipif(TRACKS, reason="this kernel tracks changed pages")
@pytest.mark.may_skip("tests the error of kernels that do not track changed pages")
def test_a_pre_dump_that_the_kernel_can_not_do(memory: Memory, checkpoints: CheckpointRuntime) -> None:
    """checkpoint says what the kernel lacks. The container goes on."""
    message = checkpoints.checkpoint_fails("--pre-dump")

    assert message.startswith("cannot checkpoint the container: ")
    assert "CONFIG_MEM_SOFT_DIRTY" in message
    memory.change()


@contextmanager
def criu_server(checkpoints: CheckpointRuntime, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A criu that serves until it has nothing more to do."""
    command = [str(word) for word in (checkpoints.criu, *words)]
    log = (checkpoints.folder / "server.log").open("ab")
    with log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        checkpoints.host.ours(process.pid)
        try:
            yield process
        finally:
            kill(process)


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Whether a process listens on a TCP port of this host."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


def test_a_page_server(memory: Memory, checkpoints: CheckpointRuntime) -> None:
    """The memory goes to the server's directory, the rest to the images. Together they restore the container."""
    remote, port = checkpoints.folder / "remote", free_port()
    remote.mkdir()
    server = ("page-server", "--images-dir", remote, "--address", "127.0.0.1", "--port", port)
    with criu_server(checkpoints, *server) as process:
        wait_for(lambda: listens(port), "the page server does not listen")

        checkpoints.checkpoint("--page-server", f"127.0.0.1:{port}")

        assert 0 == process.wait(PATIENCE)
    assert 0 == pages(checkpoints.images())
    assert pages(remote) > SIZE
    for file in remote.iterdir():
        if not (checkpoints.images() / file.name).exists():
            shutil.copy(file, checkpoints.images())
    checkpoints.restore()
    memory.change()


LAZY = program.supports(program.LAZY_PAGES) and program.has_all_privileges()


@pytest.mark.may_skip("needs userfaultfd and CAP_SYS_RESOURCE: tests/vm/test_qemu.py has them")
@pytest.mark.skipif(not LAZY, reason="lacks userfaultfd or CAP_SYS_RESOURCE")
def test_lazy_pages(memory: Memory, checkpoints: CheckpointRuntime) -> None:
    """checkpoint says when it can serve memory. The restored container runs at once, and gets its memory meanwhile."""
    port, (reader, writer) = free_port(), os.pipe()
    work = checkpoints.images("images-work")
    options = ("--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", writer)
    dumped: list[Any] = []

    def dump() -> None:
        words = ("checkpoint", "--image-path", checkpoints.images(), "--work-path", work, *options, checkpoints.id)
        dumped.append(checkpoints(*words, pass_fds=[writer], timeout=120))

    thread = threading.Thread(target=dump)
    thread.start()
    try:
        assert select.select([reader], [], [], PATIENCE)[0], "checkpoint does not say that it can serve memory"
        assert b"\0" == os.read(reader, 1)
        assert pages(checkpoints.images()) < SIZE
        lazy = ("--images-dir", checkpoints.images(), "--work-dir", work, "--address", "127.0.0.1", "--port", port)
        with criu_server(checkpoints, "lazy-pages", "--page-server", *lazy) as process:
            wait_for((work / "lazy-pages.socket").exists, "lazy-pages does not listen")
            other = f"{checkpoints.host.token}-2"  # on this host, the first one still exists: it serves the memory
            checkpoints.restore("--lazy-pages", id=other)
            assert 0 == process.wait(PATIENCE)
        thread.join(PATIENCE)
        assert [(0, "", "")] == [tuple(result) for result in dumped]
        assert {} == checkpoints.state()
        checkpoints.id = other
        memory.change()
    finally:
        os.close(reader)
        os.close(writer)
        thread.join(PATIENCE)
