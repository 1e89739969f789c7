"""Two builds of the executable have the same bytes (docs/decisions/0013-equal-builds.md)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyoci.executable import freeze, image

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = ROOT / "build" / "pyoci"
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))  # every user can reach this one
# Copies the sources to another file system, hides /tmp and /sys, and builds there behind a prefix such as `setarch -R`.
# It does what tools/build does for the executable alone: the extension's C code is there already.
SCRIPT = """
sources=$1 place=$2
shift 2
mount -t tmpfs tmpfs /mnt
mkdir -p "/mnt/$place"
cp -r "$sources" "/mnt/$place/pyoci"
mkdir -m 1777 /mnt/temporary
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /sys
hostname another
cd "/mnt/$place"
find . -exec touch -d 2001-02-03 {} +
chown -R 1000:1000 .
"$@" >&2
cat pyoci.new
"""

pytestmark = [
    pytest.mark.may_skip("needs Python's static library, and root for the namespaces of the second build"),
    pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def build(place: str, *prefix: str, **environment: str) -> bytes:
    """Build the executable in the directory `place` of another host. Return its content."""
    namespaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--uts", "--ipc"]
    freezing = [PYTHON, "-m", "pyoci.executable.freeze", "--output", "pyoci.new", "--temp", "elsewhere/executable"]
    done = subprocess.run(
        [*namespaces, "sh", "-euc", SCRIPT, "sh", ROOT / "pyoci", place, *prefix, *freezing],
        env={"PATH": os.environ["PATH"], "TMPDIR": "/mnt/temporary", **environment},
        capture_output=True,
        timeout=900,
    )
    assert 0 == done.returncode, done.stderr.decode()
    return done.stdout


def differences(one: bytes, other: bytes) -> list[str]:
    """Where the first of them lie, for a message that one can read."""
    if len(one) != len(other):
        return [f"{len(one)} and {len(other)} bytes"]
    places = [at for at in range(0, len(one), 8) if one[at : at + 8] != other[at : at + 8]]
    return [f"{at:#x}: {one[at : at + 8].hex()} {other[at : at + 8].hex()}" for at in places[:16]]


def test_another_host_builds_the_same() -> None:
    """Another directory, user, pid, host name, file system, temporary directory and environment change no byte."""
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--no-new-privs"]
    place = "a directory with a longer name than that of the checkout"

    made = build(place, *user, HOME="/nonexistent", LANG="C.UTF-8", TZ="Asia/Tokyo", SOURCE_DATE_EPOCH="1")

    assert [] == differences(EXECUTABLE.read_bytes(), made)


def test_fixed_addresses_build_the_same() -> None:
    """Without random addresses, and with signals that the caller ignores, no byte changes either."""
    made = build("x", "setarch", "-R", "nohup", "sh", "-c", 'umask 077 && exec "$@"', "sh")

    assert [] == differences(EXECUTABLE.read_bytes(), made)


def test_executable_names_no_directory_of_the_build(pyoci: str) -> None:
    """Neither the checkout, nor the build's temporary directory, nor, if it is static, its Python's."""
    content = Path(pyoci).read_bytes()

    for path in (str(ROOT), f"{image.PLACE}/pyoci.", "/.venv/", "/.pyenv/"):
        assert path.encode() not in content
    if freeze.Libpython().allows_static:
        assert freeze.NOWHERE.encode() in content


def test_model_answers_only_while_the_image_is_made(pyoci: str, tmp_path: Path) -> None:
    """A finished executable sees its own host: nothing of build_host.c answers in its place."""
    subprocess.run([pyoci, "spec", "--bundle", tmp_path], check=True)
    command = ["strace", "-e", "trace=openat,uname", pyoci, "plan", tmp_path]
    calls = subprocess.run(command, capture_output=True, text=True, env={}, check=True).stderr

    assert 'openat(AT_FDCWD, "/proc/self/status"' in calls
    assert os.uname().nodename in calls
    assert "/host/" not in calls


def test_files_of_the_model_are_those_of_a_kernel() -> None:
    """The rehearsal reads them as those of the host: each has the form that proc(5) describes."""
    fields = image.MODEL[f"proc/{image.MODEL_PID}/stat"].split()
    assert (52, str(image.MODEL_PID), "R", "12345678") == (len(fields), fields[0], fields[2], fields[21])
    source = (freeze.HERE / "build_host.c").read_text()
    assert f"MODEL_PID = {image.MODEL_PID}" in source
