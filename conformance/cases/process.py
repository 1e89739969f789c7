"""The process: terminal, program, limits, labels, capabilities, scheduling, user."""

import os
import resource
from pathlib import Path

from conformance import host
from conformance.trial import Trial, change, should

INFINITY = 2**64 - 1
PR_CAPBSET_DROP = 24
POLICIES = {name: n for n, name in enumerate(("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"))}
IO_CLASSES = {"RT": 1, "BE": 2, "IDLE": 3}


def refused(t: Trial, pointer: str, *values: object) -> None:
    """None of these values at this place of the config makes a container that runs."""
    t.each_refused(dict(change(pointer, value) for value in values), by_start=True)


# --- the program


def PROC_01(t: Trial) -> None:
    """A container can be created without `process`; it can't be started then."""
    del t.bundle.config["process"]
    container = t.create()
    t.equal("created", container.state()["status"], "status")
    t.true(container.start(ok=False).status != 0, "`start` succeeded without a program")


def PROC_02(t: Trial) -> None:
    """With `terminal` the standard streams are a new terminal, whose master comes through the console socket."""
    t.bundle.process["terminal"] = True
    t.bundle.program("report", "echo", "hello")
    console = t.console()
    container = t.create("--console-socket", console.path)
    t.true(os.isatty(console.master), "the descriptor from the socket is not a terminal")
    container.pid  # noqa: B018 - known from now on
    container.start()
    report, echo = console.lines()
    t.equal(0, container.wait(), "exit status")
    t.equal([1, 1, 1], report["tty"], "isatty of 0, 1, 2")
    t.equal("hello", echo["text"], "what the program wrote")


def PROC_02_false(t: Trial) -> None:
    """Without `terminal` the standard streams are those that the runtime was given."""
    t.bundle.process["terminal"] = False
    t.equal([0, 0, 0], t.report()["tty"], "isatty of 0, 1, 2")


def PROC_03(t: Trial) -> None:
    """The terminal has the size asked for, in characters, from the start."""
    t.bundle.process.update(terminal=True, consoleSize={"height": 33, "width": 121})
    console = t.console()
    container = t.create("--console-socket", console.path)
    container.start()
    (report,) = console.lines()
    t.equal({"height": 33, "width": 121}, report["winsize"], "size of the terminal")


def PROC_03_without_terminal(t: Trial) -> None:
    """Without a terminal its size is ignored."""
    t.bundle.process["consoleSize"] = {"height": 33, "width": 121}
    t.equal([0, 0, 0], t.report()["tty"], "isatty of 0, 1, 2")


def PROC_03_incomplete(t: Trial) -> None:
    """Both height and width are required."""
    for size in ({"height": 33}, {"width": 121}):
        t.bundle.process.update(terminal=True, consoleSize=size)
        t.refused_by_start(f"with a consoleSize of {size}", "--console-socket", t.console().path)
        (t.folder / "console.sock").unlink()


def PROC_04(t: Trial) -> None:
    """The program starts in `cwd`, which is a path in the container."""
    t.bundle.process["cwd"] = "/tmp"
    t.equal("/tmp", t.report()["cwd"], "working directory")


def PROC_04_relative(t: Trial) -> None:
    """`cwd` has to be there, and to be absolute."""
    refused(t, "/process/cwd", "tmp", "./tmp", "")
    del t.bundle.process["cwd"]
    t.refused_by_start("without cwd")


def PROC_05(t: Trial) -> None:
    """The program's environment is `env`, and nothing of the runtime's own."""
    env = ["PATH=/:/bin", "HOME=/", "EMPTY=", "SIGNS=a=b c\"'$PATH\\", "LETTERS=äß€", "lower=1"]
    t.bundle.process["env"] = env
    found = t.report(env={**os.environ, "LEAK": "1"})["env"]
    t.equal(sorted(env), sorted(text.encode("latin-1").decode() for text in found), "environment")


def PROC_05_unset(t: Trial) -> None:
    """Without `env` the program does not get the runtime's environment."""
    del t.bundle.process["env"]
    found = t.report(env={**os.environ, "LEAK": "1"})["env"]
    t.true("LEAK=1" not in found, f"the environment is {found}")


