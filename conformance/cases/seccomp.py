"""Seccomp: the filter, and the agent that gets notifications of system calls."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from conformance import notify
from conformance.output import parse_object
from conformance.runtime import TIMEOUT
from conformance.trial import SEMVER, Failure, Trial, change, faults, host

ERRNO, ALLOW, NOTIFY = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY"
MARK, MARK_NAME = 99, "EADDRNOTAVAIL"  # an error that none of the system calls here has by itself

# System calls that a runtime has no need of, with arguments with which they succeed; the kernel looks at no more of
# them
CALLS = {
    "getpriority": (0, 0),
    "getpgid": (0,),
    "getsid": (0,),
    "sched_getscheduler": (0,),
    "sched_getparam": (0, "&"),
    "sched_get_priority_max": (0,),
    "sched_get_priority_min": (0,),
}
OPERATORS = {  # value, valueTwo, arguments that match, arguments that do not: 64 bits without a sign
    "SCMP_CMP_NE": (2**32 + 5, None, (5, 2**32, 2**32 + 6), (2**32 + 5,)),
    "SCMP_CMP_LT": (2**63, None, (0, 2**63 - 1, 2**32), (2**63, 2**64 - 1)),
    "SCMP_CMP_LE": (2**32 + 5, None, (2**32 + 5, 5, 2**32 - 1), (2**32 + 6, 2**33)),
    "SCMP_CMP_EQ": (2**32 + 5, None, (2**32 + 5,), (5, 2**32, 2**33 + 5)),
    "SCMP_CMP_GE": (2**32 + 5, None, (2**32 + 5, 2**33, 2**64 - 1), (2**32 + 4, 2**32 - 1)),
    "SCMP_CMP_GT": (2**63, None, (2**63 + 1, 2**64 - 1), (2**63, 2**63 - 1, 1)),
    "SCMP_CMP_MASKED_EQ": (
        0xF0000000F0,
        0x5000000050,
        (0x5000000050, 0x5F0000005F),
        (0x50, 0x5000000040, 0x5000000000),
    ),
}


def profile(default: str, *rules: "dict[str, Any]", **more: Any) -> "dict[str, Any]":
    return {"defaultAction": default, "syscalls": list(rules), **more}


def rule(names: "str | list[str]", action: str = ERRNO, *args: "dict[str, Any]", **more: Any) -> "dict[str, Any]":
    entry = {"names": [names] if isinstance(names, str) else names, "action": action, **more}
    return {**entry, "args": list(args)} if args else entry


def arg(index: int, value: int, op: str = "SCMP_CMP_EQ", two: "int | None" = None) -> "dict[str, Any]":
    entry = {"index": index, "value": value, "op": op}
    return entry if two is None else {**entry, "valueTwo": two}


def call(name: str, **other: object) -> "list[object]":
    """Words for the probe: this system call; `other` is a0 to a5."""
    words: list[object] = list(CALLS[name]) + [0] * (6 - len(CALLS[name]))
    for place, value in other.items():
        words[int(place[1:])] = value
    return ["syscall", host.syscalls()[name], *words]


def told(line: "dict[str, Any]") -> "str | None":
    """How a system call ended: an errno's name, `signal 31`, `trapped`, or None: well."""
    if "signal" in line:
        return f"signal {line['signal']}"
    return "trapped" if "trapped" in line else line.get("error")


def outcomes(t: Trial, seccomp: "dict[str, Any]", *calls: "list[object]") -> "list[str | None]":
    """How these system calls end in a container with this filter."""
    t.bundle.linux["seccomp"] = seccomp
    return [told(line) for line in t.run(*(word for words in calls for word in words))]


# --- the filter


def SEC_01(t: Trial) -> None:
    """The default action is done for each system call that no rule names."""
    denied = ["getpriority", "getpgid"]
    allowed = [name for name in host.syscalls() if name not in denied]
    found = outcomes(t, profile(ERRNO, rule(allowed, ALLOW)), *map(call, CALLS))
    t.equal(
        dict.fromkeys(denied, "EPERM"), {name: end for name, end in zip(CALLS, found, strict=True) if end}, "what fails"
    )


