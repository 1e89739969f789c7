"""What the prose of the specification asks for, and what the kernel will certainly refuse, beyond the schema.

One function for each part of config.json, which reads that part alone; SECTIONS and ACROSS at the end say
which. A check runs when the schema has no fault in what it reads, and reports every problem with its JSON
pointer. What the host must answer (does a path exist, which controllers are there) is not asked here.
"""

from itertools import pairwise

from pyoci import linux, ranges
from pyoci.config import constants
from pyoci.config.messages import alternatives, found, mismatch, missing, show
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    Say = Callable[[str, str], None]  # (JSON pointer, message)
    Check = Callable[[Any, str, Say], None]  # (the section, its JSON pointer, where problems go)
    Object = dict[str, Any]
    T = TypeVar("T")

NO_ID = 0xFFFFFFFF  # (uid_t) -1: the kernel's "leave it as it is"
PERMISSIONS = 0o777

# bounds that no honest config comes near, so that a hostile one can't exhaust us
MAX_MOUNTS = 16384
MAX_STRINGS = 65536
MAX_HINTS = 8
MAX_HOOKS = 1024
MAX_DEVICES = 1024
MAX_SYSCALLS = 8192
MAX_ANNOTATIONS = 1024 * 1024
MAX_SYSCTL = 4096
MAX_ID_MAPPINGS = 340  # lines of /proc/PID/uid_map, user_namespaces(7)
# execve(2): three quarters of the default stack limit for all strings, 32 pages for one
MAX_ARGUMENTS = 6 * 1024 * 1024
MAX_ARGUMENT = 128 * 1024
MAX_INT64 = 2**63 - 1

MAX_NODE = 32767  # of the largest node mask that the kernel takes, a page
NOTIFY = "SCMP_ACT_NOTIFY"

# ── Top ─────────────────────────────────────────────────────────────────────────────────────────────────


def check_version(version: str, at: str, say: "Say") -> None:
    if not is_semver(version):
        say(at, mismatch("a version in SemVer 2.0.0 such as 1.2.1", version))
    elif version.partition(".")[0] != "1":
        say(at, mismatch("version 1.x of the specification", version))


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
    """A dotted identifier of SemVer; one of digits alone has no leading zero where `numbers` are meant."""
    plain = text.replace("-", "")
    if not text or not (not plain or (plain.isascii() and plain.isalnum())):
        return False
    return not numbers or bool(text.strip("0123456789")) or _is_number(text)


def check_root(config: "Object", at: str, say: "Say") -> None:
    if "root" not in config:
        say(at, missing("root"))
    elif not config["root"]["path"]:
        say(f"{at}/root/path", mismatch("a path", ""))


def check_name(name: str, at: str, say: "Say") -> None:
    """A hostname or domainname: __NEW_UTS_LEN of the kernel."""
    if len(name.encode()) > 64:
        say(at, f"the name has {len(name.encode())} bytes, the kernel takes at most 64")


def check_annotations(annotations: "Object", at: str, say: "Say") -> None:
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value) if type(value) is str else 0
        if not key:
            say(f"{at}/", "the name of an annotation must not be empty")
    if size > MAX_ANNOTATIONS:
        say(at, f"the annotations have {size} characters, more than the limit of {MAX_ANNOTATIONS}")


def check_mounts(mounts: "list[Object]", at: str, say: "Say") -> None:
    for i, mount in enumerate(up_to(MAX_MOUNTS, mounts, at, say)):
        if not mount["destination"]:
            say(f"{at}/{i}/destination", mismatch("a path in the container", ""))
        options = mount.get("options", ())
        binds = ("bind" in options or "rbind" in options) and "remount" not in options
        if binds and not mount.get("source"):
            say(f"{at}/{i}", f"{missing('source')}: there is nothing to bind")
        check_mount_mappings(mount, f"{at}/{i}", say)


def check_mount_mappings(mount: "Object", at: str, say: "Say") -> None:
    given = [name for name in ("uidMappings", "gidMappings") if mount.get(name)]
    for name in ("uidMappings", "gidMappings"):
        if name in given:
            check_id_mappings(mount[name], f"{at}/{name}", say)
        elif given:
            say(
                f"{at}/{name}" if name in mount else at,
                f"{missing(name)}: the id mappings of a mount come as a pair",
            )


