"""From bytes to config: what load returns, what it refuses and in which words, with line and column."""

import copy
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci import config
from pyoci.config import checks, constants
from pyoci.config.positions import Positions
from pyoci.config.report import report
from pyoci.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "tests" / "data" / "bundles"

BASE: dict[str, Any] = {
    "ociVersion": "1.2.1",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "network"}]},
}
REMOVED = object()
TOO_MANY = 4294967295


def changed(**changes: Any) -> dict[str, Any]:
    """BASE with the values at some pointers replaced: `process__cwd="x"` for /process/cwd."""
    document = copy.deepcopy(BASE)
    for path, value in changes.items():
        node, *keys = document, *path.split("__")
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        if value is REMOVED:
            del node[keys[-1]]
        else:
            node[keys[-1]] = value
    return document


def problems(document: Any, load: Callable[[bytes], Any] = config.load) -> list[str]:
    """The problems of a document, without their places."""
    try:
        load(json.dumps(document).encode())
    except ConfigError as error:
        return [f"{problem.where or '/'}: {problem.message}" for problem in error.problems]
    return []


def namespaces(*types: str, **more: str) -> list[dict[str, str]]:
    return [{"type": kind} for kind in ("mount", *types)] + [
        {"type": kind, "path": path} for kind, path in more.items()
    ]


def mapping(container: int, host: int, size: int) -> dict[str, int]:
    return {"containerID": container, "hostID": host, "size": size}


def mounted(**mount: Any) -> dict[str, Any]:
    return changed(mounts=[{"destination": "/x", **mount}])


def device(**values: Any) -> dict[str, Any]:
    return changed(linux__devices=[{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, **values}])


def rule(**values: Any) -> dict[str, Any]:
    return changed(linux__resources__devices=[{"allow": True, **values}])


def filtered(**values: Any) -> dict[str, Any]:
    return changed(linux__seccomp={"defaultAction": "SCMP_ACT_ERRNO", **values})


OR_A_NAMESPACE = "or a namespace of type user in /linux/namespaces"
AS_A_PAIR = "the id mappings of a mount come as a pair"
IDMAP = {"uidMappings": [mapping(0, 1, 1)], "gidMappings": [mapping(0, 2, 1)]}
NOT_FOUND = "executable file not found in $PATH"
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024}
MAPPED = {"linux__uidMappings": [mapping(0, 1, 1)], "linux__gidMappings": [mapping(0, 1, 1)]}

