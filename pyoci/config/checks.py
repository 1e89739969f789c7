"""What the specification's prose demands, and what the kernel will certainly reject, beyond the schema.

One function for each part of config.json, which reads that part alone; SECTIONS and ACROSS at the end say which. A
check runs when the schema has no fault in what it reads, and reports every problem with its JSON pointer. Questions to
the host (whether a path exists, which controllers are available) are asked elsewhere.
"""

from itertools import pairwise

from pyoci import linux, ranges
from pyoci.config import constants
from pyoci.config.messages import alternatives, found, mismatch, missing, show
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar

    from pyoci import types

    Report = Callable[[str, str], object]  # (JSON pointer, message)
    Check = Callable[[Any, str, Report], None]  # (the section, its JSON pointer, where problems go)
    IdMaps = Literal["uidMappings", "gidMappings"]
    Id = Literal["uid", "gid"]
    Numbered = types.Device | types.DeviceRule | types.WeightDevice | types.Throttle
    T = TypeVar("T")

NO_ID = 0xFFFFFFFF  # (uid_t) -1: to the kernel it means "keep the present id"
PERMISSIONS = 0o777

# Bounds that no honest config comes near, so that a hostile one can't exhaust the runtime.
MAX_MOUNTS = 16384
MAX_STRINGS = 65536
MAX_HINTS = 8
MAX_HOOKS = 1024
MAX_DEVICES = 1024
MAX_SYSCALLS = 8192
MAX_ANNOTATIONS = 1024 * 1024
MAX_SYSCTL = 4096
MAX_ID_MAPPINGS = 340  # lines of /proc/PID/uid_map, user_namespaces(7)
MAX_NAME = 64  # bytes of a host or domain name: __NEW_UTS_LEN of the kernel
# execve(2): three quarters of the default stack limit for all strings, 32 pages for one
MAX_ARGUMENTS = 6 * 1024 * 1024
MAX_ARGUMENT = 128 * 1024
MAX_INT64 = 2**63 - 1
MAX_NODE = 32767  # of the largest node mask that the kernel accepts, a page

NOTIFY = "SCMP_ACT_NOTIFY"

ID_MAPS: "tuple[IdMaps, ...]" = ("uidMappings", "gidMappings")
IDS: "tuple[Id, ...]" = ("uid", "gid")
ID_RANGES: "tuple[Literal['containerID', 'hostID'], ...]" = ("containerID", "hostID")
MEMORY_LIMITS: "tuple[Literal['limit', 'reservation', 'swap', 'kernel', 'kernelTCP'], ...]" = (
    *("limit", "reservation", "swap", "kernel", "kernelTCP"),
)
THROTTLES: (
    "tuple[Literal['throttleReadBpsDevice', 'throttleWriteBpsDevice', 'throttleReadIOPSDevice', "
    "'throttleWriteIOPSDevice'], ...]"
) = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")

# ── Top ─────────────────────────────────────────────────────────────────────────────────────────────────


def check_version(version: str, at: str, report: "Report") -> None:
    if not is_semver(version):
        report(at, mismatch("a version in SemVer 2.0.0 such as 1.2.1", version))
    elif version.partition(".")[0] != "1":
        report(at, mismatch("version 1.x of the specification", version))


def is_semver(version: str) -> bool:
    """Whether `version` is a version in SemVer 2.0.0 (semver.org)."""
    version, plus, build = version.partition("+")
    version, hyphen, prerelease = version.partition("-")
    parts = version.split(".")
    if len(parts) != 3 or not all(_is_number(part) for part in parts):
        return False
    if hyphen and not all(_is_identifier(part, numbers=True) for part in prerelease.split(".")):
        return False
    return not plus or all(_is_identifier(part, numbers=False) for part in build.split("."))


def _is_number(text: str) -> bool:
    return bool(text) and not text.strip("0123456789") and (text == "0" or text[0] != "0")


def _is_identifier(text: str, *, numbers: bool) -> bool:
    """Whether `text` is a dotted identifier of SemVer. With `numbers`, digits alone must not start with 0."""
    plain = text.replace("-", "")
    if not text or not (not plain or (plain.isascii() and plain.isalnum())):
        return False
    return not numbers or bool(text.strip("0123456789")) or _is_number(text)


def check_root(config: "types.Config", at: str, report: "Report") -> None:
    if "root" not in config:
        report(at, missing("root"))
    elif not config["root"]["path"]:
        report(f"{at}/root/path", mismatch("a path", ""))


def check_name(name: str, at: str, report: "Report") -> None:
    """A hostname or domainname."""
    if len(name.encode()) > MAX_NAME:
        report(at, f"the name has {len(name.encode())} bytes, the kernel accepts at most {MAX_NAME}")


