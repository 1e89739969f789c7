"""Global rules: errors, extensibility, JSON."""

import copy
import json

from conformance.trial import Trial, change, host, should


def ERR_01(t: Trial) -> None:
    """A create that fails, early or late, leaves no process, mount, cgroup or state behind; without the fault it
    works.
    """
    t.bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}"
    t.each_refused(
        {
            "with a root that is missing": lambda b: b.set("/root/path", "missing"),
            "with a namespace that is missing": lambda b: b.namespace("uts", t.folder / "missing"),
            "with a bind source that is missing": lambda b: b.bind(t.folder / "missing", "/tmp"),
            "with a filesystem that is unknown": lambda b: b.mount("/tmp", "nosuchfs"),
            "with a sysctl that is unknown": lambda b: b.set("/linux/sysctl", {"net.ipv4.nosuchkey": "1"}),
            "with a hook that fails": lambda b: b.hook("createRuntime", "exit", 1),
        }
    )
    t.run("report")


def ERR_01_program_missing(t: Trial) -> None:
    """If the program is not there, create or start fails, and nothing is left."""
    t.bundle.process["args"] = ["/missing"]
    t.refused_by_start("with a program that is missing")


def ERR_02(t: Trial) -> None:
    """An unknown capability causes a warning, and everything else is set as the config says."""
    for names in t.bundle.process["capabilities"].values():
        names.append("CAP_CONFORMANCE")
    if t.create(ok=False).created.status:
        raise host.Missing("the runtime fails where it should warn, which PROC-21 is about")
    capabilities = t.report()["capabilities"]
    t.equal(sum(1 << host.CAP[name[4:]] for name in host.granted()), capabilities["bounding"], "the bounding set")


def ERR_02_poststop(t: Trial) -> None:
    """A poststop hook that fails is worth a warning, and delete succeeds."""
    t.bundle.hook("poststop", "exit", 1)
    container = t.create()
    container.start()
    container.wait()
    container.delete()
    t.true(not container.exists(), "the container is still there after delete")


def sprinkle(value: object) -> None:
    """An unknown property in every object."""
    if isinstance(value, dict):
        for inner in list(value.values()):
            sprinkle(inner)
        value["x-unknown"] = {"y": [1, "2", None]}
    elif isinstance(value, list):
        for inner in value:
            sprinkle(inner)


def EXT_01(t: Trial) -> None:
    """Properties that the specification does not know, in any object, change nothing."""
    t.bundle.linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    t.bundle.linux["devices"] = [{"path": "/dev/conformance", "type": "p"}]
    t.bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["sethostname"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 77, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }
    t.bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    t.bundle.process["consoleSize"] = {"height": 1, "width": 1}
    t.bundle.hook("createRuntime")
    sprinkle(t.bundle.config)
    t.bundle.config["annotations"] = {"org.example.unknown": "x"}

    t.equal([0, 0], t.report()["rlimits"]["CORE"], "RLIMIT_CORE")
    t.hook_ran("createRuntime")


def EXT_01_any_type(t: Trial) -> None:
    """An unknown property is ignored whatever its value and its name."""
    deep: object = []
    for _ in range(5):  # JSON lets who reads it set a limit to depth
        deep = [{"a": deep}]
    for name, value in {"a": 2**64 - 1, "b": -1e300, "c": None, "d": deep, "é": "\U0001f980", "": False}.items():
        t.bundle.config[name] = t.bundle.process[name] = t.bundle.linux[name] = value
    t.report()


def each_refused(t: Trial, values: "tuple[tuple[str, object], ...]") -> None:
    """Each of these values, at its place of the config, is an error: of create, or else of start if it is the
    process's.
    """
    for of_process in (False, True):
        some = [entry for entry in values if entry[0].startswith("/process/") is of_process]
        t.each_refused(dict(change(pointer, value) for pointer, value in some), by_start=of_process)