def PROC_06(t: Trial) -> None:
    """`args` is the program's whole argument vector, byte by byte."""
    args = ["/probe", "echo", "", "echo", "a b\t*$HOME\"'\\", "echo", "ä€", "report"]
    t.bundle.process["args"] = args
    found = t.run()[-1]["args"]
    t.equal(args, [text.encode("latin-1").decode() for text in found], "argument vector")


def PROC_06_path(t: Trial) -> None:
    """A name without a slash is looked up in the PATH of `env`, in the container, first come first served."""
    for folder in ("none", "one", "two", "three"):
        (t.bundle.rootfs / folder).mkdir()
    (t.bundle.rootfs / "one" / "tool").write_text("not executable")
    for folder in ("two", "three"):
        os.link(t.bundle.rootfs / "probe", t.bundle.rootfs / folder / "tool")
    os.unlink(t.bundle.rootfs / "three" / "tool")
    (t.bundle.rootfs / "three" / "tool").write_text("#!/nonexistent\n")
    (t.bundle.rootfs / "three" / "tool").chmod(0o755)
    t.bundle.process.update(args=["tool", "report"], env=["PATH=/none:/missing:/one:/two:/three"])
    (report,) = t.run()
    t.equal("tool", report["args"][0], "first argument")


def PROC_06_relative(t: Trial) -> None:
    """A name with a slash is relative to the working directory and is not looked up in PATH."""
    os.link(t.bundle.rootfs / "probe", t.bundle.rootfs / "tmp" / "tool")
    t.bundle.process.update(args=["./tool", "report"], env=["PATH=/nowhere"], cwd="/tmp")
    (report,) = t.run()
    t.equal("./tool", report["args"][0], "first argument")


def PROC_06_empty(t: Trial) -> None:
    """`args` needs an entry."""
    refused(t, "/process/args", [])
    del t.bundle.process["args"]
    t.refused_by_start("without args")


def PROC_06_missing(t: Trial) -> None:
    """A program that is not there, or not executable, can't be started."""
    (t.bundle.rootfs / "bin" / "plain").write_text("not executable")
    refused(t, "/process/args", ["missing"], ["/missing"], ["plain"], ["/bin/plain"], ["/bin"])


def PROC_07(t: Trial) -> None:
    """Properties for Windows, commandLine and user.username, change nothing."""
    t.bundle.process["commandLine"] = "cmd /c exit 3"
    t.bundle.process["user"]["username"] = "nobody"
    report = t.report()
    t.equal(["/probe", "report"], report["args"], "argument vector")
    t.equal([0, 0, 0], report["uid"], "uid")


# --- limits


def limits() -> "dict[str, tuple[int, int]]":
    """For each resource two values that differ, which this host can grant, and a container can live with."""
    wanted = {
        "CPU": (1000, 2000), "FSIZE": (1 << 40, 1 << 41), "DATA": (1 << 40, 1 << 41), "STACK": (4 << 20, 6 << 20),
        "CORE": (4096, 8192), "RSS": (1 << 40, 1 << 41), "NPROC": (3000, 4000), "NOFILE": (100, 200),
        "MEMLOCK": (65536, 131072), "AS": (1 << 40, 1 << 41), "LOCKS": (100, 200), "SIGPENDING": (300, 400),
        "MSGQUEUE": (4096, 8192), "NICE": (3, 5), "RTPRIO": (3, 5), "RTTIME": (1000000, 2000000),
    }  # fmt: skip
    found = {}
    for number, (name, (soft, hard)) in enumerate(wanted.items()):
        highest = resource.prlimit(0, number)[1]
        if highest != resource.RLIM_INFINITY and not host.bounding() >> host.CAP["SYS_RESOURCE"] & 1:
            hard = min(hard, highest)
            soft = min(soft, hard)
        found[name] = soft, hard
    return found


def PROC_10(t: Trial) -> None:
    """The name of a limit must be one of getrlimit(2)."""
    names = ("RLIMIT_FOO", "RLIMIT_nofile", "NOFILE", "RLIMIT_NLIMITS", "RLIMIT_", "")
    refused(t, "/process/rlimits", *([{"type": name, "soft": 10, "hard": 10}] for name in names))