def check_annotations(annotations: "Mapping[str, str]", at: str, report: "Report") -> None:
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value) if type(value) is str else 0
        if not key:
            report(f"{at}/", "the name of an annotation must not be empty")
    if size > MAX_ANNOTATIONS:
        report(at, f"the annotations have {size} characters, more than the limit of {MAX_ANNOTATIONS}")


def check_mounts(mounts: "list[types.Mount]", at: str, report: "Report") -> None:
    for i, mount in enumerate(up_to(MAX_MOUNTS, mounts, at, report)):
        if not mount["destination"]:
            report(f"{at}/{i}/destination", mismatch("a path in the container", ""))
        options = mount.get("options", ())
        binds = ("bind" in options or "rbind" in options) and "remount" not in options
        if binds and not mount.get("source"):
            report(f"{at}/{i}", f"{missing('source')}: a bind mount needs one")
        check_mount_mappings(mount, f"{at}/{i}", report)


def check_mount_mappings(mount: "types.Mount", at: str, report: "Report") -> None:
    given = [name for name in ID_MAPS if mount.get(name)]
    for name in ID_MAPS:
        if name in given:
            check_id_mappings(mount[name], f"{at}/{name}", report)
        elif given:
            report(
                f"{at}/{name}" if name in mount else at,
                f"{missing(name)}: the id mappings of a mount come as a pair",
            )


def check_idmapped_mounts(config: "types.Config", at: str, report: "Report") -> None:
    """An idmapped mount needs mappings, either the mount's or the user namespace's, and must not be a remount."""
    namespaces = config.get("linux", {}).get("namespaces", ())
    has_users = any(namespace["type"] == "user" for namespace in namespaces)
    for i, mount in enumerate(config.get("mounts", [])[:MAX_MOUNTS]):
        options = mount.get("options", ())
        asked = [f"{at}/mounts/{i}/options/{j}" for j, option in enumerate(options) if option in ("idmap", "ridmap")]
        mapped = bool(mount.get("uidMappings") or mount.get("gidMappings"))
        if mapped:
            asked.append(f"{at}/mounts/{i}")
        if not asked:
            continue
        if "remount" in options:
            report(asked[0], "a remount can't change the id mapping of a mount")
        elif not mapped and not has_users:
            report(
                asked[0],
                'an idmapped mount needs "uidMappings" and "gidMappings", or a namespace of type user in '
                "/linux/namespaces",
            )
        elif has_users and not {"bind", "rbind"} & set(options):
            report(asked[0], "a filesystem that is created in the container's user namespace can't be idmapped")


def check_hooks(hooks: "list[types.Hook]", at: str, report: "Report") -> None:
    for i, hook in enumerate(up_to(MAX_HOOKS, hooks, at, report)):
        check_absolute(hook["path"], f"{at}/{i}/path", report)
        check_environment(hook.get("env", []), f"{at}/{i}/env", report)
        if hook.get("timeout", 1) > MAX_INT64:
            report(f"{at}/{i}/timeout", mismatch(f"an integer from 1 to {MAX_INT64}", hook["timeout"]))


# ── Process ─────────────────────────────────────────────────────────────────────────────────────────────


def check_arguments(process: "types.Process", at: str, report: "Report") -> None:
    """args, and whether execve(2) accepts args and env."""
    if not process.get("args"):
        report(f"{at}/args" if "args" in process else at, 'expected "args" with at least one entry')
    elif not process["args"][0]:
        # with the words by which engines recognise a missing program
        report(f"{at}/args/0", mismatch("the name of a program", "") + ": executable file not found in $PATH")
    total = 0
    for name, strings in (("args", process.get("args", [])), ("env", process.get("env", []))):
        for i, string in enumerate(up_to(MAX_STRINGS, strings, f"{at}/{name}", report)):
            size = (len(string) if string.isascii() else len(string.encode())) + 1
            total += size + 8  # the string, and the pointer to it
            if size > MAX_ARGUMENT:
                report(f"{at}/{name}/{i}", f"the string has {size} bytes, execve accepts at most {MAX_ARGUMENT}")
    if total > MAX_ARGUMENTS:
        report(at, f"args and env need {total} bytes, execve accepts at most {MAX_ARGUMENTS}")


def check_environment(environment: list[str], at: str, report: "Report") -> None:
    for i, variable in enumerate(environment[:MAX_STRINGS]):
        if variable.find("=") < 1:
            report(f"{at}/{i}", mismatch("a variable as NAME=VALUE", variable))