def check_idmapped_mounts(config: "Object", at: str, say: "Say") -> None:
    """An idmapped mount needs mappings, of its own or of a user namespace, and to be new."""
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
            say(asked[0], "a remount can't change the id mapping of a mount")
        elif not mapped and not has_users:
            say(
                asked[0],
                'an idmapped mount needs "uidMappings" and "gidMappings", or a namespace of type user in '
                "/linux/namespaces",
            )
        elif has_users and not {"bind", "rbind"} & set(options):
            say(asked[0], "a filesystem that is made in the container's user namespace can't be idmapped")


def check_hooks(hooks: "list[Object]", at: str, say: "Say") -> None:
    for i, hook in enumerate(up_to(MAX_HOOKS, hooks, at, say)):
        check_absolute(hook["path"], f"{at}/{i}/path", say)
        check_environment(hook.get("env", []), f"{at}/{i}/env", say)
        if hook.get("timeout", 1) > MAX_INT64:
            say(f"{at}/{i}/timeout", mismatch(f"an integer from 1 to {MAX_INT64}", hook["timeout"]))


# ── Process ─────────────────────────────────────────────────────────────────────────────────────────────


def check_arguments(process: "Object", at: str, say: "Say") -> None:
    """args, and with env what execve(2) can take."""
    if not process.get("args"):
        say(f"{at}/args" if "args" in process else at, 'expected "args" with at least one entry')
    elif not process["args"][0]:
        # with the words that tell engines of a program that is not there
        say(f"{at}/args/0", mismatch("the name of a program", "") + ": executable file not found in $PATH")
    total = 0
    for name in ("args", "env"):
        for i, string in enumerate(up_to(MAX_STRINGS, process.get(name, []), f"{at}/{name}", say)):
            size = (len(string) if string.isascii() else len(string.encode())) + 1
            total += size + 8  # the string, and the pointer to it
            if size > MAX_ARGUMENT:
                say(f"{at}/{name}/{i}", f"the string has {size} bytes, execve takes at most {MAX_ARGUMENT}")
    if total > MAX_ARGUMENTS:
        say(at, f"args and env take {total} bytes, execve takes at most {MAX_ARGUMENTS}")


def check_environment(environment: list[str], at: str, say: "Say") -> None:
    for i, variable in enumerate(environment[:MAX_STRINGS]):
        if variable.find("=") < 1:
            say(f"{at}/{i}", mismatch("a variable as NAME=VALUE", variable))


def check_user(user: "Object", at: str, say: "Say") -> None:
    for name in ("uid", "gid"):
        if name not in user:
            say(at, missing(name))
        elif user[name] == NO_ID:
            say(f"{at}/{name}", mismatch("an id from 0 to 4294967294", NO_ID))
    if user.get("umask", 0) > PERMISSIONS:
        say(f"{at}/umask", mismatch("permission bits from 0 to 511 (octal 777)", user["umask"]))
    for i, gid in enumerate(up_to(MAX_STRINGS, user.get("additionalGids", []), f"{at}/additionalGids", say)):
        if gid == NO_ID:
            say(f"{at}/additionalGids/{i}", mismatch("an id from 0 to 4294967294", gid))


def check_oom_score(score: int, at: str, say: "Say") -> None:
    if not -1000 <= score <= 1000:
        say(at, mismatch("an integer from -1000 to 1000", score))


def check_terminal(process: "Object", at: str, say: "Say") -> None:
    """consoleSize, which means nothing without a terminal: struct winsize has 16 bits for each."""
    if process.get("terminal"):
        size = process.get("consoleSize", {})
        for name in ("height", "width"):
            if size.get(name, 0) > 0xFFFF:
                say(f"{at}/consoleSize/{name}", mismatch("an integer from 0 to 65535", size[name]))


def check_rlimits(limits: "list[Object]", at: str, say: "Say") -> None:
    seen: dict[str, int] = {}
    for i, limit in enumerate(limits):
        kind = limit["type"]
        if kind not in constants.RLIMITS:
            say(f"{at}/{i}/type", mismatch("a resource of getrlimit(2) such as RLIMIT_NOFILE", kind))
        check_unique(kind, i, seen, f"{at}/{{}}/type", say)
        if limit["soft"] > limit["hard"]:
            say(f"{at}/{i}/soft", f"the soft limit {limit['soft']} is above the hard limit {limit['hard']}")