def SEC_01_loaded(t: Trial) -> None:
    """A filter is loaded even if there are no rules, and it is in force from the program's first moment."""
    t.bundle.linux["seccomp"] = {"defaultAction": ALLOW}
    status = t.report()["status"]
    t.true("\nSeccomp:\t2\n" in status, "the process has no seccomp filter")
    (filters,) = [line.split()[1] for line in status.splitlines() if line.startswith("Seccomp_filters:")] or ["1"]
    (own,) = [
        x.split()[1] for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("Seccomp_filters:")
    ] or ["0"]
    t.true(int(filters) > int(own), "the process has no filter but the caller's")


def SEC_01_wrong(t: Trial) -> None:
    """A default action that is missing or unknown is an error."""
    wrong = (
        {},
        {"syscalls": [rule("getpgid")]},
        {"defaultAction": "SCMP_ACT_NONE"},
        {"defaultAction": "allow"},
        {"defaultAction": ""},
    )
    t.each_refused(dict(change("/linux/seccomp", value) for value in wrong))


def SEC_02(t: Trial) -> None:
    """ERRNO answers with the errno of its rule, or EPERM; as the default action with defaultErrnoRet."""
    found = outcomes(
        t,
        profile(ALLOW, rule("getpriority"), rule("getpgid", errnoRet=MARK), rule("getsid", errnoRet=38)),
        *map(call, ("getpriority", "getpgid", "getsid", "sched_getscheduler")),
    )
    t.equal(["EPERM", MARK_NAME, "ENOSYS", None], found, "how the calls end")
    allowed = [name for name in host.syscalls() if name not in ("getpriority", "getpgid")]
    seccomp = profile(ERRNO, rule(allowed, ALLOW), rule("getpgid", errnoRet=38), defaultErrnoRet=MARK)
    t.equal([MARK_NAME, "ENOSYS"], outcomes(t, seccomp, call("getpriority"), call("getpgid")), "how the calls end")


def SEC_02_trace(t: Trial) -> None:
    """TRACE hands its errnoRet to the tracer; without a tracer the system call does not exist."""
    t.bundle.linux["seccomp"] = profile(ALLOW, rule("getpgid", "SCMP_ACT_TRACE", errnoRet=1234))
    traced, plain = t.run("traced", host.syscalls()["getpgid"], *call("getpgid"))
    t.equal(1234, traced.get("message"), "the tracer's message")
    t.equal("ENOSYS", told(plain), "how it ends without a tracer")