def PROC_10_without_type(t: Trial) -> None:
    """A limit without a name is an error."""
    refused(t, "/process/rlimits", [{"soft": 10, "hard": 10}])


def PROC_11(t: Trial) -> None:
    """Each of the 16 limits becomes what soft and hard say."""
    wanted = limits()
    t.bundle.process["rlimits"] = [
        {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()
    ]
    found = t.report()["rlimits"]
    for name, (soft, hard) in wanted.items():
        t.equal([soft, hard], found[name], f"RLIMIT_{name}")


def PROC_11_infinity(t: Trial) -> None:
    """2^64 - 1 means unlimited, where the runtime itself has a limit."""
    t.bundle.process["rlimits"] = [{"type": "RLIMIT_FSIZE", "soft": INFINITY, "hard": INFINITY}]

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, resource.RLIM_INFINITY))

    t.equal([INFINITY, INFINITY], t.report(preexec_fn=lower)["rlimits"]["FSIZE"], "RLIMIT_FSIZE")


def PROC_11_impossible(t: Trial) -> None:
    """A soft limit above the hard one, or one of the two missing, is an error."""
    values = ({"soft": 20, "hard": 10}, {"soft": 20}, {"hard": 10})
    refused(t, "/process/rlimits", *([{"type": "RLIMIT_NOFILE", **value}] for value in values))


