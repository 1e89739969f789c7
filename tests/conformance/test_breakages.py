"""Small breakages of pyoci, at least one in each area: the conformance suite must catch every one.

A breakage is one replacement in one module of a copy of the package. The rows that have to notice are named, and one of
them must fail; that they all pass with the package as it is, test_conformance.py shows.
"""

import compileall
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

# (what is broken, module, text, what it becomes, rows that notice)
BREAKAGES = [
    (
        "a failing create leaves its cgroup",
        *(
            "create.py",
            "            cgroup.destroy(kill=True)\n            self.directory",
            "            self.directory",
        ),
        ["ERR-01"],
    ),
    (
        "a namespace may be listed twice",
        *(
            "config/checks.py",
            '        check_unique(namespace["type"], i, seen, f"{at}/linux/namespaces/{{}}/type", report)\n',
            "",
        ),
        ["NS-06"],
    ),
    (
        "annotations may have empty keys",
        *("config/checks.py", '    ("/annotations", check_annotations),\n', ""),
        ["ANN-01"],
    ),
    (
        "the state does not tell the annotations",
        *("record.py", "if self.annotations:", "if not self.id:"),
        ["ST-06"],
    ),
    (
        "a poststop hook that fails keeps the next from running",
        *("host/hooks.py", "            failures.append(error)\n", "            return [error]\n"),
        ["LIFE-13"],
    ),
    (
        "a poststart hook that fails is overlooked",
        *("start.py", 'record.hooks.get("poststart", [])', "[]"),
        ["LIFE-09"],
    ),
    (
        "a running container can be deleted",
        *("delete.py", 'not in ("stopped", "created"):', 'not in ("stopped", "created", "running"):'),
        ["OP-11"],
    ),
    (
        "hooks run from the last to the first",
        *(
            "compiler/hooks.py",
            "enumerate(entries if isinstance(entries, list) else ()):",
            "enumerate(entries[::-1] if isinstance(entries, list) else ()):",
        ),
        ["HOOK-05"],
    ),
    (
        "a hook's timeout is ten times as long",
        *("compiler/hooks.py", "MAX_TIMEOUT)) * 1000", "MAX_TIMEOUT)) * 10000"),
        ["HOOK-04"],
    ),
    (
        "any version is taken",
        *("config/checks.py", '    ("/ociVersion", check_version),\n', ""),
        ["CFG-01"],
    ),
    (
        "createRuntime hooks run before prestart hooks",
        *("compiler/hooks.py", '"prestart", "createRuntime")', '"createRuntime", "prestart")'),
        ["LIFE-14"],
    ),
    (
        "createContainer hooks run where the runtime does",
        *(
            "compiler/hooks.py",
            '"createRuntime")\n    in_container = container_hooks(config, "createContainer", CREATE_STATE)',
            '"createRuntime", "createContainer")\n    in_container: list[ChildOp] = []',
        ),
        ["HOOK-09"],
    ),
    (
        "argv[0] of a hook is its path",
        *(
            "compiler/hooks.py",
            'return entry.get("args") or [entry["path"]]',
            'return [entry["path"], *entry.get("args", [])[1:]]',
        ),
        ["HOOK-02"],
    ),
    (
        "poststop hooks run before the container is destroyed",
        *(
            "delete.py",
            "    cgroup.destroy(kill=record.pid",
            (
                "    container.warnings.extend(run_poststop(record))\n"
                "    record.hooks = {}\n"
                "    cgroup.destroy(kill=record.pid"
            ),
        ),
        ["HOOK-12"],
    ),
    (
        "every signal is SIGTERM",
        *("kill.py", "        return send_signal(pidfd, signal)", "        return send_signal(pidfd, SIGTERM)"),
        ["OP-10"],
    ),
    (
        "hard limits are the soft ones",
        *("compiler/process.py", 'hard=limit["hard"]', 'hard=limit["soft"]'),
        ["PROC-11"],
    ),
    (
        "additional groups are left out",
        *("compiler/process.py", '= process.get("user", {}).get("additionalGids", [])', "= []"),
        ["PROC-52"],
    ),
    (
        "the root is never read-only",
        *("compiler/rootfs.py", 'if config["root"].get("readonly"):', "if not config:"),
        ["ROOT-03"],
    ),
    (
        "an earlier mount option wins",
        *("compiler/mount_options.py", "self.attr_set = self.attr_set & ~clear | change", "self.attr_set |= change"),
        ["MNT-06"],
    ),
    (
        "recursive attributes are of one mount only",
        *(
            "compiler/mounts.py",
            "recursive_set=mount.recursive_set,\n            recursive_clear=mount.recursive_clear,\n",
            "recursive_set=0,\n            recursive_clear=0,\n",
        ),
        ["MNT-06"],
    ),
    (
        "one id is mapped instead of a range",
        *("compiler/namespaces.py", "{m['size']}\\n", "1\\n"),
        ["UM-01"],
    ),
    (
        "the mode of a device is always 0666",
        *(
            "compiler/devices.py",
            'mode=NODE_TYPES[kind] | device.get("fileMode", 0o666)',
            "mode=NODE_TYPES[kind] | 0o666",
        ),
        ["DEV-06"],
    ),
    (
        "/dev/stdin is the standard output",
        *("compiler/devices.py", '("/proc/self/fd/0", "/dev/stdin")', '("/proc/self/fd/1", "/dev/stdin")'),
        ["FD-02"],
    ),
    (
        "what cgroup v2 can't do is ignored",
        *("cgroups/resources.py", "if value is not None and value not in nothing:", "if not section:"),
        ["CG-30", "CG-43"],
    ),
    (
        "the first device rule that matches wins",
        *("cgroups/device_filter.py", "access in reversed(rules):", "access in rules:"),
        ["CG-20"],
    ),
    (
        "masked paths are not masked",
        *("compiler/rootfs.py", "for index, path in _once(masked)]", "for index, path in _once(masked[:0])]"),
        ["MASK-01"],
    ),
    (
        "LINUX32 is LINUX",
        *("compiler/process.py", '"LINUX32": 8', '"LINUX32": 0'),
        ["PERS-01"],
    ),
    (
        "greater or equal is greater",
        *("compiler/seccomp_rules.py", '"SCMP_CMP_GE": (IF_GREATER_OR_EQUAL', '"SCMP_CMP_GE": (IF_GREATER'),
        ["SEC-06"],
    ),
    (
        "a default errno is always EPERM",
        *("compiler/seccomp.py", "    if errno is None:\n        errno = EPERM\n", "    errno = EPERM\n"),
        ["SEC-02"],
    ),
    (
        "kernel parameters are not written",
        *("compiler/create.py", "        Part(kinds.sysctl(linux)),\n", ""),
        ["SYS-01"],
    ),
    (
        "a root that is to be shared is private",
        *("compiler/rootfs.py", '"shared": SHARED', '"shared": PRIVATE'),
        ["PROP-02"],
    ),
    (
        "read-only paths can be written",
        *("compiler/rootfs.py", '_once(linux.get("readonlyPaths", ()))\n', "_once(())\n"),
        ["MASK-02"],
    ),
    (
        "each letter of a device's access stands for all",
        *("cgroups/device_filter.py", "access |= ACCESS[letter]", "access |= RWM"),
        ["CG-21"],
    ),
    (
        "the kernel's list of files for a new owner is not read",
        *("cgroups/cgroupfs.py", '"/sys/kernel/cgroup/delegate"', '"/sys/kernel/cgroup/missing"'),
        ["CG-13"],
    ),
    (
        "files of unified are not written",
        *("cgroups/resources.py", '    ("unified", _unified),\n', ""),
        ["CG-42"],
    ),
    (
        "the errno of ERRNO is ENOENT if unset",
        *("compiler/seccomp.py", "EPERM = 1\n", "EPERM = 2\n"),
        ["SEC-02"],
    ),
    (
        "KILL_THREAD kills the process",
        *("compiler/seccomp.py", '"SCMP_ACT_KILL_THREAD": 0x0000_0000', '"SCMP_ACT_KILL_THREAD": 0x8000_0000'),
        ["SEC-10"],
    ),
    (
        "only the machine's own architecture is filtered",
        *("compiler/seccomp.py", "*(abi for abi in others if abi.name in listed)", "*others[:0]"),
        ["SEC-03"],
    ),
    (
        "features lists a hook that there is not",
        *("compiler/features.py", "list(HOOKS)", '[*HOOKS, "restart"]'),
        ["FEAT-05"],
    ),
]