def EXT_02(t: Trial) -> None:
    """A value outside the specification's list for its property is an error."""
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}
    odd = {**rule, "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_ODD"}]}
    node = {"path": "/dev/conformance", "major": 1, "minor": 3}
    each_refused(
        t,
        (
            ("/linux/namespaces/-", {"type": "planet"}),
            ("/linux/namespaces/-", {"type": "UTS"}),
            ("/linux/rootfsPropagation", "sideways"),
            ("/linux/devices", [{**node, "type": "x"}]),
            ("/linux/devices", [{**node, "type": "cc"}]),
            ("/linux/seccomp", {"defaultAction": "SCMP_ACT_MAYBE"}),
            ("/linux/seccomp", {**seccomp, "architectures": ["SCMP_ARCH_PDP11"]}),
            ("/linux/seccomp", {**seccomp, "syscalls": [{**rule, "action": "SCMP_ACT_MAYBE"}]}),
            ("/linux/seccomp", {**seccomp, "syscalls": [odd]}),
            ("/linux/personality", {"domain": "VMS"}),
            ("/process/rlimits", [{"type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1}]),
        ),
    )


def EXT_02_types(t: Trial) -> None:
    """A value of another JSON type than its property has is an error."""
    each_refused(
        t,
        (
            ("/ociVersion", 1.0),
            ("/root", "rootfs"),
            ("/root/readonly", "false"),
            ("/hostname", 7),
            ("/mounts/0/options", "nosuid"),
            ("/mounts/0/destination", 1),
            ("/hooks", {"prestart": {"path": "/bin/true"}}),
            ("/process/terminal", "no"),
            ("/process/args", "/probe"),
            ("/process/args", ["/probe", 1]),
            ("/process/cwd", False),
            ("/process/user/uid", "0"),
            ("/process/capabilities", ["CAP_KILL"]),
            ("/process/noNewPrivileges", 1),
            ("/linux/maskedPaths", "/proc/kcore"),
            ("/linux/sysctl", {"net.ipv4.ip_forward": 1}),
            ("/linux/resources", []),
            ("/linux/cgroupsPath", 3),
        ),
    )


def EXT_02_ranges(t: Trial) -> None:
    """A number that its property's type can't hold is an error."""
    each_refused(
        t,
        (
            ("/process/user/uid", -1),
            ("/process/user/uid", 2**32),
            ("/process/user/additionalGids", [2**32]),
            ("/process/user/umask", -1),
            ("/process/rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64}]),
            ("/process/rlimits", [{"type": "RLIMIT_CORE", "soft": -1, "hard": 0}]),
            ("/linux/uidMappings", [{"containerID": -1, "hostID": 0, "size": 1}]),
            ("/linux/resources", {"cpu": {"shares": -1}}),
        ),
    )


def JSON_01(t: Trial) -> None:
    """config.json is UTF-8, with or without escapes, and the order of its members means nothing."""
    words = 'Grüße, \u2603 \U0001f980 \x7f \\ / " \t'
    t.bundle.program("echo", words)

    def backwards(value: object) -> object:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return [backwards(inner) for inner in value] if isinstance(value, list) else value

    config, t.bundle.config = backwards(t.bundle.config), None
    for escaped in (True, False):
        text = "\n\t " + json.dumps(config, ensure_ascii=escaped, indent="\t") + "\r\n"
        t.bundle.folder.joinpath("config.json").write_bytes(text.encode())
        (line,) = t.run()
        t.equal(words, line["text"].encode("latin-1").decode(), f"an argument, escaped {escaped},")


def JSON_01_not_json(t: Trial) -> None:
    """A config.json that is not a JSON object is an error."""
    text = json.dumps(t.bundle.config)
    wrong = {
        "an empty file": "",
        "white space": "  \n",
        "a truncated object": text[:-1],
        "an array": f"[{text}]",
        "a string": '"config"',
    }
    t.bundle.config = None
    t.each_refused(
        {
            f"with {what}": lambda b, content=content: (b.folder / "config.json").write_text(content)
            for what, content in wrong.items()
        }
    )


@should
def JSON_01_not_utf_8(t: Trial) -> None:
    """A config.json in another encoding than UTF-8 is an error."""
    t.bundle.program("echo", "é")
    text, t.bundle.config = json.dumps(t.bundle.config, ensure_ascii=False), None
    t.each_refused(
        {
            f"in {encoding}": lambda b, encoding=encoding: (b.folder / "config.json").write_bytes(text.encode(encoding))
            for encoding in ("UTF-16", "UTF-16-LE", "UTF-32", "Latin-1")
        }
    )


@should
def JSON_02(t: Trial) -> None:
    """An object that repeats a name is an error, at the top and below."""
    config, text = t.bundle.config, json.dumps(t.bundle.config)
    t.bundle.config = None
    t.each_refused(
        {
            f"with {name} twice": lambda b, name=name, again=again: (b.folder / "config.json").write_text(
                text.replace(f'"{name}": ', f'"{name}": {again}, "{name}": ', 1)
            )
            for name, again in {"root": '{"path": "rootfs"}', "cwd": '"/"', "namespaces": "[]"}.items()
        }
    )
    t.bundle.config = config
    t.run("report")


def SCOPE_01(t: Trial) -> None:
    """Who created a container can run every operation on it, from another directory, session and process too."""
    t.bundle.program("await", 15)
    container = t.create()
    t.true(container.pid, "state shows no pid")
    elsewhere = {"cwd": "/", "start_new_session": True}
    for words in (("state", container.id), ("start", container.id), ("kill", container.id, "TERM")):
        done = t.runtime.command(*words, **elsewhere)
        t.equal(0, done.status, f"the exit status of {words[0]} ({done.err.strip()})")
        if words[0] == "start":
            container.tells("await")
    container.wait()
    t.stopped(container)
    t.equal(0, t.runtime.command("delete", container.id, **elsewhere).status, "the exit status of delete")
    t.true(not container.exists(), "delete did nothing")


def SCOPE_01_two_containers(t: Trial) -> None:
    """Operations on one container do nothing to another, of the same bundle."""
    config = copy.deepcopy(t.bundle.config)
    first = t.running()
    t.bundle.config = config
    second = t.running()
    first.kill()
    first.wait()
    first.delete()
    t.equal("running", second.state()["status"], "the other container's status")