def PROC_12(t: Trial) -> None:
    """Two limits of one type are an error, even if they agree."""
    refused(t, "/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}] * 2)


# --- security modules


def PROC_15(t: Trial) -> None:
    """The program runs under apparmorProfile; where that is impossible it is an error."""
    refused(t, "/process/apparmorProfile", "conformance-no-such-profile")
    if not host.is_lsm("apparmor"):
        raise host.Missing("AppArmor is not active; a profile was refused")
    with host.apparmor_profile("profile conformance-probe flags=(attach_disconnected) { file, }"):
        t.bundle.process["apparmorProfile"] = "conformance-probe"
        t.equal("conformance-probe (enforce)", t.report()["label"].rstrip("\n\0"), "AppArmor label")


def PROC_16(t: Trial) -> None:
    """The program runs under selinuxLabel; where that is impossible it is an error."""
    refused(t, "/process/selinuxLabel", "conformance_u:conformance_r:conformance_t:s0")
    label = "system_u:system_r:container_t:s0:c1,c2"
    host.require_selinux(label)
    t.bundle.process["selinuxLabel"] = label
    t.equal(label, t.report()["label"].rstrip("\n\0"), "SELinux label")


# --- privileges


def bits(*names: str) -> int:
    return sum(1 << host.CAP[name] for name in names)


def sets(**wanted: str) -> "dict[str, list[str]]":
    """`effective="CHOWN KILL"` … as in a config; a set that is not named is empty."""
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {kind: [f"CAP_{name}" for name in wanted.get(kind, "").split()] for kind in kinds}


def PROC_20(t: Trial) -> None:
    """Root's program has the bounding and inheritable sets asked for, and what execve makes of them."""
    t.bundle.process["capabilities"] = sets(
        bounding="CHOWN KILL FOWNER", permitted="CHOWN FOWNER", effective="CHOWN", inheritable="FOWNER"
    )
    found = t.report()["capabilities"]
    everything = bits("CHOWN", "KILL", "FOWNER")
    t.equal(everything, found["bounding"], "bounding set")
    t.equal(bits("FOWNER"), found["inheritable"], "inheritable set")
    t.equal(0, found["ambient"], "ambient set")
    # the kernel gives root what is bounding or inheritable
    t.equal(everything, found["permitted"], "permitted set")
    t.equal(everything, found["effective"], "effective set")


def PROC_20_ambient(t: Trial) -> None:
    """A user's program keeps the ambient set."""
    t.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    t.bundle.process["capabilities"] = sets(
        bounding="CHOWN KILL FOWNER",
        permitted="CHOWN KILL",
        effective="CHOWN KILL",
        inheritable="CHOWN KILL",
        ambient="KILL",
    )
    found = t.report()["capabilities"]
    t.equal(bits("CHOWN", "KILL", "FOWNER"), found["bounding"], "bounding set")
    t.equal(bits("CHOWN", "KILL"), found["inheritable"], "inheritable set")
    for kind in ("ambient", "permitted", "effective"):
        t.equal(bits("KILL"), found[kind], f"{kind} set")


def PROC_20_empty(t: Trial) -> None:
    """Sets that are empty leave nothing, to root too."""
    t.bundle.process["capabilities"] = sets()
    t.equal(dict.fromkeys(sets(), 0), t.report()["capabilities"], "capabilities")


def PROC_20_user_without_ambient(t: Trial) -> None:
    """A user's program has no capability that is not ambient, whatever was permitted."""
    t.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    t.bundle.process["capabilities"] = sets(bounding="CHOWN", permitted="CHOWN", effective="CHOWN")
    found = t.report()["capabilities"]
    t.equal(
        (bits("CHOWN"), 0, 0),
        (found["bounding"], found["permitted"], found["effective"]),
        "bounding, permitted, effective",
    )


def PROC_20_in_a_user_namespace(t: Trial) -> None:
    """In a user namespace every capability is available, also those that the runtime lacks on the host."""
    t.require_type("user")
    t.bundle.user_namespace()
    names = " ".join(name for name in host.CAPABILITIES if host.CAP[name] <= host.last_capability())
    t.bundle.process["capabilities"] = sets(bounding=names, permitted=names, effective=names)
    found = t.report()["capabilities"]
    for kind in ("bounding", "permitted", "effective"):
        t.equal(bits(*names.split()), found[kind], f"{kind} set")


@should
def PROC_21(t: Trial) -> None:
    """An unknown capability is not an error; the others are granted; how a warning is shown is not specified."""
    wanted = sets(bounding="CHOWN", permitted="CHOWN", effective="CHOWN")
    for names in wanted.values():
        names.append("CAP_CONFORMANCE")
    t.bundle.process["capabilities"] = wanted
    container = t.create()
    container.start()
    t.equal(bits("CHOWN"), container.tells("report")["capabilities"]["effective"], "effective set")


@should
def PROC_21_ungrantable(t: Trial) -> None:
    """A capability that the runtime itself lacks should be no error; the others are granted."""
    t.bundle.process["capabilities"] = sets(bounding="CHOWN SYSLOG", permitted="CHOWN SYSLOG", effective="CHOWN SYSLOG")

    def drop() -> None:
        host.check(host.LIBC.prctl(PR_CAPBSET_DROP, host.CAP["SYSLOG"], 0, 0, 0), "prctl")

    container = t.create(preexec_fn=drop)
    container.start()
    found = container.tells("report")["capabilities"]
    t.equal((bits("CHOWN"), bits("CHOWN")), (found["bounding"], found["effective"]), "bounding and effective set")


def PROC_22(t: Trial) -> None:
    """noNewPrivileges is set if it is true, and only then."""
    for wanted in (True, False):
        t.bundle.process["noNewPrivileges"] = wanted
        t.equal(int(wanted), t.report()["noNewPrivileges"], f"no_new_privs with {wanted}")
    del t.bundle.process["noNewPrivileges"]
    t.equal(0, t.report()["noNewPrivileges"], "no_new_privs if it is unset")


def PROC_23(t: Trial) -> None:
    """oomScoreAdj is written, 0 too; if it is unset the value stays the runtime's."""

    def be_killed_early() -> None:
        Path("/proc/self/oom_score_adj").write_text("321")

    for wanted in (500, 0, None):
        t.bundle.process["oomScoreAdj"] = wanted
        if wanted is None:
            del t.bundle.process["oomScoreAdj"]
        found = t.report(preexec_fn=be_killed_early)["oom_score_adj"]
        t.equal(str(321 if wanted is None else wanted), found.strip(), f"oom_score_adj with {wanted}")


def PROC_23_impossible(t: Trial) -> None:
    """A value that the kernel does not take is an error."""
    refused(t, "/process/oomScoreAdj", 1001, -1001)


# --- scheduling


def scheduled(t: Trial, policy: str, **more: object) -> "dict[str, int]":
    """How the kernel schedules the program after it was asked for this."""
    t.bundle.process["scheduler"] = {"policy": f"SCHED_{policy}", **more}
    found = t.report()["scheduler"]
    t.equal(POLICIES[policy], found["policy"], "policy")
    return found


def PROC_30(t: Trial) -> None:
    """The program is scheduled by the policy asked for."""
    for policy in ("BATCH", "IDLE", "OTHER"):
        scheduled(t, policy)


def PROC_30_realtime(t: Trial) -> None:
    """The policies for real time, with their priorities."""
    for policy in ("FIFO", "RR"):
        host.require_scheduler(POLICIES[policy], priority=10)
        t.equal(10, scheduled(t, policy, priority=10)["priority"], "priority")


def PROC_30_unknown(t: Trial) -> None:
    """A policy that does not exist, or none, is an error; so is SCHED_ISO, which Linux never had."""
    policies = ({"policy": name} for name in ("SCHED_FOO", "OTHER", "SCHED_ISO", ""))
    refused(t, "/process/scheduler", *policies, {"nice": 3}, {})


def PROC_31(t: Trial) -> None:
    """nice is the program's nice value; unset it is 0, and so is the priority."""
    for policy, nice in (("OTHER", 7), ("BATCH", -5)):
        t.equal(nice, scheduled(t, policy, nice=nice)["nice"], "nice value")
    t.bundle.process["scheduler"] = {"policy": "SCHED_OTHER"}
    found = t.report(preexec_fn=lambda: os.nice(3))["scheduler"]
    t.equal((0, 0), (found["nice"], found["priority"]), "nice value and priority if they are unset")


def PROC_31_impossible(t: Trial) -> None:
    """Values that the policy can't have are errors."""
    refused(
        t,
        "/process/scheduler",
        {"policy": "SCHED_OTHER", "nice": 20},
        {"policy": "SCHED_OTHER", "nice": -21},
        {"policy": "SCHED_OTHER", "priority": 1},
        {"policy": "SCHED_FIFO"},
        {"policy": "SCHED_FIFO", "priority": 100},
    )


def PROC_32(t: Trial) -> None:
    """The flags are those of sched_setattr(2)."""
    t.equal(1, scheduled(t, "OTHER", flags=["SCHED_FLAG_RESET_ON_FORK"])["flags"], "flags")
    t.equal(0, scheduled(t, "OTHER", flags=[])["flags"], "flags")


def PROC_32_deadline(t: Trial) -> None:
    """Flags that only the deadline policy knows."""
    times = {"runtime": 10**7, "deadline": 2 * 10**7, "period": 3 * 10**7}
    host.require_scheduler(POLICIES["DEADLINE"], **times)
    found = scheduled(t, "DEADLINE", flags=["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"], **times)
    t.equal(6, found["flags"], "flags")


def PROC_32_unknown(t: Trial) -> None:
    """A flag that does not exist is an error."""
    refused(t, "/process/scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FOO"]})