def check_user(user: "types.User", at: str, report: "Report") -> None:
    for name in IDS:
        if name not in user:
            report(at, missing(name))
        elif user[name] == NO_ID:
            report(f"{at}/{name}", mismatch("an id from 0 to 4294967294", NO_ID))
    if user.get("umask", 0) > PERMISSIONS:
        report(f"{at}/umask", mismatch("permission bits from 0 to 511 (octal 777)", user["umask"]))
    for i, gid in enumerate(up_to(MAX_STRINGS, user.get("additionalGids", []), f"{at}/additionalGids", report)):
        if gid == NO_ID:
            report(f"{at}/additionalGids/{i}", mismatch("an id from 0 to 4294967294", gid))


def check_oom_score(score: int, at: str, report: "Report") -> None:
    if not -1000 <= score <= 1000:
        report(at, mismatch("an integer from -1000 to 1000", score))


def check_terminal(process: "types.Process", at: str, report: "Report") -> None:
    """consoleSize, which is ignored without a terminal. struct winsize has 16 bits for each number."""
    size = process.get("consoleSize")
    if size and process.get("terminal"):
        for name, number in (("height", size["height"]), ("width", size["width"])):
            if number > 0xFFFF:
                report(f"{at}/consoleSize/{name}", mismatch("an integer from 0 to 65535", number))


def check_rlimits(limits: "list[types.Rlimit]", at: str, report: "Report") -> None:
    seen: dict[str, int] = {}
    for i, limit in enumerate(limits):
        kind = limit["type"]
        if kind not in constants.RLIMITS:
            report(f"{at}/{i}/type", mismatch("a resource of getrlimit(2) such as RLIMIT_NOFILE", kind))
        check_unique(kind, i, seen, f"{at}/{{}}/type", report)
        if limit["soft"] > limit["hard"]:
            report(f"{at}/{i}/soft", f"the soft limit {limit['soft']} is above the hard limit {limit['hard']}")


def check_scheduler(scheduler: "types.Scheduler", at: str, report: "Report") -> None:
    policy, priority = scheduler["policy"], scheduler.get("priority", 0)
    if not -20 <= scheduler.get("nice", 0) <= 19:
        report(f"{at}/nice", mismatch("an integer from -20 to 19", scheduler["nice"]))
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            report(
                f"{at}/priority" if "priority" in scheduler else at,
                f"{policy} needs a priority from 1 to 99, found {found(priority)}",
            )
    elif priority:
        report(f"{at}/priority", f"{policy} allows no priority, found {found(priority)}")
    if policy == "SCHED_ISO":
        report(f"{at}/policy", "SCHED_ISO is reserved: no kernel implements it")
    runtime, deadline, period = scheduler.get("runtime", 0), scheduler.get("deadline", 0), scheduler.get("period", 0)
    if policy == "SCHED_DEADLINE":
        if not 1024 <= runtime <= deadline <= (period or deadline) <= MAX_INT64:
            report(
                at,
                f"SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period (ns), found {runtime}, "
                f"{deadline} and {period}",
            )
    elif runtime or deadline or period:
        report(at, f"{policy} allows no runtime, deadline or period")


def check_deadline(config: "types.Config", at: str, report: "Report") -> None:
    """sched(7): a thread with SCHED_DEADLINE can fork only if its children get another policy."""
    scheduler, hooks = config.get("process", {}).get("scheduler", {}), config.get("hooks", {})
    if scheduler.get("policy") == "SCHED_DEADLINE" and hooks.get("startContainer"):
        flags = scheduler.get("flags", [])
        if "SCHED_FLAG_RESET_ON_FORK" not in flags:
            report(
                f"{at}/process/scheduler",
                "a process with SCHED_DEADLINE can't run the startContainer hooks without SCHED_FLAG_RESET_ON_FORK",
            )


def check_io_priority(priority: "types.IoPriority", at: str, report: "Report") -> None:
    if "priority" not in priority:
        report(at, missing("priority"))
    elif not 0 <= priority["priority"] <= 7:
        report(f"{at}/priority", mismatch("an integer from 0 to 7", priority["priority"]))


def check_affinity(affinity: "types.ExecCPUAffinity", at: str, report: "Report") -> None:
    for name, cpus in (("initial", affinity.get("initial")), ("final", affinity.get("final"))):
        if cpus and not ranges.is_valid(cpus):
            report(f"{at}/{name}", mismatch("a list of CPUs such as 0-3,7", cpus))


def unknown_capabilities(process: "types.Process | None", at: str) -> list[str]:
    """Warnings about unknown capabilities, which the specification does not make an error (section "Linux Process")."""
    warnings: list[str] = []
    sets: Mapping[str, object] = process.get("capabilities", {}) if process else {}
    for kind, names in sets.items():
        if kind in constants.CAPABILITY_SETS and isinstance(names, list):
            warnings += _unknown_names(names, f"{at}/capabilities/{kind}", MAX_HINTS - len(warnings))
    return warnings