def check_scheduler(scheduler: "Object", at: str, say: "Say") -> None:
    policy, priority = scheduler["policy"], scheduler.get("priority", 0)
    if not -20 <= scheduler.get("nice", 0) <= 19:
        say(f"{at}/nice", mismatch("an integer from -20 to 19", scheduler["nice"]))
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            say(
                f"{at}/priority" if "priority" in scheduler else at,
                f"{policy} takes a priority from 1 to 99, found {found(priority)}",
            )
    elif priority:
        say(f"{at}/priority", f"{policy} takes no priority, found {found(priority)}")
    if policy == "SCHED_ISO":
        say(f"{at}/policy", "SCHED_ISO is reserved: no kernel implements it")
    times = [scheduler.get(name, 0) for name in ("runtime", "deadline", "period")]
    if policy == "SCHED_DEADLINE":
        runtime, deadline, period = times
        if not 1024 <= runtime <= deadline <= (period or deadline) <= MAX_INT64:
            say(
                at,
                f"SCHED_DEADLINE asks for 1024 <= runtime <= deadline <= period (ns), found {runtime}, "
                f"{deadline} and {period}",
            )
    elif any(times):
        say(at, f"{policy} takes no runtime, deadline and period")


def check_deadline(config: "Object", at: str, say: "Say") -> None:
    """sched(7): a thread with SCHED_DEADLINE can't fork, unless its children are to have another policy."""
    scheduler, hooks = config.get("process", {}).get("scheduler", {}), config.get("hooks", {})
    if scheduler.get("policy") == "SCHED_DEADLINE" and hooks.get("startContainer"):
        flags = scheduler.get("flags", [])
        if "SCHED_FLAG_RESET_ON_FORK" not in flags:
            say(
                f"{at}/process/scheduler",
                "a process with SCHED_DEADLINE can't run the startContainer hooks without SCHED_FLAG_RESET_ON_FORK",
            )


def check_io_priority(priority: "Object", at: str, say: "Say") -> None:
    if "priority" not in priority:
        say(at, missing("priority"))
    elif not 0 <= priority["priority"] <= 7:
        say(f"{at}/priority", mismatch("an integer from 0 to 7", priority["priority"]))


def check_affinity(affinity: "Object", at: str, say: "Say") -> None:
    for name in ("initial", "final"):
        if affinity.get(name) and not ranges.is_valid(affinity[name]):
            say(f"{at}/{name}", mismatch("a list of CPUs such as 0-3,7", affinity[name]))


def unknown_capabilities(process: "Object", at: str) -> list[str]:
    """Warnings: a capability that we don't know is no error (section "Linux Process")."""
    warnings: list[str] = []
    for kind, capabilities in process.get("capabilities", {}).items():
        if kind in constants.CAPABILITY_SETS and not constants.CAPABILITIES.keys() >= set(capabilities):
            from pyoci.config import spelling

            for i, name in enumerate(capabilities):
                if name not in constants.CAPABILITIES:
                    hint = spelling.hint(name, constants.CAPABILITIES) if len(warnings) < MAX_HINTS else ""
                    warning = f"{at}/capabilities/{kind}/{i}: the unknown capability {show(name)} is ignored"
                    warnings.append(f"{warning} (hint: {hint})" if hint else warning)
    return warnings


# ── Linux ───────────────────────────────────────────────────────────────────────────────────────────────


def check_mount_namespace(config: "Object", at: str, say: "Say") -> None:
    """Without one the container is in the runtime's, where nothing may be mounted for it."""
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
            say(
                f"{at}/{name}",
                "this needs a namespace of type mount in /linux/namespaces: the host's mounts would change",
            )