def test_there_is_one_for_each_area() -> None:
    """Twenty or more, no two alike."""
    assert len(BREAKAGES) >= 20
    assert len(BREAKAGES) == len({name for name, *_ in BREAKAGES})


def test_each_has_its_place() -> None:
    """What it changes stands in the source, once."""
    lost = [name for name, module, text, *_ in BREAKAGES if 1 != (CHECKOUT / "pyoci" / module).read_text().count(text)]
    assert [] == lost


@pytest.fixture(scope="module")
def compiled() -> None:
    """Compile every module once: each command of a broken pyoci would have to, because it writes no bytecode."""
    assert compileall.compile_dir(CHECKOUT / "pyoci", quiet=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("breakage", BREAKAGES, ids=[name.replace(" ", "-") for name, *_ in BREAKAGES])
def test_a_breakage_is_caught(breakage: Any, tmp_path: Path) -> None:
    """By a row that names it."""
    _, module, text, replacement, rows = breakage
    runtime = broken(tmp_path, module, text, replacement)

    words = [word for row in rows for word in ("--id", row)]
    command = [sys.executable, "-m", "conformance", "--runtime", str(runtime), "--format", "json", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)

    assert "" == done.stderr
    (document,) = json.loads(done.stdout)
    outcomes = {case["name"]: case["outcome"] for case in document["cases"]}
    assert {"fail", "unmet"} & set(outcomes.values()), outcomes
    assert "error" not in outcomes.values(), outcomes


def broken(folder: Path, module: str, text: str, replacement: str) -> Path:
    """A pyoci with one change; its executable is a script."""
    package = folder / "pyoci"
    ignored = shutil.ignore_patterns("*.c", "*.pyx", "*.pxi")
    shutil.copytree(CHECKOUT / "pyoci", package, ignore=ignored)
    path = package / module
    source = path.read_text()
    assert 1 == source.count(text), f"{module} has changed: there is no single {text!r}"
    path.write_text(source.replace(text, replacement))
    assert compileall.compile_file(path, quiet=2)
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from pyoci.__main__ import main; sys.exit(main())"
    executable = folder / "pyoci.sh"
    executable.write_text(f"#!/bin/sh\nexec {sys.executable} -I -B -c '{start.replace(chr(39), chr(34))}' \"$@\"\n")
    executable.chmod(0o755)
    for directory in (folder, *folder.rglob("*")):
        if directory.is_dir():
            directory.chmod(0o755)
    return executable
