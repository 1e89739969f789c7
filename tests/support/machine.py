"""Machines of tests/vm that tests run in, and helpers to run commands there."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
UML, QEMU, UNIFIED, SYSTEMD = (CHECKOUT / "tests/vm" / name for name in ("uml", "qemu", "unified", "systemd"))


def needs(program, package):
    """A decorator for tests that boot a machine with this program of a Debian package."""

    def decorate(test):
        if platform.machine() != "x86_64":
            test = pytest.mark.may_skip("the machines are for x86-64")(test)
        missing = platform.machine() != "x86_64" or not shutil.which(program)
        return pytest.mark.skipif(missing, reason=f"needs {program} of Debian's {package}")(pytest.mark.slow(test))

    return decorate


on_uml = needs("linux.uml", "user-mode-linux")
on_qemu = needs("qemu-system-x86_64", "qemu-system-x86")


def run(*command: Any, **options: Any):
    """Run to the end: (exit status, standard output, standard error)."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=null, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            out, err = process.communicate()
        except BaseException:  # Ctrl-C or a deadline
            process.terminate()  # the machine ends with this script, which SIGKILL would not let clean up
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()
            raise
    return process.returncode, out, err


def host_mounts(own: Path) -> list[str]:
    """The lines of the host's mountinfo, without the mounts that other tests make meanwhile. `own` is this test's."""
    others = ("/pytest-", f"{CHECKOUT}/build/", "/run/netns")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(own) in line or not any(other in line for other in others)]


def environment(folder):
    """This environment, with another directory for temporary files."""
    return {**os.environ, "TMPDIR": str(folder)}


def pytest_command(modules, keywords=""):
    """The command that runs these modules of tests/root, without the tests that `keywords` exclude."""
    paths = [f"tests/root/{module}" for module in modules]
    chosen = ["-k", keywords] if keywords else []
    return [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *chosen, *paths]