def check_namespaces(config: "Object", at: str, say: "Say") -> None:
    """linux.namespaces, and the properties that need one of them."""
    linux = config.get("linux", {})
    namespaces = linux.get("namespaces", [])
    seen: dict[str, int] = {}
    for i, namespace in enumerate(namespaces):
        check_unique(namespace["type"], i, seen, f"{at}/linux/namespaces/{{}}/type", say)
        if namespace.get("path"):  # an empty one is none: what is written by Go programs has them
            check_absolute(namespace["path"], f"{at}/linux/namespaces/{i}/path", say)
    for name in ("hostname", "domainname"):
        if config.get(name) and "uts" not in seen:
            say(
                f"{at}/{name}",
                f"the {name} needs a namespace of type uts in /linux/namespaces: the host's stays as it is",
            )
    check_user_namespace(linux, namespaces[seen["user"]] if "user" in seen else None, say)
    check_time_offsets(linux.get("timeOffsets", {}), namespaces[seen["time"]] if "time" in seen else None, say)
    check_sysctls(linux.get("sysctl", {}), seen, config.get("domainname", ""), say)


def check_user_namespace(linux: "Object", user: "Object | None", say: "Say") -> None:
    for name in ("uidMappings", "gidMappings"):
        mappings = linux.get(name, [])
        check_id_mappings(mappings, f"/linux/{name}", say)
        if mappings and user is None:
            say(f"/linux/{name}", "id mappings need a namespace of type user in /linux/namespaces")
        if not mappings and user is not None and "path" not in user:
            say(
                "/linux" if name not in linux else f"/linux/{name}",
                f'a new user namespace needs "{name}" with at least one entry',
            )


def check_id_mappings(mappings: "list[Object]", at: str, say: "Say") -> None:
    """The rules of user_namespaces(7) for uid_map and gid_map."""
    mappings = up_to(MAX_ID_MAPPINGS, mappings, at, say)
    for i, mapping in enumerate(mappings):
        if not mapping["size"]:
            say(f"{at}/{i}/size", mismatch("an integer of at least 1", 0))
        for side in ("containerID", "hostID"):
            last = mapping[side] + mapping["size"] - 1
            if last >= NO_ID:
                say(f"{at}/{i}", f"the range reaches the {side} {last}, the last valid id is {NO_ID - 1}")
    for side in ("containerID", "hostID"):
        ranges = sorted((mapping[side], mapping["size"], i) for i, mapping in enumerate(mappings) if mapping["size"])
        for (start, size, before), (following, _, i) in pairwise(ranges):
            if following < start + size:
                say(
                    f"{at}/{max(i, before)}",
                    f"the range overlaps {at}/{min(i, before)}: both have the {side} {following}",
                )


def check_time_offsets(offsets: "Object", time: "Object | None", say: "Say") -> None:
    if offsets and (time is None or "path" in time):
        say("/linux/timeOffsets", "time offsets need a new namespace of type time in /linux/namespaces")
    for clock in ("boottime", "monotonic"):
        nanoseconds = offsets.get(clock, {}).get("nanosecs", 0)
        if nanoseconds >= 1_000_000_000:
            say(
                f"/linux/timeOffsets/{clock}/nanosecs",
                mismatch("an integer from 0 to 999999999", nanoseconds),
            )


def check_sysctls(sysctls: "dict[str, str]", namespaces: "Iterable[str]", domain: str, say: "Say") -> None:
    """Only what a namespace of the container isolates may change: the rest belongs to the host. `domain` is the
    config's domainname, "" for none: engines set it in either place, or in both."""
    for key, value in sysctls.items():
        at = f"/linux/sysctl/{escape(key)}"
        path = constants.sysctl_path(key)
        needed = constants.sysctl_namespace(path)
        if not path:
            say(at, f"{show(key)} is not the name of a kernel parameter")
        elif path == "kernel/hostname":
            say(at, 'the hostname is set by "hostname", not by a kernel parameter')
        elif path == "kernel/domainname" and domain and value != domain:
            say(at, f'the value {show(value)} is not the "domainname", which is {show(domain)}')
        elif not needed:
            say(at, f"the kernel parameter {show(key)} is the host's: no namespace separates it")
        elif needed not in namespaces:
            say(
                at,
                f"the kernel parameter {show(key)} needs a namespace of type {needed} in /linux/namespaces",
            )
        if type(value) is not str:
            continue
        if "\n" in value:
            say(at, f"the value {show(value)} must not have a line break")
        if len(value) > MAX_SYSCTL:
            say(at, f"the value has {len(value)} characters, more than the limit of {MAX_SYSCTL}")


def check_paths(paths: list[str], at: str, say: "Say") -> None:
    for i, path in enumerate(paths):
        check_absolute(path, f"{at}/{i}", say)