def _unknown_names(names: list[str], at: str, max_hints: int) -> list[str]:
    if constants.CAPABILITIES.keys() >= set(names):
        return []
    from pyoci.config import spelling

    warnings: list[str] = []
    for i, name in enumerate(names):
        if name not in constants.CAPABILITIES:
            hint = spelling.hint(name, constants.CAPABILITIES) if len(warnings) < max_hints else ""
            warning = f"{at}/{i}: the unknown capability {show(name)} is ignored"
            warnings.append(f"{warning} (hint: {hint})" if hint else warning)
    return warnings


# ── Linux ───────────────────────────────────────────────────────────────────────────────────────────────


def check_mount_namespace(config: "types.Config", at: str, report: "Report") -> None:
    """Without a mount namespace, the container uses the runtime's, and pyoci must not mount anything there."""
    process, linux = config.get("process", {}), config.get("linux", {})
    if any(each["type"] == "mount" for each in linux.get("namespaces", [])):
        return
    users = [f"linux/namespaces/{i}" for i, each in enumerate(linux.get("namespaces", [])) if each["type"] == "user"]
    asked = {
        "mounts": config.get("mounts"),
        "process/terminal": process.get("terminal"),
        **{f"linux/{name}": linux.get(name) for name in ("maskedPaths", "readonlyPaths", "rootfsPropagation")},
        **dict.fromkeys(users, True),
    }
    for name, value in asked.items():
        if value:
            report(
                f"{at}/{name}",
                "this needs a namespace of type mount in /linux/namespaces: pyoci does not change the host's mounts",
            )


def check_namespaces(config: "types.Config", at: str, report: "Report") -> None:
    """linux.namespaces, and the properties that need one of them."""
    linux = config.get("linux", {})
    namespaces = linux.get("namespaces", [])
    seen: dict[str, int] = {}
    for i, namespace in enumerate(namespaces):
        check_unique(namespace["type"], i, seen, f"{at}/linux/namespaces/{{}}/type", report)
        if namespace.get("path"):  # Go programs write an empty path for none
            check_absolute(namespace["path"], f"{at}/linux/namespaces/{i}/path", report)
    for name in ("hostname", "domainname"):
        if config.get(name) and "uts" not in seen:
            report(
                f"{at}/{name}",
                f"the {name} needs a namespace of type uts in /linux/namespaces: pyoci does not change the host's",
            )
    check_user_namespace(linux, namespaces[seen["user"]] if "user" in seen else None, report)
    check_time_offsets(linux.get("timeOffsets", {}), namespaces[seen["time"]] if "time" in seen else None, report)
    check_sysctls(linux.get("sysctl", {}), seen, config.get("domainname", ""), report)


def check_user_namespace(linux: "types.Linux", user: "types.Namespace | None", report: "Report") -> None:
    for name in ID_MAPS:
        mappings = linux.get(name, [])
        check_id_mappings(mappings, f"/linux/{name}", report)
        if mappings and user is None:
            report(f"/linux/{name}", "id mappings need a namespace of type user in /linux/namespaces")
        if not mappings and user is not None and "path" not in user:
            report(
                f"/linux/{name}" if name in linux else "/linux",
                f'a new user namespace needs "{name}" with at least one entry',
            )


def check_id_mappings(mappings: "list[types.IdMapping]", at: str, report: "Report") -> None:
    """The rules of user_namespaces(7) for uid_map and gid_map."""
    mappings = up_to(MAX_ID_MAPPINGS, mappings, at, report)
    for i, mapping in enumerate(mappings):
        if not mapping["size"]:
            report(f"{at}/{i}/size", mismatch("an integer of at least 1", 0))
        for side in ID_RANGES:
            last = mapping[side] + mapping["size"] - 1
            if last >= NO_ID:
                report(f"{at}/{i}", f"the range reaches the {side} {last}, the last valid id is {NO_ID - 1}")
    for side in ID_RANGES:
        ranges = sorted((mapping[side], mapping["size"], i) for i, mapping in enumerate(mappings) if mapping["size"])
        for (start, size, before), (following, _, i) in pairwise(ranges):
            if following < start + size:
                report(
                    f"{at}/{max(i, before)}",
                    f"the range overlaps {at}/{min(i, before)}: both have the {side} {following}",
                )


