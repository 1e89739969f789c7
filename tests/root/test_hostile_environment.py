"""Code that an attacker would like the runtime to load: from the environment, the directory it is called in, the image.

strace tells every file that is opened and every program that is executed. On the hot path no Python module comes from a
disk at all; nothing below the bundle, the root filesystem or the working directory is opened as code.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, wait_for

pytestmark = pytest.mark.root

MODULES = (
    "json", "os", "io", "codecs", "posix", "site", "sitecustomize", "usercustomize", "pyoci", "errno", "select", "fcntl",
    "_struct", "_json", "time", "zlib", "re", "typing", "enum", "abc", "stat", "traceback", "linecache", "subprocess", "pwd",
)  # fmt: skip
STRACE = shutil.which("strace") or "strace"
PAYLOAD = "open({marker!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(77)\n"
OPENED = re.compile(
    r'^\d+ +(?:openat|openat2|open)\((?:AT_FDCWD|\d+(?:<[^>]*>)?), "((?:[^"\\]|\\.)*)".*= (-?\d+)', re.M
)
EXECUTED = re.compile(r"^\d+ +execve(?:at)?\((.*)\) = (-?\d+)", re.M)


def plant(folder: Path, marker: Path) -> None:
    """Python modules and packages that leave their name in `marker`, and compiled ones beside them."""
    for name in MODULES:
        (folder / f"{name}.py").write_text(PAYLOAD.format(marker=str(marker)))
    for package in ("encodings", "pyoci", "importlib", "collections"):
        (folder / package).mkdir(exist_ok=True)
        for name in ("__init__", "utf_8", "idna", "cli", "machinery", "abc"):
            (folder / package / f"{name}.py").write_text(PAYLOAD.format(marker=str(marker)))
    (folder / "evil.pth").write_text(f"import os; open({str(marker)!r}, 'a').write('pth')\n")


def traced(attack: Attack, *words: object, **options: Any) -> str:
    """The files and programs that a command, and all that comes of it, asked for. Its container is deleted."""
    out = attack.folder / "strace"
    command = [STRACE, "-f", "-qq", "-s", "4096", "-o", str(out), "-e", "trace=%file,execve,execveat"]
    with subprocess.Popen([*command, *attack.command(*words)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, **options) as tracer:  # fmt: skip
        try:
            if words[0] == "create":
                wait_for(lambda: attack.state().get("status") == "created" or tracer.poll() is not None)
                assert tracer.poll() is None
                assert 0 == attack.delete().status
                tracer.wait(PATIENCE)  # the status is that of what lived longest
            else:
                assert 0 == tracer.wait(PATIENCE)
        finally:
            attack.clean_up()  # else strace waits for the container's process
    return out.read_text()


# ── what the caller's surroundings hold ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", ["run", "create", "list", "features", "spec", "validate", "plan", "--version", "--help"]
)
def test_hostile_environment_and_directory(attack: Attack, command: str) -> None:
    """Neither PYTHON* nor HOME nor the directory with a json.py in it decides what code runs, cold commands
    included.
    """
    marker = attack.folder / "pwned"
    plant(attack.bundle.folder, marker)
    plant(attack.folder, marker)
    for place in (".local/lib/python3.11/site-packages", ".local/lib/python3.14/site-packages"):
        (attack.folder / place).mkdir(parents=True)
        plant(attack.folder / place, marker)
    folder = str(attack.folder)
    environment = {
        "PATH": folder, "HOME": folder, "TMPDIR": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder,
        "PYTHONPATH": folder, "PYTHONHOME": folder, "PYTHONSTARTUP": f"{folder}/os.py", "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": f"{folder}/.local", "PYTHONPLATLIBDIR": folder, "PYTHONPYCACHEPREFIX": folder,
        "PYTHONWARNINGS": "error", "PYTHONBREAKPOINT": "os.system", "PYTHONIOENCODING": "idna", "PYTHONVERBOSE": "1",
        "PYTHONDEBUG": "1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "warn", "PYTHONDUMPREFS": "1", "PYTHONFAULTHANDLER": "1",
        "PYTHONTRACEMALLOC": "5", "PYTHONEXECUTABLE": f"{folder}/python", "LC_ALL": "de_DE.ISO-8859-15", "LANG": "tr_TR",
        "LOCPATH": folder, "GCONV_PATH": folder, "NLSPATH": f"{folder}/%N", "TZ": f":{folder}/os.py", "TZDIR": folder,
        "HOSTALIASES": f"{folder}/os.py", "RES_OPTIONS": "debug", "SHELL": f"{folder}/sh", "EDITOR": f"{folder}/sh",
        "LD_LIBRARY_PATH": folder,
    }  # fmt: skip
    attack.bundle.write()
    words: list[object] = {
        "run": ["run", "--bundle", attack.bundle.folder, attack.id],
        "create": ["create", "--bundle", attack.bundle.folder, attack.id],
        "spec": ["spec", "--file", attack.folder / "made.json"],
        "validate": ["validate", attack.bundle.folder],
        "plan": ["plan", attack.bundle.folder],
    }.get(command, [command])
    attack.root.mkdir(mode=0o700, exist_ok=True)  # without a root `list` fails
    text = traced(attack, *words, cwd=attack.bundle.folder, env=environment)
    assert not marker.exists(), marker.read_text()
    code = [path for path, _ in OPENED.findall(text) if path.endswith((".py", ".pyc", ".so", ".pth", ".cfg"))]
    assert [] == [path for path in code if not path.startswith("/") or path.startswith(folder)]


def test_program_path_is_not_the_callers(attack: Attack) -> None:
    """No program is looked for in the caller's PATH."""
    (attack.folder / "evil").mkdir()
    for name in ("newuidmap", "newgidmap", "criu", "sh", "true", "modprobe", "pyoci", "python3"):
        script = attack.folder / "evil" / name
        script.write_text(f"#!/bin/sh\ntouch {attack.folder}/pwned\n")
        script.chmod(0o755)
    attack.bundle.write()
    text = traced(attack, "run", "--bundle", attack.bundle.folder, attack.id, env={"PATH": str(attack.folder / "evil")})
    assert not (attack.folder / "pwned").exists()
    assert str(attack.folder / "evil") not in text