def check_cgroups_path(path: str, at: str, say: "Say") -> None:
    if ".." in path.split("/"):
        say(at, mismatch('a path without ".."', path))


def check_personality(personality: "Object", at: str, say: "Say") -> None:
    if "domain" not in personality:
        say(at, missing("domain"))
    for i, flag in enumerate(personality.get("flags", [])):
        say(f"{at}/flags/{i}", f"the flag {show(flag)} is unknown: the specification defines none")


def check_net_devices(devices: "Object", at: str, say: "Say") -> None:
    seen: dict[str, str] = {}
    for name, device in devices.items():
        here = f"{at}/{escape(name)}"
        check_interface(name, here, say)
        new_name = device.get("name", name)
        if "name" in device:
            here += "/name"
            check_interface(new_name, here, say)
            if "%" in new_name and (new_name.count("%") > 1 or not new_name.endswith("%d")):
                say(here, f"{show(new_name)} is not the name of a network interface: % is only for a final %d")
        if new_name in seen and "%" not in new_name:
            say(here, f"{show(new_name)} would be the name of two network interfaces, also of {seen[new_name]}")
        seen[new_name] = here


def check_net_devices_namespace(linux: "Object", at: str, say: "Say") -> None:
    kinds = [namespace["type"] for namespace in linux.get("namespaces", ())]
    if linux.get("netDevices") and "network" not in kinds:
        say(f"{at}/netDevices", f"network devices need a namespace of type network in {at}/namespaces")


def check_interface(name: str, at: str, say: "Say") -> None:
    """The name of a network interface: dev_valid_name() of the kernel."""
    if not 0 < len(name.encode()) < 16 or name in (".", "..") or any(c in "/:" or c.isspace() for c in name):
        say(at, f"{show(name)} is not the name of a network interface")


def check_memory_policy(policy: "Object", at: str, say: "Say") -> None:
    """set_mempolicy(2)."""
    if "mode" not in policy:
        say(at, missing("mode"))
        return
    mode, nodes, flags = policy["mode"], policy.get("nodes", ""), policy.get("flags", [])
    if nodes and not ranges.is_valid(nodes):
        say(f"{at}/nodes", mismatch("a list of nodes such as 0-3,7", nodes))
    elif nodes and max(last for _, last in ranges.parse(nodes)) > MAX_NODE:
        say(f"{at}/nodes", mismatch(f"nodes from 0 to {MAX_NODE}", nodes))
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            say(f"{at}/nodes", f"{mode} takes no nodes, found {found(nodes)}")
    elif not nodes and mode != "MPOL_PREFERRED":
        say(f"{at}/nodes" if "nodes" in policy else at, f"{mode} needs nodes")
    if "MPOL_F_RELATIVE_NODES" in flags and "MPOL_F_STATIC_NODES" in flags:
        say(f"{at}/flags", "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other")
    elif ("MPOL_F_RELATIVE_NODES" in flags or "MPOL_F_STATIC_NODES" in flags) and mode != "MPOL_DEFAULT" and not nodes:
        say(f"{at}/flags", f"{mode} without nodes takes neither MPOL_F_RELATIVE_NODES nor MPOL_F_STATIC_NODES")
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        say(f"{at}/flags", f"MPOL_F_NUMA_BALANCING needs MPOL_BIND or MPOL_PREFERRED_MANY, found {mode}")


def check_intel_rdt(rdt: "Object", at: str, say: "Say") -> None:
    class_id = rdt.get("closID")
    if class_id is not None and class_id != "/" and ("/" in class_id or class_id in ("", ".", "..")):
        say(f"{at}/closID", mismatch('the name of a directory, or "/"', class_id))
    for i, line in enumerate(rdt.get("schemata", [])):
        if "\n" in line:
            say(f"{at}/schemata/{i}", mismatch("one line", line))


def check_devices(devices: "list[Object]", at: str, say: "Say") -> None:
    for i, device in enumerate(up_to(MAX_DEVICES, devices, at, say)):
        check_device(device, f"{at}/{i}", say)