def check_time_offsets(offsets: "types.TimeOffsets", time: "types.Namespace | None", report: "Report") -> None:
    if offsets and (time is None or "path" in time):
        report("/linux/timeOffsets", "time offsets need a new namespace of type time in /linux/namespaces")
    for clock, offset in (("boottime", offsets.get("boottime")), ("monotonic", offsets.get("monotonic"))):
        nanoseconds = offset.get("nanosecs", 0) if offset else 0
        if nanoseconds >= 1_000_000_000:
            report(
                f"/linux/timeOffsets/{clock}/nanosecs",
                mismatch("an integer from 0 to 999999999", nanoseconds),
            )


def check_sysctls(sysctls: "Mapping[str, str]", namespaces: "Iterable[str]", domain: str, report: "Report") -> None:
    """The kernel parameters that a namespace of the container isolates; the others are the host's.

    `domain` is the config's domainname, "" for none. Engines set it in either place, or in both.
    """
    for key, value in sysctls.items():
        at = f"/linux/sysctl/{escape(key)}"
        path = constants.sysctl_path(key)
        needed = constants.sysctl_namespace(path)
        if not path:
            report(at, f"{show(key)} is not the name of a kernel parameter")
        elif path == "kernel/hostname":
            report(at, 'the hostname is set by "hostname", not by a kernel parameter')
        elif path == "kernel/domainname" and domain and value != domain:
            report(at, f'the value {show(value)} is not the "domainname", which is {show(domain)}')
        elif not needed:
            report(at, f"the kernel parameter {show(key)} is the host's: no namespace isolates it")
        elif needed not in namespaces:
            report(
                at,
                f"the kernel parameter {show(key)} needs a namespace of type {needed} in /linux/namespaces",
            )
        if type(value) is not str:
            continue
        if "\n" in value:
            report(at, f"the value {show(value)} must not have a line break")
        if len(value) > MAX_SYSCTL:
            report(at, f"the value has {len(value)} characters, more than the limit of {MAX_SYSCTL}")


def check_paths(paths: list[str], at: str, report: "Report") -> None:
    for i, path in enumerate(paths):
        check_absolute(path, f"{at}/{i}", report)


def check_cgroups_path(path: str, at: str, report: "Report") -> None:
    if ".." in path.split("/"):
        report(at, mismatch('a path without ".."', path))


def check_personality(personality: "types.Personality", at: str, report: "Report") -> None:
    if "domain" not in personality:
        report(at, missing("domain"))
    for i, flag in enumerate(personality.get("flags", [])):
        report(f"{at}/flags/{i}", f"the flag {show(flag)} is unknown: the specification defines none")


def check_net_devices(devices: "Mapping[str, types.NetDevice]", at: str, report: "Report") -> None:
    seen: dict[str, str] = {}
    for name, device in devices.items():
        here = f"{at}/{escape(name)}"
        check_interface(name, here, report)
        new_name = device.get("name", name)
        if "name" in device:
            here += "/name"
            check_interface(new_name, here, report)
            if "%" in new_name and (new_name.count("%") > 1 or not new_name.endswith("%d")):
                report(
                    here,
                    f"{show(new_name)} is not the name of a network interface: % may only be in a final %d",
                )
        if new_name in seen and "%" not in new_name:
            report(here, f"{show(new_name)} would be the name of two network interfaces, also of {seen[new_name]}")
        seen[new_name] = here


def check_net_devices_namespace(linux: "types.Linux", at: str, report: "Report") -> None:
    kinds = [namespace["type"] for namespace in linux.get("namespaces", ())]
    if linux.get("netDevices") and "network" not in kinds:
        report(f"{at}/netDevices", f"network devices need a namespace of type network in {at}/namespaces")


def check_interface(name: str, at: str, report: "Report") -> None:
    """The name of a network interface: dev_valid_name() of the kernel."""
    if not 0 < len(name.encode()) < 16 or name in (".", "..") or any(c in "/:" or c.isspace() for c in name):
        report(at, f"{show(name)} is not the name of a network interface")


def check_memory_policy(policy: "types.MemoryPolicy", at: str, report: "Report") -> None:
    """set_mempolicy(2)."""
    if "mode" not in policy:
        report(at, missing("mode"))
        return
    mode, nodes, flags = policy["mode"], policy.get("nodes", ""), policy.get("flags", [])
    if nodes and not ranges.is_valid(nodes):
        report(f"{at}/nodes", mismatch("a list of nodes such as 0-3,7", nodes))
    elif nodes and max(last for _, last in ranges.parse(nodes)) > MAX_NODE:
        report(f"{at}/nodes", mismatch(f"nodes from 0 to {MAX_NODE}", nodes))
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            report(f"{at}/nodes", f"{mode} allows no nodes, found {found(nodes)}")
    elif not nodes and mode != "MPOL_PREFERRED":
        report(f"{at}/nodes" if "nodes" in policy else at, f"{mode} needs nodes")
    if "MPOL_F_RELATIVE_NODES" in flags and "MPOL_F_STATIC_NODES" in flags:
        report(f"{at}/flags", "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other")
    elif ("MPOL_F_RELATIVE_NODES" in flags or "MPOL_F_STATIC_NODES" in flags) and mode != "MPOL_DEFAULT" and not nodes:
        report(f"{at}/flags", f"{mode} without nodes allows neither MPOL_F_RELATIVE_NODES nor MPOL_F_STATIC_NODES")
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        report(f"{at}/flags", f"MPOL_F_NUMA_BALANCING needs MPOL_BIND or MPOL_PREFERRED_MANY, found {mode}")