def PROC_33(t: Trial) -> None:
    """The deadline policy gets its times, in nanoseconds; a period that is unset is the deadline."""
    times = {"runtime": 10**7, "deadline": 2 * 10**7, "period": 3 * 10**7}
    host.require_scheduler(POLICIES["DEADLINE"], **times)
    found = scheduled(t, "DEADLINE", **times)
    t.equal(times, {name: found[name] for name in times}, "runtime, deadline, period")
    del times["period"]
    t.equal(2 * 10**7, scheduled(t, "DEADLINE", **times)["period"], "period if it is unset")


def PROC_33_impossible(t: Trial) -> None:
    """Times that contradict each other are an error."""
    above = {"policy": "SCHED_DEADLINE", "runtime": 3 * 10**7, "deadline": 2 * 10**7}
    refused(t, "/process/scheduler", above, {"policy": "SCHED_DEADLINE"})


def PROC_35(t: Trial) -> None:
    """The I/O class and priority are the program's."""
    for name, priority in (("BE", 6), ("BE", 0), ("RT", 2), ("IDLE", 7)):
        t.bundle.process["ioPriority"] = {"class": f"IOPRIO_CLASS_{name}", "priority": priority}
        found = t.report()["ioprio"]
        t.equal((IO_CLASSES[name], priority), (found >> 13, found & 7), "I/O class and priority")