def check_device(device: "Object", at: str, say: "Say") -> None:
    if not device["path"]:
        say(f"{at}/path", mismatch("a path in the container", ""))
    if device["type"] != "p":
        check_numbers(device, at, say, least=0, required=True)
    mode = device.get("fileMode", 0) & ~linux.S_IFMT
    if mode > PERMISSIONS:
        say(f"{at}/fileMode", mismatch("permission bits from 0 to 511 (octal 777)", device["fileMode"]))
    for name in ("uid", "gid"):
        if device.get(name) == NO_ID:
            say(f"{at}/{name}", mismatch("an id from 0 to 4294967294", NO_ID))


def check_numbers(device: "Object", at: str, say: "Say", *, least: int, required: bool) -> None:
    """The device numbers: makedev(3) of the kernel has 12 bits for the major and 20 for the minor."""
    for name, most in (("major", 0xFFF), ("minor", 0xFFFFF)):
        if name in device:
            if not least <= device[name] <= most:
                say(f"{at}/{name}", mismatch(f"an integer from {least} to {most}", device[name]))
        elif required:
            say(at, missing(name))


# ── Resources ───────────────────────────────────────────────────────────────────────────────────────────
# For any cgroup: what this host's hierarchy can't do is found when it is asked to.


def check_device_rules(rules: "list[Object]", at: str, say: "Say") -> None:
    for i, rule in enumerate(rules):
        check_device_rule(rule, f"{at}/{i}", say)


def check_device_rule(rule: "Object", at: str, say: "Say") -> None:
    if rule.get("type", "a") not in ("a", "b", "c"):
        say(f"{at}/type", mismatch(alternatives(("a", "b", "c")), rule["type"]))
    access = rule.get("access", "rwm")
    if not access or access.strip("rwm"):
        say(f"{at}/access", mismatch('letters of "rwm"', access))
    # -1 is the wildcard of older engines
    check_numbers(rule, at, say, least=-1, required=False)


def check_memory(memory: "Object", at: str, say: "Say") -> None:
    for name in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if memory.get(name, 0) < -1:
            say(f"{at}/{name}", mismatch("a number of bytes, or -1 for unlimited", memory[name]))
    if memory.get("swappiness", 0) > 100:
        say(f"{at}/swappiness", mismatch("an integer from 0 to 100", memory["swappiness"]))
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if swap <= 0:
        return
    if limit == 0:
        say(f"{at}/swap", 'the limit of memory plus swap needs "limit" beside it')
    elif limit == -1:
        say(
            f"{at}/swap",
            f"the limit of memory plus swap, {swap}, is below the limit of memory, which is unlimited",
        )
    elif swap < limit:
        say(f"{at}/swap", f"the limit of memory plus swap, {swap}, is below the limit of memory, {limit}")


def check_cpu(cpu: "Object", at: str, say: "Say") -> None:
    quota, burst = cpu.get("quota", 0), cpu.get("burst", 0)
    if 0 < quota < burst:
        say(f"{at}/burst", f"the burst {burst} is above the quota {quota}")
    if cpu.get("idle", 0) not in (0, 1):
        say(f"{at}/idle", mismatch("0 or 1", cpu["idle"]))
    for name, what in (("cpus", "CPUs"), ("mems", "memory nodes")):
        if cpu.get(name) and not ranges.is_valid(cpu[name]):
            say(f"{at}/{name}", mismatch(f"a list of {what} such as 0-3,7", cpu[name]))


def check_block_io(block_io: "Object", at: str, say: "Say") -> None:
    for i, device in enumerate(block_io.get("weightDevice", [])):
        check_numbers(device, f"{at}/weightDevice/{i}", say, least=0, required=True)
        if "weight" not in device and "leafWeight" not in device:
            say(f"{at}/weightDevice/{i}", 'expected "weight", "leafWeight" or both, found neither')
    for what in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        for i, device in enumerate(block_io.get(f"throttle{what}Device", [])):
            check_numbers(device, f"{at}/throttle{what}Device/{i}", say, least=0, required=True)
            if "rate" not in device:
                say(f"{at}/throttle{what}Device/{i}", missing("rate"))


def check_hugepage_limits(limits: "list[Object]", at: str, say: "Say") -> None:
    seen: dict[str, int] = {}
    for i, limit in enumerate(limits):
        check_unique(limit["pageSize"], i, seen, f"{at}/{{}}/pageSize", say)