def check_intel_rdt(rdt: "types.IntelRdt", at: str, report: "Report") -> None:
    class_id = rdt.get("closID")
    if class_id is not None and class_id != "/" and ("/" in class_id or class_id in ("", ".", "..")):
        report(f"{at}/closID", mismatch('the name of a directory, or "/"', class_id))
    for i, line in enumerate(rdt.get("schemata", [])):
        if "\n" in line:
            report(f"{at}/schemata/{i}", mismatch("one line", line))


def check_devices(devices: "list[types.Device]", at: str, report: "Report") -> None:
    for i, device in enumerate(up_to(MAX_DEVICES, devices, at, report)):
        check_device(device, f"{at}/{i}", report)


def check_device(device: "types.Device", at: str, report: "Report") -> None:
    if not device["path"]:
        report(f"{at}/path", mismatch("a path in the container", ""))
    if device["type"] != "p":
        check_numbers(device, at, report, least=0, required=True)
    mode = device.get("fileMode", 0) & ~linux.S_IFMT
    if mode > PERMISSIONS:
        report(f"{at}/fileMode", mismatch("permission bits from 0 to 511 (octal 777)", device["fileMode"]))
    for name in IDS:
        if device.get(name) == NO_ID:
            report(f"{at}/{name}", mismatch("an id from 0 to 4294967294", NO_ID))


def check_numbers(
    device: "Numbered",
    at: str,
    report: "Report",
    *,
    least: int,
    required: bool,
) -> None:
    """The device numbers. The kernel has 12 bits for the major and 20 for the minor number."""
    for name, number, most in (("major", device.get("major"), 0xFFF), ("minor", device.get("minor"), 0xFFFFF)):
        if number is not None:
            if not least <= number <= most:
                report(f"{at}/{name}", mismatch(f"an integer from {least} to {most}", number))
        elif required:
            report(at, missing(name))


# ── Resources ───────────────────────────────────────────────────────────────────────────────────────────
# These hold for any cgroup. What this host's hierarchy can't do shows when pyoci writes the limits.


def check_device_rules(rules: "list[types.DeviceRule]", at: str, report: "Report") -> None:
    for i, rule in enumerate(rules):
        check_device_rule(rule, f"{at}/{i}", report)


def check_device_rule(rule: "types.DeviceRule", at: str, report: "Report") -> None:
    if rule.get("type", "a") not in ("a", "b", "c"):
        report(f"{at}/type", mismatch(alternatives(("a", "b", "c")), rule["type"]))
    access = rule.get("access", "rwm")
    if not access or access.strip("rwm"):
        report(f"{at}/access", mismatch('letters of "rwm"', access))
    # older engines write -1 for any number
    check_numbers(rule, at, report, least=-1, required=False)


def check_memory(memory: "types.Memory", at: str, report: "Report") -> None:
    for name in MEMORY_LIMITS:
        if memory.get(name, 0) < -1:
            report(f"{at}/{name}", mismatch("a number of bytes, or -1 for unlimited", memory[name]))
    if memory.get("swappiness", 0) > 100:
        report(f"{at}/swappiness", mismatch("an integer from 0 to 100", memory["swappiness"]))
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if swap <= 0:
        return
    if limit == 0:
        report(f"{at}/swap", 'the limit of memory plus swap needs "limit", the limit of memory')
    elif limit == -1:
        report(
            f"{at}/swap",
            f"the limit of memory plus swap, {swap}, is below the limit of memory, which is unlimited",
        )
    elif swap < limit:
        report(f"{at}/swap", f"the limit of memory plus swap, {swap}, is below the limit of memory, {limit}")


