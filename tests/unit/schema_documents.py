"""Documents for the tests of the schemas: a config with every property there is, and what mutating it makes."""

import copy
from collections.abc import Iterator
from typing import Any

DEVICE = {"major": 8, "minor": 0}
MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]
HOOK = [{"path": "/bin/hook", "args": ["hook"], "env": ["A=b"], "timeout": 1}]
STRINGS = ["x"]
KINDS_OF_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

# Values that a mutation puts in the place of another: of every type, around every bound, against every pattern.
REPLACEMENTS: list[Any] = [
    *(True, 0, 1, -1, 7, 511, 512, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1),
    *(2**32 - 1, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 1.0, 1.5),
    *("", "x", "RLIMIT_CPU", "RLIMIT_CPU\n", "RLIMIT_", "MB:0=1", "MB:0=1\n", "2MB", "64kB", "2MB\n", "02MB"),
    *("c", "c\n", "0-3, 7", "0-3\n", "mount", "LINUX", "rw\n"),
    *([], ["x"], [1], [None], [[]], [{}], {}, {"x": 1}, {"x": "y"}, {"": 1}, {"x": {}}),
]


def every_property() -> dict[str, Any]:
    """A config that is valid by the schema and has every property that the schema knows."""
    return copy.deepcopy(_EVERYTHING)


def mutations() -> Iterator[dict[str, Any]]:
    """Parts of that config in which one value is replaced or missing, thousands of them. Don't change them."""
    for part in _parts():
        for path, node in _nodes(part):
            if not path:
                continue
            for replacement in REPLACEMENTS:
                yield _replaced(part, path, replacement)
            if not isinstance(path[-1], int):
                yield _replaced(part, path, _REMOVE)
            if isinstance(node, dict):
                yield _replaced(part, path, {**node, "unknown": [1.5, {"": None}]})


_REMOVE = object()


def _parts() -> Iterator[dict[str, Any]]:
    """One part of the config in each, so that the documents are small."""
    for name, value in _EVERYTHING.items():
        if name == "linux":
            for key, inner in value.items():
                if key == "resources":
                    for resource, limits in inner.items():
                        yield {"ociVersion": "1.0.0", "linux": {"resources": {resource: limits}}}
                else:
                    yield {"ociVersion": "1.0.0", "linux": {key: inner}}
        elif name == "process":
            for key, inner in value.items():
                yield {"ociVersion": "1.0.0", "process": {"cwd": "/", key: inner}}
        else:
            yield {"ociVersion": "1.0.0", name: value}


def _nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from _nodes(value, (*path, key))


