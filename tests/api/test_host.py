"""What the API does to the program that calls it: nothing."""

import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pyoci as api
from pyoci.testing import Bundle

pytestmark = pytest.mark.root
NULL = subprocess.DEVNULL


def host() -> dict[str, Any]:
    """What a library must not change of this process."""
    process = Path("/proc/self")
    return {
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "status": [
            line
            for line in (process / "status").read_text().splitlines()
            if line.split(":")[0]
            in ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Seccomp")
        ],
        "limits": [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK)],
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "namespaces": [os.readlink(process / "ns" / name) for name in ("mnt", "pid", "net", "user", "cgroup")],
        "descriptors": {name: os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")},
        "open": len(os.listdir("/proc/self/fd")),
        "children": sorted((process / "task" / str(os.getpid()) / "children").read_text().split()),
        "threads": threading.active_count(),
    }


def live(runtime: api.Runtime, bundle: Bundle, id: str) -> int:
    """A whole life, with most methods."""
    with runtime.create(id, bundle.directory, stdin=NULL, stdout=subprocess.PIPE) as container:
        container.start()
        assert b"0\n" == container.exec(["id", "-u"], check=True).stdout
        container.pause()
        container.resume()
        next(container.events(interval=0.05))
        with pytest.raises(api.StatusError):
            container.start()
        container.kill("KILL")
        return container.wait(timeout=60)


def test_the_host_program_stays_as_it_is(runtime: api.Runtime, bundle: Bundle) -> None:
    """Descriptors, children, umask, directory, environment, handlers, limits, namespaces."""
    bundle.write()
    live(runtime, bundle, "host-warm")
    before = host()
    assert 137 == live(runtime, bundle, "host")
    runtime.run("host", bundle.shell("exit 0"))
    api.validate(bundle.config)
    str(api.plan(bundle.config))

    assert before == host()


def test_threads(runtime: api.Runtime, bundle: Bundle) -> None:
    """Many at once, with one Runtime, while other threads hold locks."""
    bundle.write()
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: live(runtime, bundle, f"thread-{number}"), range(16)))

    assert [137] * 16 == statuses
    assert [] == runtime.list()
    assert before == len(os.listdir("/proc/self/fd"))


def test_several_threads_wait_for_one_container(runtime: api.Runtime, bundle: Bundle) -> None:
    """Each gets the status."""
    with runtime.create("waited", bundle, stdin=NULL) as container, ThreadPoolExecutor(4) as pool:
        container.start()
        waits = [pool.submit(container.wait, 60) for _ in range(4)]
        container.kill("KILL")

        assert [137] * 4 == [wait.result() for wait in waits]


def test_containers_inherit_nothing(runtime: api.Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor of the caller's, not even an inheritable one; none of its sockets from the environment."""
    for name, value in {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "NOTIFY_SOCKET": "/run/nothing"}.items():
        monkeypatch.setenv(name, value)
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.set_inheritable(write, True)
    try:
        result = runtime.run("inherit", bundle.shell("ls /proc/self/fd; env"), check=True)
    finally:
        os.close(read)
        os.close(write)
    *descriptors, path = [line for line in result.stdout.decode().splitlines() if line.isdigit() or "PATH" in line]

    assert ["0", "1", "2", "3"] == descriptors, "3 is the directory that ls reads"
    assert path.startswith("PATH=")
    assert b"LISTEN" not in result.stdout
    assert b"NOTIFY" not in result.stdout


def test_the_interpreter_is_not_exposed(runtime: api.Runtime, bundle: Bundle) -> None:
    """What the first process of a created container executes is not the caller's Python (CVE-2019-5736)."""
    with runtime.create("exposed", bundle, stdin=NULL) as container:
        program = os.stat(f"/proc/{container.state['pid']}/exe")

    assert not os.path.samestat(program, os.stat(sys.executable))
