"""The features document: what a runtime says that it knows, held against what it does."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from conformance import notify
from conformance.cases import seccomp as filters
from conformance.cases.linux import MODES, SINCE, policy
from conformance.trial import SEMVER, Failure, Trial, host, should

SECCOMP = {  # the values that the specification knows
    "actions": {f"SCMP_ACT_{x}" for x in "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP".split()},
    "operators": {f"SCMP_CMP_{x}" for x in "NE LT LE EQ GE GT MASKED_EQ".split()},
    "archs": {
        f"SCMP_ARCH_{x}"
        for x in (
            "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC "
            "PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
        ).split()
    },
}
FLAGS = {f"SECCOMP_FILTER_FLAG_{x}" for x in "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV".split()}
NAMESPACES = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}
HOOKS = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
OF_FILESYSTEMS = {
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "newinstance",
    "ptmxmode",
    "hidepid",
    "lowerdir",
    "upperdir",
    "nsdelegate",
}


def part(t: Trial, *path: str) -> Any:
    """A property of the document. Missing if it is absent: the runtime then says nothing of it, as it may."""
    found: Any = t.runtime.features()
    for name in path:
        if not isinstance(found, dict) or found.get(name) is None:
            raise host.Missing(f"the document says nothing of {'.'.join(path)}")
        found = found[name]
    return found


def words(t: Trial, *path: str) -> "list[str]":
    """A property that is a list of strings."""
    found = part(t, *path)
    if not isinstance(found, list) or not all(isinstance(word, str) and word for word in found):
        raise Failure(f"{'.'.join(path)} is {found!r}, no list of strings")
    t.equal(len(set(found)), len(found), f"the number of words in {'.'.join(path)}")
    return found


def switch(t: Trial, *path: str) -> bool:
    """A property that is true or false."""
    found = part(t, *path)
    if not isinstance(found, bool):
        raise Failure(f"{'.'.join(path)} is {found!r}, neither true nor false")
    return found


def order(version: str) -> "tuple[Any, ...]":
    """Sorts versions as SemVer does."""
    if not isinstance(version, str) or not SEMVER.fullmatch(version):
        raise Failure(f"{version!r} is not a version")
    core, _, pre = version.partition("+")[0].partition("-")
    parts = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in pre.split(".")] if pre else []
    return (*map(int, core.split(".")), not pre, parts)


def FEAT_01(t: Trial) -> None:
    """The document is the same whatever the host and the environment are: it describes the runtime."""

    def seen() -> "dict[str, Any]":
        document = t.runtime.features()
        with contextlib.suppress(Failure, AttributeError, TypeError):
            document["linux"]["seccomp"].pop("supportedFlags", None)  # these are of the host
        return document

    here = seen()
    os.environ["HOME"] = "/nonexistent"
    os.chdir(t.folder)
    host.unshare(host.CLONE_NEWNET)
    for place in ("/sys", "/run", "/dev"):
        host.mount("conformance", place, "tmpfs")
    host.mount("/dev", "/dev", "", host.MS_BIND)
    t.equal(here, seen(), "the document in another environment")


def FEAT_02(t: Trial) -> None:
    """Unknown properties are left out, not null; both versions are always there."""
    document = t.runtime.features()
    nulls: list[str] = []

    def search(value: object, path: str) -> None:
        if value is None:
            nulls.append(path)
        for name, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            search(inner, f"{path}/{name}")

    search(document, "")
    t.equal([], nulls, "what is null")
    for name in ("ociVersionMin", "ociVersionMax"):
        version = document.get(name)
        t.true(isinstance(version, str) and SEMVER.fullmatch(version), f"{name} is {version!r}")


def FEAT_03(t: Trial) -> None:
    """A config of ociVersionMin is accepted."""
    t.bundle.config["ociVersion"] = part(t, "ociVersionMin")
    t.report()


def FEAT_04(t: Trial) -> None:
    """A config of ociVersionMax is accepted, and it is not below ociVersionMin."""
    low, high = part(t, "ociVersionMin"), part(t, "ociVersionMax")
    t.true(order(low) <= order(high), f"ociVersionMax {high} is below ociVersionMin {low}")
    t.bundle.config["ociVersion"] = high
    t.report()


def FEAT_04_newer(t: Trial) -> None:
    """The document has no property that is newer than ociVersionMax."""
    since = {
        ("potentiallyUnsafeConfigAnnotations",): "1.2.0",
        ("linux", "mountExtensions"): "1.2.0",
        ("linux", "intelRdt", "schemata"): "1.3.0",
        ("linux", "intelRdt", "monitoring"): "1.3.0",
        ("linux", "memoryPolicy"): "1.3.0",
        ("linux", "netDevices"): "1.3.0",
    }
    document, high = t.runtime.features(), part(t, "ociVersionMax")
    newer = []
    for path, version in since.items():
        value: Any = document
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        # 1.2.0-rc.1 and 1.2.0+dev may have what came with 1.2.0
        if value is not None and order(high)[:3] < order(version)[:3]:
            newer.append(f"{'.'.join(path)} of {version}")
    t.equal([], newer, f"what is newer than {high}")


def FEAT_05(t: Trial) -> None:
    """Each kind of hook that is listed runs."""
    kinds = words(t, "hooks")
    t.true(set(kinds) <= HOOKS, f"these are not hooks: {set(kinds) - HOOKS}")
    for kind in kinds:
        t.bundle.hook(kind)
    t.run("report")
    t.equal(sorted(kinds), sorted(t.hook_names()), "the hooks that ran")


# Options of the specification's table, by what they set; the recursive ones need mount_setattr(2).
OPTIONS = {
    *"ro rw nosuid suid nodev dev noexec exec sync async dirsync noatime atime nodiratime diratime relatime norelatime".split(),
    *"strictatime nostrictatime lazytime nolazytime iversion noiversion silent loud nosymfollow symfollow defaults".split(),
    *"private rprivate shared rshared slave rslave unbindable runbindable tmpcopyup".split(),
}
RECURSIVE = {
    *"rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime rnoatime ratime".split(),
    *"rstrictatime rnostrictatime rnosymfollow rsymfollow".split(),
}
KERNELS = {
    **dict.fromkeys(RECURSIVE, (5, 12)),
    **dict.fromkeys(("nosymfollow", "symfollow"), (5, 10)),
    **dict.fromkeys(("rnosymfollow", "rsymfollow"), (5, 14)),
}
FLAGS_OF = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048}


def listed_options(t: Trial) -> "list[str]":
    """Listed options that are in the specification's table and available in this kernel. It is unknown whether what a
    runtime has of its own is refused for good reason.
    """
    listed = words(t, "mountOptions")
    return [name for name in listed if name in OPTIONS | RECURSIVE and host.kernel() >= KERNELS.get(name, (0, 0))]


def FEAT_06(t: Trial) -> None:
    """Each mount option that is listed is recognised by the runtime: it is not passed on to the filesystem."""
    plain = [option for option in listed_options(t) if option in OPTIONS]  # the others are only recommended
    outside = t.folder / "outside"
    outside.mkdir()
    for number, option in enumerate(plain):
        t.bundle.mount(f"/m{number}", "tmpfs", "tmpfs", option)
    for option in {"bind", "rbind"} & set(words(t, "mountOptions")):
        t.bundle.bind(outside, f"/{option}", option)
    if "remount" in words(t, "mountOptions"):
        t.bundle.mount("/dev/shm", "tmpfs", "tmpfs", "remount", "nosuid")
    if t.create(ok=False).created.status == 0:
        return
    whole, refused = t.bundle.config["mounts"], []
    for number, option in enumerate(plain):
        t.bundle.config["mounts"] = [
            m for m in whole if m["destination"] == f"/m{number}" or not m["destination"].startswith("/m")
        ]
        if t.create(ok=False).created.status:
            refused.append(option)
    t.equal([], refused, "listed options that are refused")


def without_effect(t: Trial, flags: "dict[str, int]") -> "list[str]":
    """Which of these options, if they are listed, do not set their flag on a bind mount."""
    listed = [option for option in listed_options(t) if option in flags]
    outside = t.folder / "outside"
    outside.mkdir()
    host.mount("conformance", outside, "tmpfs")
    for option in listed:
        t.bundle.bind(outside, f"/m-{option}", "rbind", option)
    found = t.run(*(word for option in listed for word in ("statfs", f"/m-{option}"))) if listed else []
    return [option for option, line in zip(listed, found, strict=True) if not line.get("flags", 0) & flags[option]]


def FEAT_06_effect(t: Trial) -> None:
    """Mount options that set a flag, and are listed, do so on a bind mount."""
    t.equal([], without_effect(t, FLAGS_OF), "listed options without an effect")


@should
def FEAT_06_recursive(t: Trial) -> None:
    """So do those that set it on all of a tree."""
    flags = {f"r{option}": flag for option, flag in FLAGS_OF.items()}
    t.equal([], without_effect(t, flags), "listed options without an effect")


def FEAT_06_filesystems(t: Trial) -> None:
    """No option of a filesystem is listed."""
    found = {option for option in words(t, "mountOptions") if "=" in option or option in OF_FILESYSTEMS}
    t.equal(set(), found, "options of filesystems in the list")


def FEAT_07(t: Trial) -> None:
    """Annotations of the document are strings with names."""
    annotations = part(t, "annotations")
    t.true(isinstance(annotations, dict), f"annotations is {annotations!r}")
    wrong = {name: value for name, value in annotations.items() if not name or not isinstance(value, str)}
    t.equal({}, wrong, "annotations without a name or that are not strings")


def FEAT_08(t: Trial) -> None:
    """potentiallyUnsafeConfigAnnotations is a list of names; other annotations change nothing."""
    listed = words(t, "potentiallyUnsafeConfigAnnotations")
    known = [  # what runtimes are known to obey
        *(
            "run.oci.keep_original_groups",
            "run.oci.systemd.force_cgroup_v1",
            "run.oci.hooks.stdout",
            "run.oci.mount_context_type",
        ),
        *(
            "run.oci.handler",
            "run.oci.seccomp_bpf_data",
            "org.systemd.property.CPUWeight",
            "io.katacontainers.config.hypervisor.path",
        ),
    ]
    innocent = [
        name
        for name in known
        if not any(name == word or (word.endswith((".", "/")) and name.startswith(word)) for word in listed)
    ]
    t.bundle.config["annotations"] = dict.fromkeys(innocent, "1")  # which switches on what is a switch
    t.bundle.process["user"]["additionalGids"] = [12345]
    t.equal([12345], t.report()["groups"], "supplementary groups")


def FEAT_10(t: Trial) -> None:
    """Each namespace type that is listed is recognised: the container gets a new one, where the host has it."""
    listed = words(t, "linux", "namespaces")
    t.true(set(listed) <= NAMESPACES, f"these are not namespaces: {set(listed) - NAMESPACES}")
    files = {"mount": "mnt", "network": "net"}
    usable = [kind for kind in listed if os.path.exists(f"/proc/self/ns/{files.get(kind, kind)}")]
    t.bundle.linux["namespaces"] = [{"type": kind} for kind in usable if kind != "user"]
    if "user" in usable:
        t.bundle.user_namespace()
    found = t.report()["namespaces"]
    shared = [
        kind for kind in usable if found[files.get(kind, kind)] == os.readlink(f"/proc/self/ns/{files.get(kind, kind)}")
    ]
    t.equal([], shared, "namespaces listed, and not made")


def FEAT_11(t: Trial) -> None:
    """Each capability that is listed is recognised: the process gets it, where the host has it, and there is no
    warning.
    """
    listed = words(t, "linux", "capabilities")
    wrong = [name for name in listed if not re.fullmatch(r"CAP_[A-Z_]+", name) or name[4:] not in host.CAP]
    t.equal([], wrong, "what is listed and no capability")
    usable = [name for name in listed if name in host.granted()]
    t.bundle.process["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), usable)
    t.bundle.program("report", "pause")
    container = t.create()
    t.true("CAP_" not in container.created.err, f"`create` says {container.created.err[:300]}")
    container.start()
    mask = sum(1 << host.CAP[name[4:]] for name in usable)
    t.equal(mask, container.tells("report")["capabilities"]["effective"], "the effective capabilities")


def FEAT_12(t: Trial) -> None:
    """The cgroup managers that are said to be there are: the container has a cgroup of its own in a hierarchy
    that is said to be supported.
    """
    t.true(isinstance(part(t, "linux", "cgroup"), dict), "linux.cgroup is not an object")
    for name in part(t, "linux", "cgroup"):
        switch(t, "linux", "cgroup", name)
    v1, v2 = switch(t, "linux", "cgroup", "v1"), switch(t, "linux", "cgroup", "v2")
    container = t.running()
    own = Path("/proc/self/cgroup").read_text().splitlines()
    moved = [line for line in container.file("cgroup").splitlines() if line not in own]
    t.true(
        not any(line.startswith("0::") for line in moved) or v2, "it uses cgroup v2, and says that it does not know it"
    )
    t.true(
        not any(not line.startswith("0::") for line in moved) or v1,
        "it uses cgroup v1, and says that it does not know it",
    )
    t.true(moved or not (v2 if host.is_unified() else v1 or v2), "the container is in the caller's cgroup")


def FEAT_13(t: Trial) -> None:
    """Listed values of seccomp are known to the specification, and supported flags are known flags."""
    for name, known in SECCOMP.items():
        listed = set(words(t, "linux", "seccomp", name))
        t.true(listed <= known, f"these are not {name}: {listed - known}")
    flags = set(words(t, "linux", "seccomp", "knownFlags"))
    t.true(flags <= FLAGS, f"these are not flags: {flags - FLAGS}")
    supported = set(words(t, "linux", "seccomp", "supportedFlags"))
    t.true(supported <= flags, f"supported, but not known: {supported - flags}")


def FEAT_13_actions(t: Trial) -> None:
    """A filter with all actions and operators that are listed is accepted, and in force."""
    if not switch(t, "linux", "seccomp", "enabled"):
        raise host.Missing("the runtime says that it has no seccomp")
    actions, operators = words(t, "linux", "seccomp", "actions"), words(t, "linux", "seccomp", "operators")
    spare = ["acct", "swapon", "swapoff", "reboot", "quotactl", "syslog", "vhangup", "init_module", "delete_module"]
    rules = [filters.rule(name, action) for name, action in zip(spare, actions, strict=False)]
    for name, op in zip(filters.CALLS, operators, strict=False):
        value, two, _, _ = filters.OPERATORS[op]
        rules.append(filters.rule(name, filters.ERRNO, filters.arg(5, value, op, two), errnoRet=filters.MARK))
    t.bundle.linux["seccomp"] = filters.profile(filters.ALLOW, *rules)
    if filters.NOTIFY in actions:
        notify.require_notification()
        t.bundle.linux["seccomp"]["listenerPath"] = str(notify.Agent(t.folder / "agent.sock").path)
    calls = [
        filters.call(name, a5=filters.OPERATORS[op][2][0]) for name, op in zip(filters.CALLS, operators, strict=False)
    ]
    found = t.run(*(word for words in calls for word in words))
    t.equal([filters.MARK_NAME] * len(operators), [filters.told(line) for line in found], "how calls end that match")


def FEAT_13_flags(t: Trial) -> None:
    """Each flag that is said to be supported here is accepted."""
    for flag in words(t, "linux", "seccomp", "supportedFlags"):
        seccomp = filters.profile(filters.ALLOW, filters.rule("getpriority"), flags=[flag])
        if flag.endswith("WAIT_KILLABLE_RECV"):  # it needs a listener
            notify.require_notification()
            agent = notify.Agent(t.folder / "agent.sock")
            seccomp["syscalls"].append(filters.rule("getpgid", filters.NOTIFY))
            seccomp["listenerPath"] = str(agent.path)
        t.equal(["EPERM"], filters.outcomes(t, seccomp, filters.call("getpriority")), f"with {flag}, how the call ends")


def FEAT_13_archs(t: Trial) -> None:
    """Each architecture of this machine that is listed is accepted."""
    families = (
        ("X86_64", "X86", "X32"),
        ("AARCH64", "ARM"),
        ("S390X", "S390"),
        ("RISCV64",),
        ("PPC64LE",),
        ("LOONGARCH64",),
    )
    machine = {"x86_64": "X86_64"}.get(os.uname().machine, os.uname().machine.upper())
    listed = words(t, "linux", "seccomp", "archs")
    own = [f"SCMP_ARCH_{name}" for family in families if machine in family for name in family]
    t.true(f"SCMP_ARCH_{machine}" in listed, "this machine's own architecture is not listed")
    seccomp = filters.profile(
        filters.ALLOW, filters.rule("getpgid"), architectures=[name for name in own if name in listed]
    )
    t.equal(["EPERM"], filters.outcomes(t, seccomp, filters.call("getpgid")), "how the call ends")


def on_a_bare_host(t: Trial, *path: str) -> None:
    """A switch is the same without what the kernel tells in /sys."""
    here = switch(t, *path)
    host.mount("conformance", "/sys", "tmpfs")
    t.equal(here, switch(t, *path), f"{'.'.join(path)} without /sys")
    host.umount("/sys")


def FEAT_14(t: Trial) -> None:
    """apparmor.enabled and selinux.enabled say what the runtime can, whatever the host has; a false one means a
    refusal.
    """
    for name, key in (("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")):
        on_a_bare_host(t, "linux", name, "enabled")
        if not switch(t, "linux", name, "enabled"):
            t.bundle.process[key] = "conformance"
            t.refused_by_start(f"with {key}, though {name} is not enabled")
            del t.bundle.process[key]


def FEAT_15(t: Trial) -> None:
    """intelRdt.enabled says what the runtime can, whatever the host has; no part of it is there without the whole."""
    on_a_bare_host(t, "linux", "intelRdt", "enabled")
    whole = switch(t, "linux", "intelRdt", "enabled")
    for name in ("schemata", "monitoring"):
        if name in part(t, "linux", "intelRdt"):
            t.true(
                whole or not switch(t, "linux", "intelRdt", name), f"intelRdt.{name} is true, intelRdt.enabled is not"
            )


def FEAT_16(t: Trial) -> None:
    """Each mode and flag of memory policies that is listed is known to the specification, and accepted where the
    kernel has it.
    """
    modes, flags = words(t, "linux", "memoryPolicy", "modes"), words(t, "linux", "memoryPolicy", "flags")
    t.true(set(modes) <= set(MODES), f"these are not modes: {set(modes) - set(MODES)}")
    known = {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"}
    t.true(set(flags) <= known, f"these are not flags: {set(flags) - known}")
    host.get_mempolicy()
    for mode in modes:
        if host.kernel() >= SINCE.get(mode, (0, 0)):
            t.bundle.linux["memoryPolicy"] = policy(mode, MODES[mode][1])
            t.equal(MODES[mode][0], t.report()["mempolicy"], f"with {mode}, the policy")
    for flag in flags:
        t.bundle.linux["memoryPolicy"] = policy("MPOL_BIND", "0", flag)
        t.equal(2, t.report()["mempolicy"] & 0xFF, f"with {flag}, the mode")


def FEAT_17(t: Trial) -> None:
    """mountExtensions.idmap.enabled says whether mounts with mappings are attempted; if not, they are refused."""
    enabled = switch(t, "linux", "mountExtensions", "idmap", "enabled")
    outside = t.folder / "outside"
    outside.mkdir()
    if enabled:
        host.require_idmap(outside)
    mappings = {name: [{"containerID": 0, "hostID": 3000, "size": 100}] for name in ("uidMappings", "gidMappings")}
    t.bundle.bind(outside, "/tmp", "bind", "idmap", **mappings)
    if not enabled:
        t.refused(why="with mappings of a mount, though idmap is not enabled")
        return
    stat = t.ask("stat", "/tmp")
    t.equal((3000, 3000), (stat.get("uid"), stat.get("gid")), "the owner in the container of what is root's")


def FEAT_18(t: Trial) -> None:
    """netDevices.enabled says whether network devices are moved; if not, the property is refused."""
    host.require_tool("ip")
    enabled = switch(t, "linux", "netDevices", "enabled")
    host.unshare(host.CLONE_NEWNET)
    host.run("ip", "link", "add", "conf0", "type", "veth", "peer", "name", "conf1")
    t.bundle.linux["netDevices"] = {"conf0": {}}
    if not enabled:
        t.refused(why="with netDevices, though it is not enabled")
        return
    t.true("conf0" in t.ask("addresses")["links"], "the device was not moved")
