"""Containers in a system of tests/support/installed.py whose program waits until it is killed."""

import re
from pathlib import Path

from tests.support import installed

BUNDLE = "/srv/sleeper"


def make_bundle(root: installed.Root, rootfs: str) -> None:
    """Make the bundle with a copy of a root filesystem and the config that the installed pyoci writes."""
    root.run("mkdir", BUNDLE)
    root.run("cp", "-a", rootfs, f"{BUNDLE}/rootfs")
    root.run("pyoci", "spec", "--bundle", BUNDLE)
    config = Path(f"{root.path}{BUNDLE}/config.json")
    text = config.read_text().replace('"terminal": true', '"terminal": false')
    config.write_text(re.sub(r'"args": \[\s*"sh"\s*\]', '"args": ["sleep", "3600"]', text))
    assert '"sleep"' in config.read_text()


def create(root: installed.Root, id: str, *options: str) -> None:
    """Create a container. `options` stand before the command."""
    # the container's program would keep the pipe open that `run` reads
    quiet = ["sh", "-c", 'exec "$@" >/dev/null 2>/tmp/errors', "sh"]
    done = root.run(*quiet, "pyoci", *options, "create", "--bundle", BUNDLE, id, check=False)
    assert 0 == done.returncode, Path(f"{root.path}/tmp/errors").read_text()