def PROC_35_impossible(t: Trial) -> None:
    """A class that does not exist, a priority above 7, or one of the two missing is an error."""
    refused(
        t,
        "/process/ioPriority",
        {"class": "IOPRIO_CLASS_FOO", "priority": 4},
        {"class": "IOPRIO_CLASS_NONE", "priority": 0},
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        {"class": "IOPRIO_CLASS_BE", "priority": -1},
        {"class": "IOPRIO_CLASS_BE"},
        {"priority": 4},
    )


def PROC_40(t: Trial) -> None:
    """execCPUAffinity does nothing to the container's first process."""
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        raise host.Missing("there is one CPU only")
    before = processors(t)  # not the caller's own: a runtime may give a container all that there are
    t.bundle.process["execCPUAffinity"] = {"initial": str(min(cpus)), "final": str(min(cpus))}
    t.equal(before, processors(t), "mask of CPUs")


def processors(t: Trial) -> str:
    """The mask of CPUs that the program may run on."""
    (line,) = [line for line in t.report()["status"].splitlines() if line.startswith("Cpus_allowed:")]
    return str(line.split()[1])


def PROC_40_malformed(t: Trial) -> None:
    """An invalid list of CPUs is an error."""
    for name in ("initial", "final"):
        refused(t, "/process/execCPUAffinity", *({name: text} for text in ("a", "0-", "0;1")))


# --- the user


def PROC_50(t: Trial) -> None:
    """The program runs as uid and gid."""
    t.bundle.process["user"] = {"uid": 1000, "gid": 2000}
    report = t.report()
    t.equal([1000] * 3, report["uid"], "real, effective and saved uid")
    t.equal([2000] * 3, report["gid"], "real, effective and saved gid")


def PROC_50_in_a_user_namespace(t: Trial) -> None:
    """The ids are those of the container's user namespace."""
    t.require_type("user")
    t.bundle.user_namespace(base=100000)
    t.bundle.process["user"] = {"uid": 5, "gid": 6}
    t.bundle.program("report", "pause")
    container = t.create()
    container.start()
    report = container.tells("report")
    t.equal(([5] * 3, [6] * 3), (report["uid"], report["gid"]), "ids in the container")
    on_host = dict(line.split(":\t", 1) for line in container.file("status").splitlines() if ":\t" in line)
    t.equal(["100005"] * 4, on_host["Uid"].split(), "uid on the host")
    t.equal(["100006"] * 4, on_host["Gid"].split(), "gid on the host")


def PROC_50_unmapped(t: Trial) -> None:
    """An id that the user namespace does not have is an error."""
    t.require_type("user")
    t.bundle.user_namespace(size=65536)
    groups = {"uid": 0, "gid": 0, "additionalGids": [70000]}
    refused(t, "/process/user", {"uid": 65536, "gid": 0}, {"uid": 0, "gid": 70000}, groups)


def PROC_50_incomplete(t: Trial) -> None:
    """A user needs both uid and gid."""
    refused(t, "/process/user", {"uid": 1000}, {"gid": 1000})


def PROC_51(t: Trial) -> None:
    """umask is the program's."""
    for wanted in (0o077, 0, 0o027):
        t.bundle.process["user"]["umask"] = wanted
        t.equal(oct(wanted), oct(t.report()["umask"]), "umask")


@should
def PROC_51_unset(t: Trial) -> None:
    """If it is unset, the umask stays that of the runtime's caller."""
    t.equal(oct(0o035), oct(t.report(preexec_fn=lambda: os.umask(0o035))["umask"]), "umask")


def PROC_52(t: Trial) -> None:
    """The program has additionalGids as its supplementary groups, and none of the runtime's."""
    t.bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7, 1001, 70000]}
    groups = t.report(preexec_fn=lambda: os.setgroups([4242]))["groups"]
    t.equal([7, 1001, 70000], sorted(set(groups) - {1000}), "supplementary groups")


def PROC_53(t: Trial) -> None:
    """Users and groups are numbers: a name is an error, even one that the container knows."""
    (t.bundle.rootfs / "etc" / "passwd").write_text("root:x:0:0:::\nuser:x:1000:1000:::\n")
    (t.bundle.rootfs / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    groups = {"uid": 0, "gid": 0, "additionalGids": ["user"]}
    refused(t, "/process/user", {"uid": "user", "gid": 0}, {"uid": 0, "gid": "user"}, groups, {"uid": "0", "gid": 0})