# ── what the image holds ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def library(attack: Attack) -> Attack:
    """An image with every Python module there is, a broken resolver, and files that block or never end."""
    marker = attack.rootfs / "pwned"
    for version in ("3.11", "3.12", "3.13", "3.14"):
        for place in (
            f"usr/lib/python{version}",
            f"usr/local/lib/python{version}",
            f"usr/lib/python{version}/lib-dynload",
        ):
            (attack.rootfs / place).mkdir(parents=True)
            plant(attack.rootfs / place, marker)
    shutil.copytree(attack.rootfs / "usr/lib/python3.11/encodings", attack.rootfs / "encodings")
    (attack.rootfs / "usr/lib/locale").mkdir()
    (attack.rootfs / "usr/lib/x86_64-linux-gnu/gconv").mkdir(parents=True)
    for name in ("libnss_files.so.2", "libnss_compat.so.2", "libgcc_s.so.1", "libc.so.6", "gconv/gconv-modules"):
        os.mkfifo(attack.rootfs / "usr/lib/x86_64-linux-gnu" / name)
    (attack.rootfs / "etc/ld.so.preload").write_text("/evil.so\n")
    (attack.rootfs / "etc/nsswitch.conf").write_text("passwd: files evil\n")
    (attack.rootfs / "etc/group").unlink()
    for name in ("localtime", "group", "shadow", "mtab", "locale.alias", "ld.so.cache", "python3.11"):
        os.mkfifo(attack.rootfs / "etc" / name)
    return attack


# What may be opened once the root is the container's: masked and read-only paths, /dev, the program, passwd for HOME;
# and by the runtime outside the kernel's files. Relative names are those of the state and of the cgroup.
EXPECTED = re.compile(r"^(/proc|/sys|/dev|/bin/sleep$|/etc/passwd$|/$|[^/]*$)")