def check_cpu(cpu: "types.CPU", at: str, report: "Report") -> None:
    quota, burst = cpu.get("quota", 0), cpu.get("burst", 0)
    if 0 < quota < burst:
        report(f"{at}/burst", f"the burst {burst} is above the quota {quota}")
    if cpu.get("idle", 0) not in (0, 1):
        report(f"{at}/idle", mismatch("0 or 1", cpu["idle"]))
    for name, what, numbers in (("cpus", "CPUs", cpu.get("cpus")), ("mems", "memory nodes", cpu.get("mems"))):
        if numbers and not ranges.is_valid(numbers):
            report(f"{at}/{name}", mismatch(f"a list of {what} such as 0-3,7", numbers))


def check_block_io(block_io: "types.BlockIO", at: str, report: "Report") -> None:
    for i, weights in enumerate(block_io.get("weightDevice", [])):
        check_numbers(weights, f"{at}/weightDevice/{i}", report, least=0, required=True)
        if "weight" not in weights and "leafWeight" not in weights:
            report(f"{at}/weightDevice/{i}", 'expected "weight", "leafWeight" or both, found neither')
    for name in THROTTLES:
        for i, throttle in enumerate(block_io.get(name, [])):
            check_numbers(throttle, f"{at}/{name}/{i}", report, least=0, required=True)
            if "rate" not in throttle:
                report(f"{at}/{name}/{i}", missing("rate"))


def check_hugepage_limits(limits: "list[types.HugepageLimit]", at: str, report: "Report") -> None:
    seen: dict[str, int] = {}
    for i, limit in enumerate(limits):
        check_unique(limit["pageSize"], i, seen, f"{at}/{{}}/pageSize", report)


def check_rdma(devices: "Mapping[str, types.RDMA]", at: str, report: "Report") -> None:
    for device, limits in devices.items():
        if "hcaHandles" not in limits and "hcaObjects" not in limits:
            report(f"{at}/{escape(device)}", 'expected "hcaHandles", "hcaObjects" or both, found neither')


def check_unified(files: "Mapping[str, str]", at: str, report: "Report") -> None:
    for name in files:
        if not constants.is_cgroup_file(name):
            message = f"the specified key has not the form CONTROLLER.VALUE `{show(name)[1:-1]}`, such as memory.high"
            report(f"{at}/{escape(name)}", message)


# ── Seccomp ─────────────────────────────────────────────────────────────────────────────────────────────


def check_seccomp(seccomp: "types.Seccomp", at: str, report: "Report") -> None:
    """Check linux.seccomp, except whether its system calls exist."""
    check_errno(seccomp.get("defaultErrnoRet"), seccomp["defaultAction"], f"{at}/defaultErrnoRet", report)
    listener = seccomp.get("listenerPath")
    if "listenerMetadata" in seccomp and not listener:
        report(f"{at}/listenerMetadata", '"listenerMetadata" must not be set without "listenerPath"')
    if seccomp["defaultAction"] == NOTIFY and not listener:
        report(f"{at}/defaultAction", f'{NOTIFY} needs "listenerPath", the socket of the agent to notify')
    for i, rule in enumerate(up_to(MAX_SYSCALLS, seccomp.get("syscalls", []), f"{at}/syscalls", report)):
        if rule["action"] == NOTIFY and not listener:
            report(f"{at}/syscalls/{i}/action", f'{NOTIFY} needs "listenerPath", the socket of the agent to notify')
        check_errno(rule.get("errnoRet"), rule["action"], f"{at}/syscalls/{i}/errnoRet", report)
        for j, argument in enumerate(rule.get("args", ())):
            if argument["index"] > 5:
                report(f"{at}/syscalls/{i}/args/{j}/index", mismatch("an integer from 0 to 5", argument["index"]))