def SEC_02_wrong(t: Trial) -> None:
    """An errno for an action that takes none is an error."""
    actions = (
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_LOG",
    )
    rules = [profile(ALLOW, rule("getpgid", action, errnoRet=38)) for action in actions]
    defaults = [profile(action, rule("getpgid"), defaultErrnoRet=38) for action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")]
    t.each_refused(dict(change("/linux/seccomp", value) for value in rules + defaults))


def SEC_03(t: Trial) -> None:
    """The filter holds for the system calls of each architecture listed, under their own numbers."""
    host.require_32_bit()
    t.bundle.linux["seccomp"] = profile(
        ALLOW, rule("getpriority", errnoRet=MARK), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    )
    # 96 is getpriority for 32 bits and gettimeofday for 64, 140 is _llseek for 32 bits and getpriority for 64
    native, other, apart = t.run(*call("getpriority"), "syscall32", 96, 0, "syscall32", 132, 0)
    t.equal(
        (MARK_NAME, MARK_NAME, None),
        (told(native), told(other), told(apart)),
        "getpriority, that of 32 bits, getpgid of 32 bits",
    )


def SEC_03_native(t: Trial) -> None:
    """The native architecture is filtered whether it is listed or not."""
    host.require_x86_64()
    for listed in ({}, {"architectures": []}, {"architectures": ["SCMP_ARCH_X86"]}):
        found = outcomes(
            t, profile(ALLOW, rule("getpriority", errnoRet=MARK), **listed), call("getpriority"), call("getpgid")
        )
        t.equal([MARK_NAME, None], found, f"with {listed}, getpriority and getpgid")


def SEC_03_wrong(t: Trial) -> None:
    """An architecture that is unknown is an error."""
    for name in ("SCMP_ARCH_Z80", "x86_64", "SCMP_ARCH_X86_64 ", ""):
        t.bundle.linux["seccomp"] = profile(ALLOW, architectures=[name])
        t.refused(why=f"with architecture {name!r}")


def SEC_04(t: Trial) -> None:
    """Each flag listed is given to seccomp(2), unless the runtime refuses it; without flags, LOG is not."""
    recorder = notify.Recorder()
    notify.watch(t.runtime, t.probe, ["seccomp"], recorder)
    # not TSYNC: with one thread, or just before execve, it leaves no trace
    supported = [name for name in ("LOG", "SPEC_ALLOW") if accepts_flag(t, name)]
    for name in supported:
        found = loaded_with(t, recorder, [f"SECCOMP_FILTER_FLAG_{name}"])
        bit = {"LOG": 2, "SPEC_ALLOW": 4}[name]
        t.true(any(flags & bit for flags in found), f"with {name}, the flags were {found}")
    found = loaded_with(t, recorder, [])
    t.true(not any(flags & 2 for flags in found), f"with no flags, they were {found}")
    if not supported:
        raise host.Missing("the runtime supports none of the flags, as it may")


def accepts_flag(t: Trial, name: str) -> bool:
    """Whether a runtime takes this flag. It may choose what it supports, but has to say so, and to leave nothing."""
    before = t.traces()
    t.bundle.linux["seccomp"] = profile(ALLOW, rule("getpgid"), flags=[f"SECCOMP_FILTER_FLAG_{name}"])
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status:
        t.assert_no_traces(before, container.id, "create")
        return False
    container.end()
    return True


def loaded_with(t: Trial, recorder: notify.Recorder, flags: "list[str]") -> "list[int]":
    """The flags of each seccomp(2) that loaded a filter in a container's life."""
    recorder.calls.clear()
    t.bundle.linux["seccomp"] = profile(ALLOW, rule("getpgid"), flags=flags)
    t.report()
    # 1 is SECCOMP_SET_MODE_FILTER; without a filter it is libseccomp, which tries what the kernel knows
    return [call.args[1] for call in recorder.calls if call.args[0] == 1 and call.args[2]]


def SEC_04_wait_killable(t: Trial) -> None:
    """With WAIT_KILLABLE_RECV a system call that the agent has received is not interrupted by a signal."""
    notify.require_notification()
    host.require_kernel(5, 19, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
    holder = notify.Holder()
    agent = notify.Agent(t.folder / "agent.sock", holder)
    t.bundle.linux["seccomp"] = profile(
        ALLOW,
        rule("getpriority", NOTIFY),
        flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        listenerPath=str(agent.path),
    )
    t.bundle.program("handle", int(signal.SIGUSR1), *call("getpriority"))
    container = t.create(ok=False)
    if container.created.status:
        raise host.Missing("the runtime does not support the flag, as it may")
    container.pid  # noqa: B018 - known from now on
    container.start()
    held = holder.take()
    if held is None:
        raise Failure("the agent got no notification of the system call")
    os.kill(held.pid, signal.SIGUSR1)
    mask = 1 << signal.SIGUSR1 - 1
    t.wait_for(lambda: not held.is_waiting() or pending(held.pid) & mask, "the arrival of the signal")
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        t.true(held.is_waiting(), "the signal interrupted the system call")
    held.fail(MARK)
    t.equal(0, container.wait(), "the program's end")
    t.equal(MARK_NAME, told(container.lines[-1]), "how the call ends")


def pending(pid: int) -> int:
    """The signals that wait for a process."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)


def SEC_04_wrong(t: Trial) -> None:
    """A flag that is unknown is an error."""
    for name in ("SECCOMP_FILTER_FLAG_NO_SUCH", "LOG", "SECCOMP_FILTER_FLAG_NEW_LISTENER", ""):
        t.bundle.linux["seccomp"] = profile(ALLOW, flags=[name])
        t.refused(why=f"with the flag {name!r}")


def SEC_05(t: Trial) -> None:
    """A rule holds for each of its names."""
    names = ["getpriority", "getpgid", "sched_getparam"]
    found = outcomes(t, profile(ALLOW, rule(names, errnoRet=MARK)), *map(call, CALLS))
    t.equal(names, [name for name, end in zip(CALLS, found, strict=True) if end == MARK_NAME], "what is denied")


def SEC_05_wrong(t: Trial) -> None:
    """A rule without names is an error."""
    wrong = ({"names": [], "action": ERRNO}, {"action": ERRNO}, {"names": ["getpgid"]})
    t.each_refused(dict(change("/linux/seccomp", profile(ALLOW, entry)) for entry in wrong))


def SEC_06(t: Trial) -> None:
    """Each operator compares an argument as 64 bits without a sign."""
    rules, calls, wanted = [], [], []
    for name, (op, (value, two, matching, others)) in zip(CALLS, OPERATORS.items(), strict=True):
        rules.append(rule(name, ERRNO, arg(5, value, op, two), errnoRet=MARK))
        for given, end in [(x, MARK_NAME) for x in matching] + [(x, None) for x in others]:
            calls.append(call(name, a5=given))
            wanted.append((op, given, end))
    found = outcomes(t, profile(ALLOW, *rules), *calls)
    wrong = [f"{op} of {given:#x}: {end}" for (op, given, good), end in zip(wanted, found, strict=True) if end != good]
    t.true(not wrong, f"wrong: {', '.join(wrong)}")


def SEC_06_places(t: Trial) -> None:
    """Each of the six arguments can be compared, also several in one rule: all must match; rules are alternatives."""
    rules = [rule("getpriority", ERRNO, arg(index, 0x1000 + index), errnoRet=MARK) for index in range(6)]
    calls = [call("getpriority", **{f"a{index}": 0x1000 + index}) for index in range(6)]
    rules.append(rule("getpgid", ERRNO, arg(2, 7), arg(3, 8, "SCMP_CMP_GE"), errnoRet=MARK))
    calls += [call("getpgid", a2=a2, a3=a3) for a2, a3 in ((7, 8), (7, 9), (7, 7), (6, 8), (8, 7))]
    rules += [rule("getsid", ERRNO, arg(1, value), errnoRet=MARK) for value in (1, 2)]
    calls += [call("getsid", a1=value) for value in (1, 2, 3)]
    calls.append(call("getpriority"))
    wanted = [MARK_NAME] * 6 + [MARK_NAME, MARK_NAME, None, None, None] + [MARK_NAME, MARK_NAME, None] + [None]
    t.equal(wanted, outcomes(t, profile(ALLOW, *rules), *calls), "how the calls end")


def SEC_06_default(t: Trial) -> None:
    """What matches no rule of its system call gets the default action; valueTwo is 0 if unset."""
    names = [name for name in host.syscalls() if name != "getpgid"]
    seccomp = profile(
        ERRNO, rule(names, ALLOW), rule("getpgid", ALLOW, arg(5, 6, "SCMP_CMP_MASKED_EQ")), defaultErrnoRet=MARK
    )
    found = outcomes(t, seccomp, call("getpgid", a5=1), call("getpgid", a5=3), call("getpgid", a5=4))
    t.equal([None, MARK_NAME, MARK_NAME], found, "how the calls end")


def SEC_06_wrong(t: Trial) -> None:
    """An argument without index, value or operator, of an index above 5, or with an unknown operator, is an error."""
    whole = arg(1, 2)
    wrong = [{key: value for key, value in whole.items() if key != name} for name in whole]
    wrong += [
        arg(6, 2),
        arg(-1, 2),
        arg(1, -1),
        arg(1, 2**64),
        arg(1, 2, "SCMP_CMP_LIKE"),
        arg(1, 2, "=="),
        arg(1, 2, ""),
    ]
    t.each_refused(dict(change("/linux/seccomp", profile(ALLOW, rule("getpgid", ERRNO, entry))) for entry in wrong))


def SEC_07(t: Trial) -> None:
    """Names of actions, operators and architectures that are nearly libseccomp's are errors."""
    wrong = (
        profile(ALLOW, rule("getpgid", "SCMP_ACT_ALOW")),
        profile(ALLOW, rule("getpgid", "SCMP_ACT_ERRNO(1)")),
        profile(ALLOW, rule("getpgid", "scmp_act_errno")),
        profile("SCMP_ACT_KILLPROCESS", rule("getpgid")),
        profile(ALLOW, rule("getpgid", ERRNO, arg(0, 1, "SCMP_CMP_EG"))),
        profile(ALLOW, architectures=["SCMP_ARCH_AMD64"]),
    )
    t.each_refused(dict(change("/linux/seccomp", value) for value in wrong))


def SEC_10(t: Trial) -> None:
    """ALLOW and LOG let a call go on, ERRNO and TRACE fail it, TRAP raises SIGSYS, the KILLs end the process."""
    actions = {
        "getpriority": ("SCMP_ACT_ERRNO", "EPERM"),
        "getpgid": ("SCMP_ACT_LOG", None),
        "getsid": ("SCMP_ACT_TRAP", "trapped"),
        "sched_getscheduler": ("SCMP_ACT_KILL", "signal 31"),
        "sched_getparam": ("SCMP_ACT_KILL_PROCESS", "signal 31"),
        "sched_get_priority_max": ("SCMP_ACT_KILL_THREAD", "signal 31"),
        "sched_get_priority_min": ("SCMP_ACT_TRACE", "ENOSYS"),
    }
    rules = [rule(name, action) for name, (action, _) in actions.items()]
    found = outcomes(t, profile(ALLOW, *rules), *map(call, actions))
    for (action, wanted), end in zip(actions.values(), found, strict=True):
        t.equal(wanted, end, f"what {action} does")
    others = [name for name in host.syscalls() if name not in actions]
    found = outcomes(
        t,
        profile("SCMP_ACT_KILL_PROCESS", rule(others, ALLOW), rule("getpgid", ALLOW)),
        call("getpgid"),
        call("getsid"),
    )
    t.equal([None, "signal 31"], found, "what ALLOW and the default KILL_PROCESS do")


def SEC_10_threads(t: Trial) -> None:
    """KILL and KILL_THREAD end the thread alone, KILL_PROCESS its process."""
    names = {"getpgid": "SCMP_ACT_KILL", "getsid": "SCMP_ACT_KILL_THREAD", "getpriority": "SCMP_ACT_KILL_PROCESS"}
    t.bundle.linux["seccomp"] = profile(ALLOW, *(rule(name, action) for name, action in names.items()))
    lines = t.run(*(word for name in names for word in ("thread", host.syscalls()[name])))
    for action, line, wanted in zip(names.values(), lines, ("exited", "exited", "signal"), strict=True):
        t.true(wanted in line, f"with {action} the process {'was killed' if 'signal' in line else 'went on'}")


def SEC_10_notify(t: Trial) -> None:
    """NOTIFY leaves a call to the agent, which fails it, invents a result, or lets it go on."""
    notify.require_notification()
    numbers = host.syscalls()

    def answer(call: notify.Call) -> None:
        if call.number == numbers["getpgid"]:
            call.fail(MARK)
        elif call.number == numbers["swapoff"]:
            call.succeed()
        else:
            call.go_on()

    agent = notify.Agent(t.folder / "agent.sock", answer)
    names = ["getpgid", "getsid", "swapoff"]
    seccomp = profile(ALLOW, rule(names, NOTIFY), listenerPath=str(agent.path))
    swapoff: list[object] = ["syscall", numbers["swapoff"], "&", 0, 0, 0, 0, 0]  # fails when it is done
    found = outcomes(t, seccomp, call("getpgid"), call("getsid"), swapoff, call("getpriority"))
    t.equal([MARK_NAME, None, None, None], found, "how the calls end")


# --- the agent


def with_agent(t: Trial, answer: Any = notify.Call.go_on, **more: Any) -> notify.Agent:
    """An agent, and a config whose getpriority it is asked about."""
    notify.require_notification()
    agent = notify.Agent(t.folder / "agent.sock", answer)
    t.bundle.linux["seccomp"] = profile(ALLOW, rule("getpriority", NOTIFY), listenerPath=str(agent.path), **more)
    return agent


def message_of(t: Trial, agent: notify.Agent, number: int = 0) -> notify.Message:
    """What came on a connection, when it was closed."""
    t.wait_for(lambda: len(agent.messages) > number, "a connection to the agent")
    message = agent.messages[number]
    t.true(message.closed.wait(TIMEOUT), "the runtime did not close the connection")
    return message


def document_of(message: notify.Message) -> "dict[str, Any]":
    return parse_object(message.data, "what was sent")


def SEC_20(t: Trial) -> None:
    """Without NOTIFY the listenerPath is ignored, even without a listener there."""
    for path in (t.folder / "nobody.sock", t.folder / "missing/agent.sock"):
        found = outcomes(
            t, profile(ALLOW, rule("getpriority", errnoRet=MARK), listenerPath=str(path)), call("getpriority")
        )
        t.equal([MARK_NAME], found, "how the call ends")


def SEC_20_silent(t: Trial) -> None:
    """Without NOTIFY the runtime does not connect to the listener at listenerPath."""
    agent = with_agent(t)
    outcomes(t, profile(ALLOW, rule("getpriority", errnoRet=MARK), listenerPath=str(agent.path)), call("getpriority"))
    outcomes(t, profile(ALLOW, rule("getpriority", NOTIFY), listenerPath=str(agent.path)), call("getpriority"))
    message_of(t, agent)
    t.equal(1, len(agent.messages), "the number of connections, of two containers of which one has NOTIFY,")


def SEC_21(t: Trial) -> None:
    """For each container one process state is sent, on a connection that is closed then, while the container lives."""
    agent = with_agent(t)
    for number in range(2):
        container = t.running(*call("getpriority"))
        document = document_of(message_of(t, agent, number))
        t.equal(container.id, document.get("state", {}).get("id"), "the id in the process state")
        t.equal(number + 1, len(agent.messages), f"the number of connections of {number + 1} containers")
        t.equal("running", container.state()["status"], "the status")
        container.kill()
        container.wait()
        container.delete()
    t.equal(2, len(agent.messages), "the number of connections of two containers")


def SEC_21_no_agent(t: Trial) -> None:
    """A process state that can't be sent is an error."""
    with_agent(t)
    for path in (t.folder / "missing.sock", t.folder / "plain", "/", dead_socket(t)):
        (t.folder / "plain").touch()
        t.bundle.linux["seccomp"]["listenerPath"] = str(path)
        t.refused_by_start(f"with {path} as listenerPath")


def dead_socket(t: Trial) -> Path:
    """A socket's file without a listener."""
    import socket

    path = t.folder / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
    return path


def SEC_22(t: Trial) -> None:
    """The process state is JSON, and its descriptors come with its first part, however long it is."""
    agent = with_agent(t, listenerMetadata="long " * 30000)
    t.running(*call("getpriority"))
    message = message_of(t, agent)
    document = document_of(message)
    t.equal("long " * 30000, document.get("metadata"), "the metadata")
    t.true(message.parts[0] > 0, "the first part came without descriptors")
    t.equal(0, sum(message.parts[1:]), "the number of descriptors in later parts")
    t.equal(len(document.get("fds", [])), len(message.fds), "the number of descriptors")


def SEC_23(t: Trial) -> None:
    """The process state names the version, the descriptors, the process and the container's state; seccompFd is
    the listener.
    """
    heard = notify.Recorder()
    agent = with_agent(t, heard)
    t.bundle.config["annotations"] = {"org.example.key": "value"}
    container = t.running(*call("getpriority"))
    message = message_of(t, agent)
    document = document_of(message)
    version = document.get("ociVersion")
    t.true(isinstance(version, str) and SEMVER.fullmatch(version), f"ociVersion is {version!r}")
    fds = document.get("fds")
    t.true(isinstance(fds, list) and all(isinstance(name, str) for name in fds), f"fds is {fds!r}")
    t.true("seccompFd" in document["fds"], f"there is no seccompFd in {fds}")
    t.equal(len(document["fds"]), len(message.fds), "the number of descriptors")
    t.true(
        notify.is_listener(message.fds[document["fds"].index("seccompFd")]),
        "the descriptor of seccompFd is not a listener",
    )
    t.equal(container.pid, document.get("pid"), "pid")
    t.true(document.get("metadata", "") == "", f"metadata is {document.get('metadata')!r}")
    state = document.get("state")
    t.equal([], faults(state), "what is wrong with the state")
    t.equal(container.id, state.get("id"), "id of the state")
    # which it has to have from created on (ST-04): the agent may get it before
    t.true(state.get("pid", container.pid) == container.pid, f"pid of the state is {state.get('pid')}")
    t.equal(
        (str(t.bundle.folder), {"org.example.key": "value"}),
        (state["bundle"], state.get("annotations")),
        "bundle and annotations",
    )
    t.equal([host.syscalls()["getpriority"]], [call.number for call in heard.calls], "what the agent was asked")


def SEC_24(t: Trial) -> None:
    """listenerMetadata is sent as it stands."""
    text = 'words, "quotes" \\ {} \u00e9\u4e2d\n'
    agent = with_agent(t, listenerMetadata=text)
    t.running(*call("getpriority"))
    t.equal(text, document_of(message_of(t, agent)).get("metadata"), "metadata")


def SEC_24_alone(t: Trial) -> None:
    """listenerMetadata without listenerPath is an error."""
    t.bundle.linux["seccomp"] = profile(ALLOW, rule("getpriority"), listenerMetadata="words")
    t.refused(why="with listenerMetadata and no listenerPath")