@pytest.mark.parametrize("home", [True, False])
def test_image_full_of_code(library: Attack, home: bool) -> None:
    """CVE-2019-14271, CVE-2022-1227, CVE-2026-41567: after entering the container nothing of it is loaded.

    A process that entered a container never runs Python: it opens the program to look at its first bytes, and passwd.
    """
    library.process["args"] = ["/bin/sleep", "0"]
    library.process["env"] = ["PATH=/bin", *(["HOME=/root"] if home else [])]
    library.config["hostname"] = "ümlaut-" + "x" * 20
    library.bundle.write()
    text = traced(library, "run", "--bundle", library.bundle.folder, library.id)
    assert not (library.rootfs / "pwned").exists()
    after = text[text.index("pivot_root(") :] if "pivot_root(" in text else ""
    assert after, "no pivot_root in the trace"
    opened = [path for path, status in OPENED.findall(after) if int(status) >= 0]
    code = [path for path in opened if re.search(r"\.(py|pyc|so)(\.|$)|python|encodings|gconv|locale|nss", path)]
    assert [] == code, code
    etc = [path for path in opened if path.startswith(("/etc/", "etc/"))]
    assert ([] if home else ["/etc/passwd"]) == sorted(set(etc)), etc
    protected = {path.removeprefix("/proc").removeprefix("/sys")
                 for path in library.linux["maskedPaths"] + library.linux["readonlyPaths"]}  # fmt: skip
    unexpected = [path for path in opened if not EXPECTED.match(path) and str(library.root) not in path]
    unexpected = [path for path in unexpected if path not in protected]  # from the root of the mount
    assert [] == unexpected, unexpected
    assert [] == [path for path, _ in OPENED.findall(text) if path.startswith(f"{library.rootfs}/")]


def test_image_full_of_code_and_an_error(library: Attack) -> None:
    """An error in the container reads no source line, no message catalogue and no time zone of the image."""
    library.process["args"] = ["/bin/nosuch"]
    library.process["env"] = ["PATH=/bin"]
    result = library.run()
    assert (1, True) == (result.status, "no such file or directory" in result.err)
    assert AT_ONCE > result.seconds
    library.process["args"] = ["/bin/true"]
    library.config["mounts"].append({"destination": "/x", "type": "nosuchfs", "source": "x"})
    result = library.run()
    assert (1, True) == (result.status, "no such device" in result.err)
    assert not (library.rootfs / "pwned").exists()


@pytest.mark.parametrize("command", ["create", "start", "state", "kill", "delete"])
def test_no_python_module_comes_from_a_disk(attack: Attack, command: str) -> None:
    """On the hot path code comes from the executable alone, which is a static copy of everything."""
    attack.process["args"] = ["/bin/sleep", "100"]
    attack.bundle.write()
    if command != "create":
        assert 0 == attack.create().status
    words = ["create", "--bundle", attack.bundle.folder, attack.id] if command == "create" else [command, attack.id]
    text = traced(attack, *words, cwd=attack.bundle.folder)
    python = [
        path for path, _ in OPENED.findall(text) if re.search(r"\.pyc?$|/python3|\.pth$|encodings|site-packages", path)
    ]
    assert [] == python, python
    libraries = {os.path.basename(path) for path, status in OPENED.findall(text) if ".so" in path and int(status) >= 0}
    assert {"ld.so.cache", "libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1"} >= libraries
    executed = [call for call, status in EXECUTED.findall(text) if status == "0"]
    helper = '["init", "'
    assert all("pyoci" in call or helper in call or "/bin/sleep" in call for call in executed), executed


def test_executable_has_no_search_path(attack: Attack) -> None:
    """The executable is built without RPATH, with a stack that is not executable, and is not a setuid file."""
    headers = subprocess.check_output(
        ["readelf", "--wide", "--program-headers", "--dynamic", attack.executable], text=True
    )
    assert "RPATH" not in headers
    assert "RUNPATH" not in headers
    stack = next(line for line in headers.splitlines() if "GNU_STACK" in line)
    assert "E" not in stack.split()[-2]
    assert 0 == os.stat(attack.executable).st_mode & 0o6022