def check_errno(errno: int | None, action: str, at: str, report: "Report") -> None:
    if errno is None:
        return
    if action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        report(at, f"the action {action} allows no errno, only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
    elif errno > 0xFFFF:  # SECCOMP_RET_DATA
        report(at, mismatch("an integer from 0 to 65535", errno))


# ── Small rules ─────────────────────────────────────────────────────────────────────────────────────────


def check_absolute(path: str, at: str, report: "Report") -> None:
    if path[:1] != "/":
        report(at, mismatch("an absolute path", path))


def check_unique(value: str, i: int, seen: dict[str, int], places: str, report: "Report") -> None:
    """Report `value` if it is in `seen` already. `places` is the pointer of each, with {} for the index."""
    if value in seen:
        report(places.format(i), f"{show(value)} is listed twice, first at {places.format(seen[value])}")
    else:
        seen[value] = i


def up_to(limit: int, items: "list[T]", at: str, report: "Report") -> "list[T]":
    """The first `limit` of `items`; reports it if there are more."""
    if len(items) <= limit:
        return items
    report(at, f"there are {len(items)} entries, more than the limit of {limit}")
    return items[:limit]


# ── Which check reads what ──────────────────────────────────────────────────────────────────────────────

SECTIONS: "tuple[tuple[str, Check], ...]" = (
    ("/ociVersion", check_version),
    ("/hostname", check_name),
    ("/domainname", check_name),
    ("/annotations", check_annotations),
    ("/mounts", check_mounts),
    ("/hooks/prestart", check_hooks),
    ("/hooks/createRuntime", check_hooks),
    ("/hooks/createContainer", check_hooks),
    ("/hooks/startContainer", check_hooks),
    ("/hooks/poststart", check_hooks),
    ("/hooks/poststop", check_hooks),
    ("/process/cwd", check_absolute),
    ("/process/env", check_environment),
    ("/process/user", check_user),
    ("/process/rlimits", check_rlimits),
    ("/process/oomScoreAdj", check_oom_score),
    ("/process/scheduler", check_scheduler),
    ("/process/ioPriority", check_io_priority),
    ("/process/execCPUAffinity", check_affinity),
    ("/linux/maskedPaths", check_paths),
    ("/linux/readonlyPaths", check_paths),
    ("/linux/cgroupsPath", check_cgroups_path),
    ("/linux/personality", check_personality),
    ("/linux/netDevices", check_net_devices),
    ("/linux/memoryPolicy", check_memory_policy),
    ("/linux/intelRdt", check_intel_rdt),
    ("/linux/devices", check_devices),
    ("/linux/seccomp", check_seccomp),
    ("/linux/resources/devices", check_device_rules),
    ("/linux/resources/memory", check_memory),
    ("/linux/resources/cpu", check_cpu),
    ("/linux/resources/blockIO", check_block_io),
    ("/linux/resources/hugepageLimits", check_hugepage_limits),
    ("/linux/resources/rdma", check_rdma),
    ("/linux/resources/unified", check_unified),
)
# The check gets the object at the pointer, and reads the named members.
ACROSS: "tuple[tuple[str, Check, tuple[str, ...]], ...]" = (
    ("", check_root, ("root",)),
    ("", check_idmapped_mounts, ("mounts", "linux/namespaces")),
    (
        "",
        check_mount_namespace,
        (
            *("mounts", "process/terminal", "linux/namespaces", "linux/maskedPaths", "linux/readonlyPaths"),
            "linux/rootfsPropagation",
        ),
    ),
    ("/process", check_arguments, ("args", "env")),
    ("/process", check_terminal, ("terminal", "consoleSize")),
    ("/linux", check_net_devices_namespace, ("netDevices", "namespaces")),
    ("", check_deadline, ("process/scheduler", "hooks/startContainer")),
    (
        "",
        check_namespaces,
        (
            *("hostname", "domainname", "linux/namespaces", "linux/uidMappings", "linux/gidMappings"),
            *("linux/timeOffsets", "linux/sysctl"),
        ),
    ),
)


def _sections_below() -> "dict[str, list[tuple[str, Check]]]":
    """The sections by the pointer of the object that has them: most configs lack some of these objects."""
    found: dict[str, list[tuple[str, Check]]] = {}
    for pointer, check in SECTIONS:
        above, _, name = pointer.rpartition("/")
        found.setdefault(above, []).append((name, check))
    return found


_SECTIONS_BELOW = _sections_below()


def run(document: object, report: "Report", *, process: bool = False, broken: "Iterable[str]" = ()) -> None:
    """Check a config.json, or with `process` a process.json.

    `broken` are the JSON pointers where the schema has faults. A check that reads there is skipped.
    """
    base = "/process" if process else ""
    for above, members_of_it in _SECTIONS_BELOW.items():
        holder = _find(document, above[len(base) :]) if above.startswith(base) else None
        if isinstance(holder, dict):
            for name, check in members_of_it:
                section = holder.get(name)
                if section is not None:
                    at = f"{above[len(base) :]}/{name}"
                    if not broken or not _is_broken(at, broken):
                        check(section, at, report)
    for pointer, check, members in ACROSS:
        if pointer.startswith(base):
            at = pointer[len(base) :]
            section = _find(document, at)
            if section is not None and not (broken and any(_is_broken(f"{at}/{each}", broken) for each in members)):
                check(section, at, report)


def _find(document: object, pointer: str) -> object:
    """The value at `pointer`; None if the document lacks it."""
    value = document
    for token in pointer.split("/")[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(token)
    return value


def _is_broken(pointer: str, broken: "Iterable[str]") -> bool:
    """Whether there is a fault at, in or around the section at `pointer`."""
    return any(f"{pointer}/".startswith(f"{fault}/") or fault.startswith(f"{pointer}/") for fault in broken)
