"""A program that deletes the containers of a test run that was killed.

Its argument is the pid of the test run. Each line of standard input is a JSON array: a state directory, then the
command line of a runtime without a command. Every command of the run inherits the other end of the pipe. So the end of
file says that the run and its last command have ended. A run that ends by itself has deleted its containers.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

_TIMEOUT = 60  # seconds


def main() -> None:
    """Wait for the end of the run, then delete what it has left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the test run
    runtimes: dict[str, list[str]] = {}
    ended = _serve(int(sys.argv[1]), runtimes)
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        left = [delete(root, command) for root, command in runtimes.items()]
        if ended and not any(left):
            break
        if ended:
            time.sleep(0.02)
        else:  # a command of the run may still be at work, and create a container
            ended = _is_closed()
    for root in runtimes:
        shutil.rmtree(root, ignore_errors=True)


def _serve(pid: int, runtimes: dict[str, list[str]]) -> bool:
    """Note every state directory until the run ends; whether its last command has ended, too."""
    try:
        run = os.pidfd_open(pid)
    except ProcessLookupError:
        run = -1
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if run >= 0:
        poll.register(run, select.POLLIN)
    received = b""
    while True:
        ready = {fd for fd, _ in poll.poll(None if run >= 0 else 0)}
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return True
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                root, *command = json.loads(line)
                runtimes[root] = command
        elif run < 0 or run in ready:
            return False


def _is_closed() -> bool:
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return bool(poll.poll(20)) and not os.read(0, 1 << 16)


def delete(root: str, command: list[str]) -> bool:
    """Delete every container in a state directory; whether there was one."""
    try:
        ids = [entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return False
    for name in ids:
        null = subprocess.DEVNULL
        subprocess.run([*command, "delete", "--force", name], stdin=null, stdout=null, stderr=null, check=False)
    return bool(ids)


if __name__ == "__main__":
    main()