def _replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of `node` with `value` at `path`; what is not on the way is shared."""
    if not path:
        return value
    result = node.copy()
    inner = _replaced(node[path[0]], path[1:], value)
    if inner is _REMOVE:
        del result[path[0]]
    else:
        result[path[0]] = inner
    return result


_EVERYTHING: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "annotations": {"com.example/x": "y", "": ""},
    "mounts": [
        {
            "destination": "/proc",
            "source": "proc",
            "type": "proc",
            "options": STRINGS,
            "uidMappings": MAPPING,
            "gidMappings": MAPPING,
        }
    ],
    "hooks": dict.fromkeys(KINDS_OF_HOOKS, HOOK),
    "process": {
        "cwd": "/",
        "args": STRINGS,
        "commandLine": "x",
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "env": ["A=b"],
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5], "username": "x"},
        "capabilities": {
            kind: ["CAP_KILL"] for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")
        },
        "apparmorProfile": "x",
        "selinuxLabel": "x",
        "oomScoreAdj": 2**70,
        "noNewPrivileges": False,
        "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 0},
        "scheduler": {
            "policy": "SCHED_FIFO",
            "nice": 0,
            "priority": 1,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 0,
            "deadline": 0,
            "period": 0,
        },
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
        "execCPUAffinity": {"initial": "0-3, 7", "final": ""},
    },
    "linux": {
        "devices": [{"type": "c", "path": "/dev/x", **DEVICE, "fileMode": 438, "uid": 0, "gid": 0}],
        "netDevices": {"eth0": {"name": "eth1"}, "": {}},
        "uidMappings": MAPPING,
        "gidMappings": MAPPING,
        "namespaces": [{"type": "mount"}, {"type": "network", "path": "/x"}],
        "resources": {
            "unified": {"memory.high": "1", "": ""},
            "devices": [{"allow": True, "type": "c", **DEVICE, "access": "rwm"}],
            "pids": {"limit": 5},
            "memory": {
                "limit": 1,
                "reservation": 1,
                "swap": 1,
                "kernel": -1,
                "kernelTCP": -1,
                "swappiness": 60,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": False,
            },
            "cpu": {
                "shares": 2,
                "period": 1,
                "burst": 1,
                "realtimePeriod": 1,
                "quota": 1,
                "realtimeRuntime": 1,
                "idle": 0,
                "cpus": "0",
                "mems": "0",
            },
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{**DEVICE, "weight": 1, "leafWeight": 1}],
                "throttleReadBpsDevice": [{**DEVICE, "rate": 1}],
                "throttleWriteBpsDevice": [{**DEVICE, "rate": 1}],
                "throttleReadIOPSDevice": [{**DEVICE, "rate": 1}],
                "throttleWriteIOPSDevice": [{**DEVICE, "rate": 1}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 1}, "": {}},
        },
        "cgroupsPath": "/x",
        "rootfsPropagation": "slave",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "x",
            "listenerMetadata": "x",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [
                {
                    "names": STRINGS,
                    "action": "SCMP_ACT_ALLOW",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1", "": ""},
        "maskedPaths": ["/x"],
        "readonlyPaths": ["/x"],
        "mountLabel": "x",
        "intelRdt": {
            "closID": "x",
            "schemata": ["x"],
            "l3CacheSchema": "L3:0=f",
            "memBwSchema": "MB:0=1",
            "enableMonitoring": True,
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX", "flags": ["x"]},
        "timeOffsets": {
            "boottime": {"secs": -1, "nanosecs": 1},
            "monotonic": {"secs": 1, "nanosecs": 1},
        },
    },
    "windows": {
        "layerFolders": STRINGS,
        "devices": [{"id": "x", "idType": "class"}],
        "resources": {
            "memory": {"limit": 1},
            "cpu": {"count": 1, "shares": 1, "maximum": 1, "affinity": {"mask": 1, "group": 1}},
            "storage": {"iops": 1, "bps": 1, "sandboxSize": 1},
        },
        "network": {
            "endpointList": STRINGS,
            "DNSSearchList": STRINGS,
            "allowUnqualifiedDNSQuery": True,
            "networkSharedContainerName": "x",
            "networkNamespace": "x",
        },
        "credentialSpec": {"x": 1},
        "servicing": True,
        "ignoreFlushesDuringBoot": True,
        "hyperv": {"utilityVMPath": "x"},
    },
    "vm": {
        "kernel": {"path": "x", "parameters": STRINGS, "initrd": "x"},
        "hypervisor": {"path": "x", "parameters": STRINGS},
        "image": {"path": "x", "format": "raw"},
        "hwConfig": {
            "deviceTree": "x",
            "vcpus": 1,
            "memory": 1,
            "dtdevs": STRINGS,
            "irqs": [1],
            "iomems": [{"firstGFN": 1, "firstMFN": 1, "nrMFNs": 1}],
        },
    },
    "solaris": {
        "milestone": "x",
        "limitpriv": "x",
        "maxShmMemory": "x",
        "cappedCPU": {"ncpus": "x"},
        "cappedMemory": {"physical": "x", "swap": "x"},
        "anet": [
            {
                "linkname": "x",
                "lowerLink": "x",
                "allowedAddress": "x",
                "configureAllowedAddress": "x",
                "defrouter": "x",
                "macAddress": "x",
                "linkProtection": "x",
            }
        ],
    },
    "zos": {"namespaces": [{"type": "mount", "path": "x"}]},
    "freebsd": {
        "devices": [{"path": "x", "mode": 438}],
        "jail": {
            "parent": "x",
            "interface": "x",
            "host": "new",
            "vnet": "inherit",
            "ip4": "disable",
            "ip6": "new",
            "sysvmsg": "new",
            "sysvsem": "new",
            "sysvshm": "new",
            "ip4Addr": STRINGS,
            "ip6Addr": STRINGS,
            "vnetInterfaces": STRINGS,
            "enforceStatfs": 2,
            "allow": {
                "setHostname": True,
                "rawSockets": True,
                "chflags": True,
                "quotas": True,
                "socketAf": True,
                "mlock": True,
                "reservedPorts": True,
                "suser": True,
                "mount": STRINGS,
            },
        },
    },
}