def check_rdma(devices: "Object", at: str, say: "Say") -> None:
    for device, limits in devices.items():
        if "hcaHandles" not in limits and "hcaObjects" not in limits:
            say(f"{at}/{escape(device)}", 'expected "hcaHandles", "hcaObjects" or both, found neither')


def check_unified(files: "Object", at: str, say: "Say") -> None:
    for name in files:
        if not constants.is_cgroup_file(name):
            key = show(name)[1:-1]
            what = f"the specified key has not the form CONTROLLER.VALUE `{key}`, such as memory.high"
            say(f"{at}/{escape(name)}", what)


# ── Seccomp ─────────────────────────────────────────────────────────────────────────────────────────────


def check_seccomp(seccomp: "Object", at: str, say: "Say") -> None:
    """linux.seccomp, except which system calls exist."""
    check_errno(seccomp, "defaultErrnoRet", seccomp["defaultAction"], at, say)
    listener = seccomp.get("listenerPath")
    if "listenerMetadata" in seccomp and not listener:
        say(f"{at}/listenerMetadata", '"listenerMetadata" must not be set without "listenerPath"')
    if seccomp["defaultAction"] == NOTIFY and not listener:
        say(f"{at}/defaultAction", f'{NOTIFY} needs "listenerPath": nobody would be notified')
    for i, rule in enumerate(up_to(MAX_SYSCALLS, seccomp.get("syscalls", []), f"{at}/syscalls", say)):
        if rule["action"] == NOTIFY and not listener:
            say(f"{at}/syscalls/{i}/action", f'{NOTIFY} needs "listenerPath": nobody would be notified')
        check_errno(rule, "errnoRet", rule["action"], f"{at}/syscalls/{i}", say)
        for j, argument in enumerate(rule.get("args", ())):
            if argument["index"] > 5:
                say(f"{at}/syscalls/{i}/args/{j}/index", mismatch("an integer from 0 to 5", argument["index"]))


def check_errno(owner: "Object", name: str, action: str, at: str, say: "Say") -> None:
    if name not in owner:
        return
    if action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        say(f"{at}/{name}", f"the action {action} takes no errno, only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
    elif owner[name] > 0xFFFF:  # SECCOMP_RET_DATA
        say(f"{at}/{name}", mismatch("an integer from 0 to 65535", owner[name]))


# ── Small rules ─────────────────────────────────────────────────────────────────────────────────────────


def check_absolute(path: str, at: str, say: "Say") -> None:
    if path[:1] != "/":
        say(at, mismatch("an absolute path", path))


def check_unique(value: str, i: int, seen: dict[str, int], places: str, say: "Say") -> None:
    """Say so if `value` stands in `seen` already; `places` is their pointer, with {} for the index."""
    if value in seen:
        say(places.format(i), f"{show(value)} stands twice, first at {places.format(seen[value])}")
    else:
        seen[value] = i


def up_to(limit: int, items: "list[T]", at: str, say: "Say") -> "list[T]":
    """`items`, of which there must be no more than `limit`."""
    if len(items) <= limit:
        return items
    say(at, f"there are {len(items)} entries, more than the limit of {limit}")
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
# The check gets the object at the pointer, and reads the members named.
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


def run(document: "Object", say: "Say", *, process: bool = False, broken: "Iterable[str]" = ()) -> None:
    """Check a config.json, or with `process` a process.json.

    `broken` are the JSON pointers where the schema has faults: a check that reads there is left out.
    """
    base = "/process" if process else ""
    for pointer, check in SECTIONS:
        if pointer.startswith(base):
            at = pointer.removeprefix(base)
            section = _find(document, at)
            if section is not None and not _is_broken(at, broken):
                check(section, at, say)
    for pointer, check, members in ACROSS:
        if pointer.startswith(base):
            at = pointer.removeprefix(base)
            section = _find(document, at)
            if section is not None and not any(_is_broken(f"{at}/{member}", broken) for member in members):
                check(section, at, say)


def _find(document: "Object", pointer: str) -> "Any":
    value: Any = document
    for token in pointer.split("/")[1:]:
        if type(value) is not dict:
            return None
        value = value.get(token)
    return value


def _is_broken(pointer: str, broken: "Iterable[str]") -> bool:
    """Whether there is a fault at, in or around the section at `pointer`."""
    return any(f"{pointer}/".startswith(f"{fault}/") or fault.startswith(f"{pointer}/") for fault in broken)