# Every message of the schema and of each check: (config, its problems)
MESSAGES: list[tuple[Any, list[str]]] = [
    # top
    ([], ["/: expected an object, found an empty array"]),
    ("x", ['/: expected an object, found the string "x"']),
    (None, ["/: expected an object, found null"]),
    (
        {},
        [
            '/: missing the required property "ociVersion"',
            '/: missing the required property "root"',
        ],
    ),
    (changed(ociVersion=1), ["/ociVersion: expected a string, found 1"]),
    (changed(ociVersion=""), ["/ociVersion: expected a version in SemVer 2.0.0 such as 1.2.1, found an empty string"]),
    (
        changed(ociVersion="2.0.0"),
        ['/ociVersion: expected version 1.x of the specification, found the string "2.0.0"'],
    ),
    (changed(root__path=""), ["/root/path: expected a path, found an empty string"]),
    (changed(root={}), ['/root: missing the required property "path"']),
    (changed(root__readonly=1), ["/root/readonly: expected true or false, found 1"]),
    (changed(annotations={"": "x"}), ["/annotations/: the name of an annotation must not be empty"]),
    (changed(annotations={"a/b~c": 1}), ["/annotations/a~1b~0c: expected a string, found 1"]),
    (
        changed(annotations={"a": "x" * 1024 * 1024}),
        ["/annotations: the annotations have 1048577 characters, more than the limit of 1048576"],
    ),
    (
        changed(hostname="x"),
        [
            "/hostname: the hostname needs a namespace of type uts in /linux/namespaces: pyoci does not change the host's"
        ],
    ),
    (
        changed(domainname="x"),
        [
            "/domainname: the domainname needs a namespace of type uts in /linux/namespaces: pyoci does not change the host's"
        ],
    ),
    (
        changed(hostname="x" * 65, linux__namespaces=namespaces("uts")),
        ["/hostname: the name has 65 bytes, the kernel accepts at most 64"],
    ),
    # mounts
    (changed(mounts=[{}]), ['/mounts/0: missing the required property "destination"']),
    (mounted(destination=""), ["/mounts/0/destination: expected a path in the container, found an empty string"]),
    (mounted(options=["rbind"]), ['/mounts/0: missing the required property "source": a bind mount needs one']),
    (mounted(options=["ro", 5]), ["/mounts/0/options/1: expected a string, found 5"]),
    (
        mounted(options=["rbind", "ridmap"], source="/x"),
        [f'/mounts/0/options/1: an idmapped mount needs "uidMappings" and "gidMappings", {OR_A_NAMESPACE}'],
    ),
    (
        mounted(options=["bind", "idmap", "remount"], **IDMAP),
        ["/mounts/0/options/1: a remount can't change the id mapping of a mount"],
    ),
    (mounted(options=["bind", "remount"], **IDMAP), ["/mounts/0: a remount can't change the id mapping of a mount"]),
    (
        mounted(uidMappings=[mapping(0, 0, 1)]),
        [f'/mounts/0: missing the required property "gidMappings": {AS_A_PAIR}'],
    ),
    (
        mounted(options=["bind", "idmap"], source="/x", gidMappings=[mapping(0, 0, 1)], uidMappings=[]),
        [f'/mounts/0/uidMappings: missing the required property "uidMappings": {AS_A_PAIR}'],
    ),
    (
        mounted(uidMappings=[mapping(0, 0, 1)], gidMappings=[mapping(0, 0, 0)]),
        ["/mounts/0/gidMappings/0/size: expected an integer of at least 1, found 0"],
    ),
    (
        changed(
            mounts=[{"destination": "/m", "type": "tmpfs", "options": ["idmap"]}],
            linux__namespaces=namespaces("user"),
            **MAPPED,
        ),
        ["/mounts/0/options/0: a filesystem that is created in the container's user namespace can't be idmapped"],
    ),
    (
        changed(mounts=[{"destination": "/x"}] * 16385),
        ["/mounts: there are 16385 entries, more than the limit of 16384"],
    ),
    # hooks
    (
        changed(hooks={"prestart": [{"path": "bin/x"}]}),
        ['/hooks/prestart/0/path: expected an absolute path, found the string "bin/x"'],
    ),
    (
        changed(hooks={"poststop": [{"path": "/x", "env": ["A"], "timeout": 2**63}]}),
        [
            '/hooks/poststop/0/env/0: expected a variable as NAME=VALUE, found the string "A"',
            "/hooks/poststop/0/timeout: expected an integer from 1 to 9223372036854775807, found 9223372036854775808",
        ],
    ),
    (
        changed(hooks={"createRuntime": [{"path": "/x", "timeout": 0}]}),
        ["/hooks/createRuntime/0/timeout: expected an integer of at least 1, found 0"],
    ),
    (
        changed(hooks={"startContainer": [{"path": "/x"}] * 1025}),
        ["/hooks/startContainer: there are 1025 entries, more than the limit of 1024"],
    ),
    # process
    (changed(process__cwd="tmp"), ['/process/cwd: expected an absolute path, found the string "tmp"']),
    (changed(process__args=REMOVED), ['/process: expected "args" with at least one entry']),
    (changed(process__args=[]), ['/process/args: expected "args" with at least one entry']),
    (
        changed(process__args=[""]),
        [f"/process/args/0: expected the name of a program, found an empty string: {NOT_FOUND}"],
    ),
    (changed(process__args="sh"), ['/process/args: expected an array, found the string "sh"']),
    (changed(process__env=["=x"]), ['/process/env/0: expected a variable as NAME=VALUE, found the string "=x"']),
    (changed(process__env=["X"]), ['/process/env/0: expected a variable as NAME=VALUE, found the string "X"']),
    (
        changed(process__args=["x" * 131072]),
        ["/process/args/0: the string has 131073 bytes, execve accepts at most 131072"],
    ),
    (
        changed(process__args=["x" * 100_000] * 70),
        ["/process: args and env need 7000630 bytes, execve accepts at most 6291456"],
    ),
    (
        changed(process__env=["A=b"] * 65537),
        ["/process/env: there are 65537 entries, more than the limit of 65536"],
    ),
    (
        changed(process__user__uid="root"),
        ['/process/user/uid: expected an integer from 0 to 4294967295, found the string "root"'],
    ),
    (changed(process__user={"uid": 0}), ['/process/user: missing the required property "gid"']),
    (
        changed(process__user__gid=TOO_MANY),
        ["/process/user/gid: expected an id from 0 to 4294967294, found 4294967295"],
    ),
    (
        changed(process__user__additionalGids=[5, TOO_MANY]),
        ["/process/user/additionalGids/1: expected an id from 0 to 4294967294, found 4294967295"],
    ),
    (
        changed(process__user__umask=512),
        ["/process/user/umask: expected permission bits from 0 to 511 (octal 777), found 512"],
    ),
    (
        changed(process__oomScoreAdj=-1001),
        ["/process/oomScoreAdj: expected an integer from -1000 to 1000, found -1001"],
    ),
    (
        changed(process__terminal=True, process__consoleSize={"height": 65536, "width": 80}),
        ["/process/consoleSize/height: expected an integer from 0 to 65535, found 65536"],
    ),
    (
        changed(process__rlimits=[{"type": "RLIMIT_FOO", "soft": 2, "hard": 1}]),
        [
            (
                "/process/rlimits/0/type: expected a resource of getrlimit(2) such as RLIMIT_NOFILE, "
                'found the string "RLIMIT_FOO"'
            ),
            "/process/rlimits/0/soft: the soft limit 2 is above the hard limit 1",
        ],
    ),
    (
        changed(process__rlimits=[{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2),
        ['/process/rlimits/1/type: "RLIMIT_CPU" is listed twice, first at /process/rlimits/0/type'],
    ),
    (
        changed(process__rlimits=[{"type": "CPU", "soft": 1, "hard": 1}]),
        [
            (
                "/process/rlimits/0/type: expected the name of a resource limit such as RLIMIT_NOFILE, "
                'found the string "CPU"'
            )
        ],
    ),
    (
        changed(process__execCPUAffinity={"initial": "3-1", "final": "0, 2-3,"}),
        [
            '/process/execCPUAffinity/initial: expected a list of CPUs such as 0-3,7, found the string "3-1"',
            '/process/execCPUAffinity/final: expected a list of CPUs such as 0-3,7, found the string "0, 2-3,"',
        ],
    ),
    (
        changed(process__scheduler={"policy": "SCHED_OTHER", "nice": 20}),
        ["/process/scheduler/nice: expected an integer from -20 to 19, found 20"],
    ),
    (
        changed(process__ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 8}),
        ["/process/ioPriority/priority: expected an integer from 0 to 7, found 8"],
    ),
    (
        changed(process__ioPriority={"class": "IOPRIO_CLASS_BE"}),
        ['/process/ioPriority: missing the required property "priority"'],
    ),
    (
        changed(process__ioPriority={"class": "IOPRIO_CLASS_NONE", "priority": 0}),
        [
            (
                '/process/ioPriority/class: expected "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE" or "IOPRIO_CLASS_IDLE", '
                'found the string "IOPRIO_CLASS_NONE"'
            )
        ],
    ),
    (
        changed(process__scheduler=DEADLINE, hooks={"startContainer": [{"path": "/x"}]}),
        [
            (
                "/process/scheduler: a process with SCHED_DEADLINE can't run the startContainer hooks without "
                "SCHED_FLAG_RESET_ON_FORK"
            )
        ],
    ),
    # namespaces
    (
        changed(
            linux__namespaces=namespaces("user")[1:],
            mounts=[{"destination": "/proc", "type": "proc"}],
            linux__maskedPaths=["/x"],
            linux__rootfsPropagation="slave",
            process__terminal=True,
            **MAPPED,
        ),
        [
            f"{place}: this needs a namespace of type mount in /linux/namespaces: pyoci does not change the host's mounts"
            for place in (
                *("/process/terminal", "/linux/namespaces/0", "/linux/maskedPaths", "/linux/rootfsPropagation"),
                "/mounts",
            )
        ],
    ),
    (
        changed(linux__namespaces=namespaces("pid", "pid")),
        ['/linux/namespaces/2/type: "pid" is listed twice, first at /linux/namespaces/1/type'],
    ),
    (
        changed(linux__namespaces=namespaces(pid="proc/1/ns/pid")),
        ['/linux/namespaces/1/path: expected an absolute path, found the string "proc/1/ns/pid"'],
    ),
    (
        changed(linux__namespaces=[{"type": "net"}]),
        [
            (
                '/linux/namespaces/0/type: expected "mount", "pid", "network", "uts", "ipc", "user", "cgroup" '
                'or "time", found the string "net"'
            )
        ],
    ),
    (
        changed(linux__namespaces=namespaces("user")),
        [
            '/linux: a new user namespace needs "uidMappings" with at least one entry',
            '/linux: a new user namespace needs "gidMappings" with at least one entry',
        ],
    ),
    (
        changed(**MAPPED),
        [
            "/linux/uidMappings: id mappings need a namespace of type user in /linux/namespaces",
            "/linux/gidMappings: id mappings need a namespace of type user in /linux/namespaces",
        ],
    ),
    (
        changed(linux__namespaces=namespaces("user"), **MAPPED | {"linux__uidMappings": [mapping(0, 1, 0)]}),
        ["/linux/uidMappings/0/size: expected an integer of at least 1, found 0"],
    ),
    (
        changed(linux__namespaces=namespaces("user"), **MAPPED | {"linux__uidMappings": [mapping(0, 1, TOO_MANY)]}),
        ["/linux/uidMappings/0: the range reaches the hostID 4294967295, the last valid id is 4294967294"],
    ),
    (
        changed(
            linux__namespaces=namespaces("user"),
            **MAPPED | {"linux__gidMappings": [mapping(5, 10, 5), mapping(0, 0, 6), mapping(20, 14, 1)]},
        ),
        [
            "/linux/gidMappings/1: the range overlaps /linux/gidMappings/0: both have the containerID 5",
            "/linux/gidMappings/2: the range overlaps /linux/gidMappings/0: both have the hostID 14",
        ],
    ),
    (
        changed(
            linux__namespaces=namespaces("user"),
            **MAPPED | {"linux__uidMappings": [mapping(i, i, 1) for i in range(341)]},
        ),
        ["/linux/uidMappings: there are 341 entries, more than the limit of 340"],
    ),
    (
        changed(linux__timeOffsets={"boottime": {"secs": 1, "nanosecs": 10**9}}),
        [
            "/linux/timeOffsets: time offsets need a new namespace of type time in /linux/namespaces",
            "/linux/timeOffsets/boottime/nanosecs: expected an integer from 0 to 999999999, found 1000000000",
        ],
    ),
    (
        changed(linux__namespaces=namespaces(time="/proc/1/ns/time"), linux__timeOffsets={"monotonic": {}}),
        ["/linux/timeOffsets: time offsets need a new namespace of type time in /linux/namespaces"],
    ),
    # sysctl
    (
        changed(linux__sysctl={"kernel.core_pattern": "x"}),
        [
            (
                '/linux/sysctl/kernel.core_pattern: the kernel parameter "kernel.core_pattern" is the host\'s: '
                "no namespace isolates it"
            )
        ],
    ),
    (
        changed(linux__sysctl={"kernel.hostname": "x"}),
        ['/linux/sysctl/kernel.hostname: the hostname is set by "hostname", not by a kernel parameter'],
    ),
    (
        changed(domainname="a", linux__sysctl={"kernel.domainname": "b"}, linux__namespaces=namespaces("uts")),
        ['/linux/sysctl/kernel.domainname: the value "b" is not the "domainname", which is "a"'],
    ),
    (
        changed(domainname="a", linux__sysctl={"kernel/domainname": "a\n"}, linux__namespaces=namespaces("uts")),
        [
            '/linux/sysctl/kernel~1domainname: the value "a\\n" is not the "domainname", which is "a"',
            '/linux/sysctl/kernel~1domainname: the value "a\\n" must not have a line break',
        ],
    ),
    (
        changed(linux__sysctl={"net.ipv4.ip_forward": "1"}, linux__namespaces=namespaces()),
        [
            (
                '/linux/sysctl/net.ipv4.ip_forward: the kernel parameter "net.ipv4.ip_forward" needs a namespace '
                "of type network in /linux/namespaces"
            )
        ],
    ),
    (
        changed(linux__sysctl={"net/../kernel/core_pattern": "x"}),
        [
            (
                '/linux/sysctl/net~1..~1kernel~1core_pattern: "net/../kernel/core_pattern" is not the name '
                "of a kernel parameter"
            )
        ],
    ),
    (
        changed(linux__sysctl={"net.core.somaxconn": "1\n2"}),
        ['/linux/sysctl/net.core.somaxconn: the value "1\\n2" must not have a line break'],
    ),
    (
        changed(linux__sysctl={"net.core.somaxconn": "1" * 4097}),
        ["/linux/sysctl/net.core.somaxconn: the value has 4097 characters, more than the limit of 4096"],
    ),
    # the rest of linux
    (
        changed(linux__maskedPaths=["/a", "proc/x"]),
        ['/linux/maskedPaths/1: expected an absolute path, found the string "proc/x"'],
    ),
    (changed(linux__readonlyPaths=[""]), ["/linux/readonlyPaths/0: expected an absolute path, found an empty string"]),
    (
        changed(linux__cgroupsPath="/a/../../b"),
        ['/linux/cgroupsPath: expected a path without "..", found the string "/a/../../b"'],
    ),
    (
        changed(linux__rootfsPropagation="rslav"),
        [
            (
                '/linux/rootfsPropagation: expected "private", "shared", "slave", "unbindable", "rprivate", "rshared", '
                '"rslave" or "runbindable", found the string "rslav"'
            )
        ],
    ),
    (
        changed(linux__personality={"flags": ["X"]}),
        [
            '/linux/personality: missing the required property "domain"',
            '/linux/personality/flags/0: the flag "X" is unknown: the specification defines none',
        ],
    ),
    (
        changed(
            linux__namespaces=namespaces("network"),
            linux__netDevices={
                "eth0": {"name": "a/b"},
                "a~b/": {},
                "eth1": {"name": "x%s"},
                "eth2": {"name": "%d%d"},
                "eth3": {"name": "eth4"},
                "eth4": {},
            },
        ),
        [
            '/linux/netDevices/eth0/name: "a/b" is not the name of a network interface',
            '/linux/netDevices/a~0b~1: "a~b/" is not the name of a network interface',
            '/linux/netDevices/eth1/name: "x%s" is not the name of a network interface: % may only be in a final %d',
            '/linux/netDevices/eth2/name: "%d%d" is not the name of a network interface: % may only be in a final %d',
            (
                '/linux/netDevices/eth4: "eth4" would be the name of two network interfaces, also of '
                "/linux/netDevices/eth3/name"
            ),
        ],
    ),
    (
        changed(linux__namespaces=[{"type": "mount"}], linux__netDevices={"eth0": {}}),
        ["/linux/netDevices: network devices need a namespace of type network in /linux/namespaces"],
    ),
    (
        changed(linux__memoryPolicy={"flags": ["MPOL_F_STATIC_NODES"]}),
        ['/linux/memoryPolicy: missing the required property "mode"'],
    ),
    (
        changed(linux__intelRdt={"closID": "a/b", "schemata": ["x", "y\nz"]}),
        [
            '/linux/intelRdt/closID: expected the name of a directory, or "/", found the string "a/b"',
            '/linux/intelRdt/schemata/1: expected one line, found the string "y\\nz"',
        ],
    ),
    (
        changed(linux__intelRdt={"closID": ""}),
        ['/linux/intelRdt/closID: expected the name of a directory, or "/", found an empty string'],
    ),
    (
        changed(linux__intelRdt={"memBwSchema": "L3:0=f"}),
        ['/linux/intelRdt/memBwSchema: expected a line that starts with MB:, found the string "L3:0=f"'],
    ),
    (
        changed(linux__intelRdt={"memBwSchema": "MB:0=20\n"}),
        ['/linux/intelRdt/memBwSchema: expected a line that starts with MB:, found the string "MB:0=20\\n"'],
    ),
    # devices
    (device(path=""), ["/linux/devices/0/path: expected a path in the container, found an empty string"]),
    (
        changed(linux__devices=[{"type": "b", "path": "/x"}]),
        [
            '/linux/devices/0: missing the required property "major"',
            '/linux/devices/0: missing the required property "minor"',
        ],
    ),
    (device(major=-1), ["/linux/devices/0/major: expected an integer from 0 to 4095, found -1"]),
    (device(minor=2**20), ["/linux/devices/0/minor: expected an integer from 0 to 1048575, found 1048576"]),
    (
        device(fileMode=0o4755),
        ["/linux/devices/0/fileMode: expected permission bits from 0 to 511 (octal 777), found 2541"],
    ),
    (device(type="x"), ['/linux/devices/0/type: expected a device type: c, b, u or p, found the string "x"']),
    (device(uid=TOO_MANY), ["/linux/devices/0/uid: expected an id from 0 to 4294967294, found 4294967295"]),
    (
        changed(linux__devices=[{"type": "p", "path": "/x"}] * 1025),
        ["/linux/devices: there are 1025 entries, more than the limit of 1024"],
    ),
    # resources
    (rule(type="p"), ['/linux/resources/devices/0/type: expected "a", "b" or "c", found the string "p"']),
    (rule(access="rx"), ['/linux/resources/devices/0/access: expected letters of "rwm", found the string "rx"']),
    (rule(access=""), ['/linux/resources/devices/0/access: expected letters of "rwm", found an empty string']),
    (rule(major=-2), ["/linux/resources/devices/0/major: expected an integer from -1 to 4095, found -2"]),
    (
        changed(linux__resources__memory={"limit": -2, "swappiness": 101}),
        [
            "/linux/resources/memory/limit: expected a number of bytes, or -1 for unlimited, found -2",
            "/linux/resources/memory/swappiness: expected an integer from 0 to 100, found 101",
        ],
    ),
    (
        changed(linux__resources__memory={"swap": 5}),
        ['/linux/resources/memory/swap: the limit of memory plus swap needs "limit", the limit of memory'],
    ),
    (
        changed(linux__resources__memory={"swap": 5, "limit": 6}),
        ["/linux/resources/memory/swap: the limit of memory plus swap, 5, is below the limit of memory, 6"],
    ),
    (
        changed(linux__resources__memory={"swap": 5, "limit": -1}),
        [
            (
                "/linux/resources/memory/swap: the limit of memory plus swap, 5, is below the limit of memory, "
                "which is unlimited"
            )
        ],
    ),
    (
        changed(linux__resources__cpu={"quota": 5, "burst": 6, "idle": 2, "cpus": "a", "mems": "0,,1"}),
        [
            "/linux/resources/cpu/burst: the burst 6 is above the quota 5",
            "/linux/resources/cpu/idle: expected 0 or 1, found 2",
            '/linux/resources/cpu/cpus: expected a list of CPUs such as 0-3,7, found the string "a"',
            '/linux/resources/cpu/mems: expected a list of memory nodes such as 0-3,7, found the string "0,,1"',
        ],
    ),
    (
        changed(linux__resources__blockIO={"weightDevice": [{"major": 8, "minor": 0}]}),
        ['/linux/resources/blockIO/weightDevice/0: expected "weight", "leafWeight" or both, found neither'],
    ),
    (
        changed(linux__resources__blockIO={"throttleReadIOPSDevice": [{"major": 8, "minor": 0}]}),
        ['/linux/resources/blockIO/throttleReadIOPSDevice/0: missing the required property "rate"'],
    ),
    (
        changed(linux__resources__hugepageLimits=[{"pageSize": "2MB", "limit": 1}] * 2),
        [
            (
                '/linux/resources/hugepageLimits/1/pageSize: "2MB" is listed twice, '
                "first at /linux/resources/hugepageLimits/0/pageSize"
            )
        ],
    ),
    (
        changed(linux__resources__hugepageLimits=[{"pageSize": "2MB\n", "limit": 1}]),
        [
            (
                "/linux/resources/hugepageLimits/0/pageSize: expected a page size such as 64KB, 2MB or 1GB, "
                'found the string "2MB\\n"'
            )
        ],
    ),
    (
        changed(linux__resources__rdma={"mlx5": {}}),
        ['/linux/resources/rdma/mlx5: expected "hcaHandles", "hcaObjects" or both, found neither'],
    ),
    (
        changed(linux__resources__unified={"../memory.max": "1"}),
        [
            (
                "/linux/resources/unified/..~1memory.max: the specified key has not the form CONTROLLER.VALUE "
                "`../memory.max`, such as memory.high"
            )
        ],
    ),
    # seccomp
    (
        filtered(defaultAction="SCMP_ACT_ALLOW", defaultErrnoRet=1),
        [
            (
                "/linux/seccomp/defaultErrnoRet: the action SCMP_ACT_ALLOW allows no errno, "
                "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"
            )
        ],
    ),
    (
        filtered(syscalls=[{"names": ["x"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536}]),
        ["/linux/seccomp/syscalls/0/errnoRet: expected an integer from 0 to 65535, found 65536"],
    ),
    (
        filtered(
            syscalls=[
                {"names": ["x"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}
            ]
        ),
        ["/linux/seccomp/syscalls/0/args/0/index: expected an integer from 0 to 5, found 6"],
    ),
    (
        filtered(syscalls=[{"names": [], "action": "SCMP_ACT_ALLOW"}]),
        ["/linux/seccomp/syscalls/0/names: expected an array of at least one entry, found an empty array"],
    ),
    (
        filtered(listenerMetadata="x"),
        ['/linux/seccomp/listenerMetadata: "listenerMetadata" must not be set without "listenerPath"'],
    ),
    (
        filtered(
            defaultAction="SCMP_ACT_NOTIFY",
            syscalls=[{"names": ["x"], "action": "SCMP_ACT_ALLOW"}, {"names": ["x"], "action": "SCMP_ACT_NOTIFY"}],
            listenerPath="",
            listenerMetadata="x",
        ),
        [
            '/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY needs "listenerPath", the socket of the agent to notify',
            '/linux/seccomp/syscalls/1/action: SCMP_ACT_NOTIFY needs "listenerPath", the socket of the agent to notify',
            '/linux/seccomp/listenerMetadata: "listenerMetadata" must not be set without "listenerPath"',
        ],
    ),
    (
        filtered(syscalls=[{"names": ["x"], "action": "SCMP_ACT_ALLOW"}] * 8193),
        ["/linux/seccomp/syscalls: there are 8193 entries, more than the limit of 8192"],
    ),
    # other platforms are checked, too
    (changed(windows={}), ['/windows: missing the required property "layerFolders"']),
    (
        changed(windows={"layerFolders": []}),
        ["/windows/layerFolders: expected an array of at least one entry, found an empty array"],
    ),
    (
        changed(freebsd={"jail": {"enforceStatfs": 256}}),
        ["/freebsd/jail/enforceStatfs: expected an integer from 0 to 255, found 256"],
    ),
]


@pytest.mark.parametrize(("document", "expected"), MESSAGES, ids=[wanted[0][:60] for _, wanted in MESSAGES])
def test_message(document: Any, expected: list[str]) -> None:
    """load says exactly this, and so does the full report, which asks another engine."""
    assert expected == problems(document)
    assert expected == [f"{p.where or '/'}: {p.message}" for p in report(json.dumps(document).encode())]


GOOD = [
    changed(),
    changed(process=REMOVED),
    changed(process__user=REMOVED),
    changed(process__terminal=False, process__consoleSize={"height": 2**64 - 1, "width": 0}),
    changed(process__execCPUAffinity={"initial": "0-3, 7", "final": ""}),
    changed(linux__namespaces=namespaces("user"), **MAPPED),
    changed(linux__namespaces=namespaces(user="/proc/1/ns/user"), **MAPPED),
    changed(linux__namespaces=namespaces(user="/proc/1/ns/user")),
    changed(linux__namespaces=namespaces("time"), linux__timeOffsets={"boottime": {"secs": -5, "nanosecs": 999999999}}),
    changed(linux__timeOffsets={}),
    changed(linux__namespaces=namespaces("time"), linux__timeOffsets={"tai": 1}),
    changed(hostname="x", domainname="y", linux__namespaces=namespaces(uts="/x")),
    changed(hostname=""),
    changed(linux__sysctl={"net/ipv4/conf/eth0.1/forwarding": "1", "kernel.sem": "1 2", "fs.mqueue.msg_max": "1"}),
    changed(linux__resources__memory={"limit": 5, "swap": 5, "reservation": -1}),
    changed(linux__resources__memory={"limit": -1, "swap": -1}),
    changed(linux__resources__memory={"swap": 0}),
    changed(linux__resources__cpu={"quota": -1, "burst": 6, "cpus": "0-3,7", "mems": ""}),
    changed(linux__resources__pids={}),
    changed(linux__resources__unified={"memory.high": "x\ny", "hugetlb.2MB.max": "", "io.bfq.weight": "1"}),
    changed(linux__netDevices={}),
    changed(linux__intelRdt={}),
    changed(linux__intelRdt={"closID": "/", "l3CacheSchema": "L3:0=f\nL2:0=f", "enableCMT": True, "enableMBM": 5}),
    changed(
        linux__namespaces=namespaces(network="/x"),
        linux__netDevices={
            "eth0": {"name": "eth1"},
            "eth1": {"name": "eth0"},
            "a": {"name": "x%d"},
            "b": {"name": "x%d"},
            "c": {},
        },
    ),
    filtered(defaultErrnoRet=1, listenerPath="x", listenerMetadata="x"),
    filtered(defaultAction="SCMP_ACT_NOTIFY", listenerPath="x"),
    changed(process__scheduler=DEADLINE),
    changed(
        process__scheduler={**DEADLINE, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        hooks={"startContainer": [{"path": "/x"}]},
    ),
    changed(process__ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
    changed(linux__memoryPolicy={"mode": "MPOL_PREFERRED", "nodes": "0-3, 32767"}),
    device(type="p"),
    rule(),
    rule(type="a", major=-1, minor=-1, access="rrw"),
    mounted(options=["bind"], source="x", uidMappings=[], gidMappings=[]),
    mounted(options=["bind"], source="x", **IDMAP),
    mounted(type="tmpfs", options=["idmap"], **IDMAP),
    changed(
        mounts=[{"destination": "/m", "source": "x", "options": ["rbind", "ridmap"]}],
        linux__namespaces=namespaces("user"),
        **MAPPED,
    ),
    mounted(destination="relative"),
    changed(x={"y": [None, 1.5, {"": 1e300}]}, linux__x=None, process__user__x=[]),
    changed(windows={"layerFolders": ["x"]}, vm={"kernel": {"path": "x"}}),
]


@pytest.mark.parametrize("document", GOOD, ids=range(len(GOOD)))
def test_good(document: Any) -> None:
    """Borders of what the specification allows."""
    assert [] == problems(document)
    assert [] == report(json.dumps(document).encode())


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.3.0-rc.1+x.01", "1.99.0", "1.0.0-x-y.--"])
def test_versions(version: str) -> None:
    """Any 1.x in SemVer, also newer than we know."""
    assert [] == problems(changed(ociVersion=version))


@pytest.mark.parametrize(
    "version",
    [
        *("1", "1.0", "1.0.0.0", "01.0.0", "1.0.00", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "v1.0.0"),
        *(" 1.0.0", "1.0.0\n", "1.0.0-\u00e9", "1.0.0-a_b", "\u0661.0.0", "1..0", "1.0.0+a+b", "-1.0.0"),
        *("0.5.0-dev", "2.0.0", "10.0.0"),
    ],
)
def test_bad_versions(version: str) -> None:
    """No SemVer, or not 1.x."""
    assert [True] == [message.startswith("/ociVersion: ") for message in problems(changed(ociVersion=version))]


def test_semver_equals_its_published_expression() -> None:
    """The check by hand decides as the regular expression that semver.org suggests."""
    expression = re.compile(
        r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
        r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
        re.ASCII,
    )
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=200)
    @given(st.from_regex(expression, fullmatch=True) | st.text("01.-+ax\n", max_size=12))
    def agrees(version: str) -> None:
        assert bool(expression.fullmatch(version)) == checks.is_semver(version)

    agrees()


def test_one_document_with_many_problems() -> None:
    """All are reported, in the order of the text, and one broken part does not hide the others."""
    document = changed(ociVersion=5, process__cwd="x", process__user={"uid": -1}, linux__maskedPaths=["x"], mounts=[{}])
    document["linux"]["namespaces"].append({"type": "ipc"})

    assert [
        "/ociVersion: expected a string, found 5",
        '/process/cwd: expected an absolute path, found the string "x"',
        "/process/user/uid: expected an integer from 0 to 4294967295, found -1",
        '/linux/namespaces/3/type: "ipc" is listed twice, first at /linux/namespaces/1/type',
        '/linux/maskedPaths/0: expected an absolute path, found the string "x"',
        '/mounts/0: missing the required property "destination"',
    ] == problems(document)


TEXT = b"""{
  "ociVersion": "1.2.1",
  "root": {"path": "rootfs"},
  "linux": {"namespaces": [{"type": "mount"}]},
  "process": {
    "cwd": "/", "args": ["\xc3\xa9\xf0\x9f\x98\x80", 5],
    "user": {
      "uid": "root",
      "gid": 1e3
    },
    "rlimits": [{"type": "RLIMIT_CPU",
                 "soft": true}]
  }
}
"""


def test_lines_and_columns() -> None:
    """Each problem tells where its value starts; a missing property, where its object does."""
    expected = [
        "config.json:6:32: /process/args/1: expected a string, found 5",
        'config.json:8:14: /process/user/uid: expected an integer from 0 to 4294967295, found the string "root"',
        "config.json:9:14: /process/user/gid: expected an integer from 0 to 4294967295, found 1e3",
        'config.json:11:17: /process/rlimits/0: missing the required property "hard"',
        "config.json:12:26: /process/rlimits/0/soft: expected an integer from 0 to 18446744073709551615, found true",
    ]
    with pytest.raises(ConfigError) as caught:
        config.load(TEXT)

    assert expected == [str(problem) for problem in caught.value.problems]
    assert expected == [str(problem) for problem in report(TEXT)]
    assert f"{expected[0]} (and 4 more: see `pyoci validate`)" == str(caught.value)


def test_positions() -> None:
    """Values and names by JSON pointer, with escapes; what is not there has the place of what is around it."""
    text = '{\n "a/b": {"~": [1,\n  {"x": 2}]},\n "": 3}'
    places = Positions(text, ["/a~1b/~0/1/x", "/a~1b/~0/1", "/a~1b/~0/7/y", "/", "", "/nothing"])

    assert (3, 9) == places.value("/a~1b/~0/1/x")
    assert (3, 4) == places.name("/a~1b/~0/1/x")
    assert (3, 3) == places.value("/a~1b/~0/1") == places.name("/a~1b/~0/1")
    assert (2, 15) == places.value("/a~1b/~0/7/y")
    assert (4, 6) == places.value("/")
    assert (4, 2) == places.name("/")
    assert (1, 1) == places.value("") == places.value("/nothing")


def test_long_values_are_shortened() -> None:
    """A message stays readable and can't carry escape sequences to a terminal."""
    assert [f'/process/cwd: expected an absolute path, found the string "{"x" * 60}…"'] == problems(
        changed(process__cwd="x" * 500)
    )
    assert ['/process/cwd: expected an absolute path, found the string "\\u001b[2J\\n"'] == problems(
        changed(process__cwd="\x1b[2J\n")
    )


@pytest.mark.parametrize("number", ["1e3", "1.0", "-0.5E-2", f"1.{'0' * 57}", f"1.{'0' * 5000}"])
def test_numbers_are_shown_as_they_are_written(number: str) -> None:
    """Not 1000.0 for 1e3, and not for pages."""
    data = json.dumps(changed(process__user__uid=12345)).replace("12345", number).encode()
    expected = "/process/user/uid: expected an integer from 0 to 4294967295, found "
    expected += number if len(number) < 60 else f"{number[:60]}…"
    with pytest.raises(ConfigError) as caught:
        config.load(data)

    assert expected == str(caught.value)


def test_null_counts_as_absent() -> None:
    """A config full of nulls is the config without them."""
    document = changed()
    with_nulls = changed(
        hostname=None, mounts=None, hooks=None, annotations=None, process__env=None, process__user__umask=None
    )
    with_nulls["linux"] |= {"seccomp": None, "resources": {"memory": None, "devices": [{"allow": True, "type": None}]}}

    loaded, _ = config.load(json.dumps(with_nulls).encode())

    assert {"memory", "hostname", "type"}.isdisjoint(loaded["linux"]["resources"]["devices"][0])
    assert document | {"linux": loaded["linux"]} == loaded
    assert ['/: missing the required property "root"'] == problems(changed(root=None))
    assert ["/process/args/0: expected a string, found null"] == problems(changed(process__args=[None]))


def test_what_engines_send_becomes_what_the_specification_has() -> None:
    """File type bits leave a device's mode, and a recursive propagation of the root its `r`."""
    document = device(fileMode=0o20666)
    document["linux"]["rootfsPropagation"] = "rslave"

    loaded, _ = config.load(json.dumps(document).encode())

    assert (0o666, "slave") == (loaded["linux"]["devices"][0]["fileMode"], loaded["linux"]["rootfsPropagation"])


def test_unknown_capabilities_are_warnings() -> None:
    """They don't fail (the specification says so since 1.1.0), and each is named."""
    sets = {"bounding": ["CAP_KILL", "CAP_FOO"], "ambient": ["cap_kill"], "other": ["X"]}
    _, warnings = config.load(json.dumps(changed(process__capabilities=sets)).encode())

    assert [
        '/process/capabilities/bounding/1: the unknown capability "CAP_FOO" is ignored',
        '/process/capabilities/ambient/0: the unknown capability "cap_kill" is ignored',
    ] == warnings


def test_process_json() -> None:
    """A process.json has the rules of `process`, with pointers of its own."""
    process, warnings = config.load_process(
        b'{"cwd": "/", "args": ["sh"], "env": null, "capabilities": {"bounding": ["CAP_X"]}}'
    )

    assert {"cwd": "/", "args": ["sh"], "capabilities": {"bounding": ["CAP_X"]}} == process
    assert ['/capabilities/bounding/0: the unknown capability "CAP_X" is ignored'] == warnings
    document = {"cwd": "x", "user": {"uid": 0}, "env": [1], "rlimits": [], "scheduler": {"policy": "SCHED_FIFO"}}
    expected = [
        '/: expected "args" with at least one entry',
        '/cwd: expected an absolute path, found the string "x"',
        '/user: missing the required property "gid"',
        "/scheduler: SCHED_FIFO needs a priority from 1 to 99, found 0",
    ]
    assert ["/env/0: expected a string, found 1"] == [m for m in problems(document, config.load_process) if "env" in m]
    del document["env"]
    assert expected == problems(document, config.load_process)
    assert expected == [f"{p.where or '/'}: {p.message}" for p in report(json.dumps(document).encode(), process=True)]


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.json")), ids=lambda path: path.stem)
def test_configs_of_engines(path: Path) -> None:
    """What the engines write is accepted without a word."""
    data = path.read_bytes()

    assert (json.loads(data), []) == config.load(data)
    assert [] == report(data)


# ── Bytes that mean harm ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", TEXT[:100], b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"[" * 100_000, b"\0" * 100]
)
def test_not_a_document(data: bytes) -> None:
    """Empty, truncated, in another encoding or nested too deeply: one clear line."""
    with pytest.raises(ConfigError) as caught:
        config.load(data)

    assert "\n" not in str(caught.value)
    assert report(data)


INTEGERS = ["process__user__uid", "linux__resources__pids__limit", "process__rlimits"]


@pytest.mark.parametrize(
    "value", ["1.0", "1e3", "true", "-9223372036854775809", "1" * 1_000_000, "18446744073709551616"]
)
@pytest.mark.parametrize("place", INTEGERS)
def test_not_an_integer(place: str, value: str) -> None:
    """Floats, exponents, booleans and what is out of range, in each kind of integer: an error with its pointer."""
    mark = 987654321
    document = changed(**{place: [{"type": "RLIMIT_CPU", "soft": mark, "hard": 2}] if place == INTEGERS[2] else mark})
    data = json.dumps(document).replace(str(mark), value).encode()
    with pytest.raises(ConfigError) as caught:
        config.load(data)

    pointer = "/" + place.replace("__", "/") + ("/0/soft" if place == INTEGERS[2] else "")
    assert [pointer] == [problem.where for problem in caught.value.problems]
    assert [pointer] == [problem.where for problem in report(data)]


STRINGS = {
    "/process/args/0": changed(process__args=["X"]),
    "/process/env/0": changed(process__env=["A=X"]),
    "/process/cwd": changed(process__cwd="/X"),
    "/root/path": changed(root__path="X"),
    "/hostname": changed(hostname="X"),
    "/mounts/0/destination": mounted(destination="/X"),
    "/annotations/a": changed(annotations={"a": "X"}),
    "/annotations/X": changed(annotations={"X": "a"}),
}


@pytest.mark.parametrize("hidden", ["\\u0000", "\\ud800", "\\udfff", "\\uDC00\\uD800"])
@pytest.mark.parametrize("pointer", STRINGS)
def test_strings_that_the_kernel_reads_otherwise(pointer: str, hidden: str) -> None:
    """NUL and lone surrogates, wherever a string stands."""
    with pytest.raises(ConfigError) as caught:
        config.load(json.dumps(STRINGS[pointer]).replace("X", hidden).encode())

    where = caught.value.problems[0].where
    assert where == pointer or pointer == "/annotations/X"


def test_repeated_process() -> None:
    """Two processes in one config: another reader could use the second one."""
    data = json.dumps(changed()).replace('"root"', '"process": {"cwd": "/", "args": ["x"]}, "root"').encode()
    with pytest.raises(ConfigError, match='/process: the name "process" is repeated in this object'):
        config.load(data)


# ── Names ───────────────────────────────────────────────────────────────────────────────────────────────


def test_capabilities_have_the_kernel_s_numbers() -> None:
    """41 of them, from 0 to 40, and the ends and the middle where linux/capability.h has them."""
    assert list(range(41)) == list(constants.CAPABILITIES.values())
    assert (0, 12, 21, 29, 40) == tuple(
        constants.CAPABILITIES[f"CAP_{name}"]
        for name in ("CHOWN", "NET_ADMIN", "SYS_ADMIN", "AUDIT_WRITE", "CHECKPOINT_RESTORE")
    )


def test_rlimits_have_the_kernel_s_numbers() -> None:
    """As the standard library has them from the C headers."""
    assert 16 == len(constants.RLIMITS)
    for name, number in constants.RLIMITS.items():
        if hasattr(resource, name):
            assert getattr(resource, name) == number


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel", "kernel"),
        ("net.ipv4.conf.a@b:c-d.x", "net/ipv4/conf/a@b:c-d/x"),
        *((bad, "") for bad in ("", ".", "/net", "net/", "net..x", "net//x", "net/../kernel", "net/./x", "net.x y")),
        *((bad, "") for bad in ("net.\u00e9", "net.x\n", "net.//.kernel", "kernel/../net/x", "net.x*")),
    ],
)
def test_sysctl_path(key: str, path: str) -> None:
    """Either separator, never a way out of /proc/sys."""
    assert path == constants.sysctl_path(key)


@pytest.mark.parametrize(
    ("key", "namespace"),
    [
        *((key, "network") for key in ("net.ipv4.ip_forward", "net/core/somaxconn")),
        *((f"kernel.{name}", "ipc") for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")),
        *((key, "ipc") for key in ("kernel.shm_rmid_forced", "fs.mqueue.msg_max", "fs/mqueue/queues_max")),
        *(("kernel.domainname", "uts"), ("user.max_user_namespaces", "user")),
        *(
            (key, "")
            for key in ("kernel.core_pattern", "net", "vm.swappiness", "fs.mqueue", "network.x", "kernel.semx")
        ),
    ],
)
def test_sysctl_namespace(key: str, namespace: str) -> None:
    """What may be set is what a namespace isolates."""
    assert namespace == constants.sysctl_namespace(constants.sysctl_path(key))


# ── Scheduler and memory policy ────────────────────────────────────────────────────────────────────────

SCHEDULERS = [
    ({"policy": "SCHED_RR", "priority": 100}, "/priority: SCHED_RR needs a priority from 1 to 99, found 100"),
    ({"policy": "SCHED_BATCH", "priority": 1}, "/priority: SCHED_BATCH allows no priority, found 1"),
    ({"policy": "SCHED_ISO"}, "/policy: SCHED_ISO is reserved: no kernel implements it"),
    ({"policy": "SCHED_IDLE", "runtime": 1}, ": SCHED_IDLE allows no runtime, deadline or period"),
    (
        {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1023},
        ": SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period (ns), found 1024, 1023 and 0",
    ),
]
POLICIES = [
    ({"mode": "MPOL_BIND"}, ": MPOL_BIND needs nodes"),
    ({"mode": "MPOL_BIND", "nodes": ""}, "/nodes: MPOL_BIND needs nodes"),
    ({"mode": "MPOL_LOCAL", "nodes": "0"}, '/nodes: MPOL_LOCAL allows no nodes, found the string "0"'),
    (
        {"mode": "MPOL_BIND", "nodes": "1,5-32768"},
        '/nodes: expected nodes from 0 to 32767, found the string "1,5-32768"',
    ),
    (
        {"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]},
        "/flags: MPOL_LOCAL without nodes allows neither MPOL_F_RELATIVE_NODES nor MPOL_F_STATIC_NODES",
    ),
    ({"mode": "MPOL_BIND", "nodes": "x"}, '/nodes: expected a list of nodes such as 0-3,7, found the string "x"'),
    (
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
        "/flags: MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other",
    ),
    (
        {"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_NUMA_BALANCING"]},
        "/flags: MPOL_F_NUMA_BALANCING needs MPOL_BIND or MPOL_PREFERRED_MANY, found MPOL_DEFAULT",
    ),
]


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [(checks.check_scheduler, *case) for case in SCHEDULERS]
    + [(checks.check_memory_policy, *case) for case in POLICIES],
    ids=[case[1] for case in (*SCHEDULERS, *POLICIES)],
)
def test_rules_of_the_kernel(check: Any, value: Any, message: str) -> None:
    """What it would refuse for certain is refused before anything is made."""
    said: list[str] = []
    check(value, "", lambda where, text: said.append(f"{where}: {text}"))

    assert [message] == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"cwd": "/", "args": [""]}', "/args/0: expected the name of a program, found an empty string: executable file not found in $PATH"),
        ('{"cwd": "/", "args": [""]}\n', "/args/0: expected the name of a program, found an empty string: executable file not found in $PATH"),
        ('{"cwd": "/", "args": [5], "env": 5}', "/args/0: expected a string, found 5 (and 1 more: see `pyoci validate`)"),
        ('{"cwd": "/",\n"args": [5]}', "p.json:2:10: /args/0: expected a string, found 5"),
        ('{"args": ["a"]}', "p.json:1:1: /: missing the required property \"cwd\""),
        ('{"cwd": "/", "args": ["a",]}', 'p.json:1:26: /args: a comma is not allowed before "]"'),
        ('{"cwd": "/", "cwd": "/"}', 'p.json:1:14: /cwd: the name "cwd" is repeated in this object'),
    ],
)  # fmt: skip
def test_column_is_left_out_where_the_pointer_says_more(text: str, expected: str) -> None:
    """Engines write one line. Only invalid JSON gets a place there; the report of `validate` has all places."""
    with pytest.raises(ConfigError) as caught:
        config.load_process(text.encode(), "p.json")

    assert expected == str(caught.value)
    assert all(str(problem).startswith("p.json:") for problem in report(text.encode(), "p.json", process=True))


def test_the_file_is_named_by_its_own_name() -> None:
    """A config need not be config.json; and text that is in no file has no place."""
    for read, expected in (
        (lambda: config.load(b"{}", "other.json"), "other.json:1:1: /: missing the required property"),
        (lambda: config.load_process(b"{", "a.json"), "a.json:1:2: /: "),
        (lambda: config.load_process(b'{"cwd": "x", "args": ["a"]}', ""), "/cwd: expected an absolute path"),
    ):
        with pytest.raises(ConfigError) as caught:
            read()
        assert str(caught.value).startswith(expected)
    assert str(report(b"[]", "other.json")[0]).startswith("other.json:1:1: ")
