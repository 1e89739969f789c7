"""One trial of one case: a bundle, a runtime, the host around both, and the words a case is written in."""

import copy
import json
import os
import re
import select
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from conformance import host
from conformance.bundle import Bundle
from conformance.output import Failure, parse_lines, parse_object
from conformance.runtime import TIMEOUT, Container, Done, Runtime, children, leftover_cgroups

if TYPE_CHECKING:
    from collections.abc import Callable


class Trial:
    """What a case gets.

    `bundle` is the case's to change; `runtime` makes containers of it. Everything is below `folder`, in a mount
    namespace of the trial's own, and is cleaned up afterwards whatever happened.
    """

    def __init__(
        self, command_line: str, folder: Path, probe: Path, prefix: str, features: "dict[str, Any] | None" = None
    ) -> None:
        self.features = features or {}  # the runtime's `features`
        self.folder = folder
        self.probe = probe
        self.bundle = Bundle(folder / "bundle", probe)
        self.runtime = Runtime(command_line, folder, prefix)
        self.left_behind: list[str] = []  # by what was refused

    # --- making containers

    def another_bundle(self, name: str = "bundle2") -> Bundle:
        return Bundle(self.folder / name, self.probe)

    def create(self, *options: object, bundle: "Bundle | None" = None, **more: Any) -> Container:
        """A container that was created, and waits for its start."""
        return self.runtime.create(bundle or self.bundle, *options, **more)

    def running(self, *words: object, bundle: "Bundle | None" = None) -> Container:
        """A container whose program does `words` and then waits for a signal."""
        (bundle or self.bundle).program(*words, "pause")
        container = self.create(bundle=bundle)
        container.start()
        container.tells("pause")
        return container

    def run(
        self, *words: object, status: int = 0, bundle: "Bundle | None" = None, **more: Any
    ) -> "list[dict[str, Any]]":
        """Create, start, wait, delete; return the program's reports. With `words` the program is the probe doing them.

        `more` is for the process of `create`, as for Popen: preexec_fn, env, pass_fds.
        """
        if words:
            (bundle or self.bundle).program(*words)
        container = self.create(bundle=bundle, **more)
        container.start()
        ended = container.wait()
        lines = container.lines
        container.delete()
        if ended != status:
            raise Failure(f"the program ended with {ended}, not {status}; {container.errors()[-300:]}")
        return lines

    def stop(self, container: Container) -> None:
        """Kill it, and wait until it is gone."""
        container.stop()

    def report(self, **more: Any) -> "dict[str, Any]":
        """What the program finds itself to be."""
        (line,) = self.run("report", **more)
        return line

    def ask(self, *words: object) -> "dict[str, Any]":
        """The answer to one operation of the probe in the container."""
        (line,) = self.run(*words)
        return line

    def new_namespace(self, kind: str) -> Path:
        """A file that keeps a new namespace: net, uts or ipc. The mount goes with the trial."""
        flag = {"net": host.CLONE_NEWNET, "uts": host.CLONE_NEWUTS, "ipc": host.CLONE_NEWIPC}[kind]
        path = self.folder / f"{kind}-{len(list(self.folder.glob(f'{kind}-*')))}"
        path.touch()
        with open(f"/proc/self/ns/{kind}") as own:
            host.unshare(flag)
            host.mount(f"/proc/self/ns/{kind}", path, "", host.MS_BIND)
            host.setns(f"/proc/self/fd/{own.fileno()}")
        return path

    # --- what must not work

    def refused(self, *options: object, bundle: "Bundle | None" = None, why: str = "", **more: Any) -> Done:
        """`create` fails; what it leaves is noted (ERR-01)."""
        before = self.traces()
        container = self.runtime.create(bundle or self.bundle, *options, ok=False, **more)
        if container.created.status == 0:
            raise Failure(f"`create` succeeded{', ' + why if why else ''}")
        no_crash(container.created)
        self._note_traces(before, container, "create")
        return container.created

    # --- what a runtime may do or leave

    def once(self, what: str, find: "Callable[[], Any]") -> Any:
        """What `find` has found of this runtime, here or in the trial of another case, as JSON keeps it."""
        path = self.folder.parent / f"found-{what}"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            pass
        found = find()
        new = path.with_name(f"{path.name}-{os.getpid()}")  # a reader finds all of it
        new.write_text(json.dumps(found))
        new.rename(path)
        return found

    def require_type(self, kind: str) -> None:
        """A type of namespaces that the host has, and the runtime supports: it should, but it need not."""
        host.require_namespace(host.NAMESPACES[kind][0])
        try:
            listed = kind in self.features["linux"]["namespaces"]
        except (KeyError, TypeError, Failure):
            listed = True  # it does not say, and so it is judged
        if not listed and not self.once(f"type-{kind}", lambda: self._takes(kind)):
            raise host.Missing(f"the runtime does not support {kind} namespaces, as it should")

    def _takes(self, kind: str) -> bool:
        bundle = self.another_bundle(f"bundle-for-{kind}")
        if kind == "user":
            bundle.user_namespace()
        else:
            bundle.namespace(kind)
        return self.create(bundle=bundle, ok=False).created.status == 0

    # --- what is around the container

    def console(self) -> "Console":
        """Who waits for a terminal: `create("--console-socket", console.path)`."""
        return Console(self.folder / "console.sock")

    def holder(self, *kinds: str, base: int = 100000) -> "dict[str, str]":
        """Paths of new namespaces of these types, which a process of the suite is in. `base` is the host's id of root
        in a
        user namespace."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            hold_namespaces(theirs, kinds)
        theirs.close()
        with ours:
            told = ours.recv(1)
            if told == b"u":
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{pid}/{name}").write_text(f"0 {base} 65536")
                ours.send(b"m")
            inner = ours.recv(16)
        if not inner:
            raise host.Missing(f"no new namespaces of these types can be made: {', '.join(kinds)}")
        return {kind: f"/proc/{int(inner)}/ns/{host.NAMESPACES[kind][0]}" for kind in kinds}

    def traces(self) -> "dict[str, Any]":
        """What an operation that fails must leave as it was: processes, mounts, cgroups, state."""
        state = sorted(os.listdir(self.runtime.root)) if self.runtime.root.is_dir() else []
        return {
            "processes": sorted(children()),
            "mounts": sorted(map(Mount, Path("/proc/self/mountinfo").read_text().splitlines())),
            "cgroups": leftover_cgroups(self.runtime.prefix),
            "state": [name for name in state if not name.startswith(".")],
        }

    def assert_no_traces(self, before: "dict[str, Any]", id: str, what: str) -> None:
        """Nothing came with an operation that failed. Processes get a moment to be gone: the kernel needs one, and as
        long as there is one it may clean up. Without any, what is left stays.
        """
        deadline = time.monotonic() + TIMEOUT / 5
        while True:
            for pid in set(children()) - set(before["processes"]):
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            now = self.traces()
            left = {key: [x for x in now[key] if x not in before[key]] for key in now}
            if not any(left.values()):
                break
            if not left["processes"] or time.monotonic() > deadline:
                told = "; ".join(f"{key}: {', '.join(map(str, value))}" for key, value in left.items() if value)
                raise Failure(f"`{what}` left behind {told}")
            time.sleep(0.01)
        if self.runtime.command("state", id).status == 0:
            raise Failure(f"after `{what}` there is still a container {id}")

    def refused_by_start(self, why: str = "", *options: object, bundle: "Bundle | None" = None) -> Done:
        """`create` fails, or else `start` does: for what the specification lets a runtime find in either."""
        before = self.traces()
        container = self.runtime.create(bundle or self.bundle, *options, ok=False)
        done = container.created
        if done.status == 0:
            done = container.start(ok=False)
            if done.status == 0:
                raise Failure(f"`create` and `start` succeeded{', ' + why if why else ''}")
            if container.lines:
                raise Failure(f"`start` failed, and yet the program ran{', ' + why if why else ''}")
            container.clear()
        no_crash(done)
        self._note_traces(before, container, done.words[0])
        return done

    def _note_traces(self, before: "dict[str, Any]", container: Container, what: str) -> None:
        """What a refusal leaves behind speaks against ERR-01, not against the row whose value was refused."""
        try:
            self.assert_no_traces(before, container.id, what)
            container.gone = True
        except Failure as failure:
            self.left_behind.append(str(failure).replace(self.runtime.prefix, "ID"))

    def each_refused(self, changes: "dict[str, Callable[[Bundle], None]]", *, by_start: bool = False) -> None:
        """Each of these changes of the bundle's config makes it invalid. Reports all that the runtime accepts."""
        saved = copy.deepcopy(self.bundle.config)
        found: dict[str, list[str]] = {}
        for why, change in changes.items():
            self.bundle.config = copy.deepcopy(saved)
            change(self.bundle)
            try:
                if by_start:
                    self.refused_by_start()
                else:
                    self.refused()
            except Failure as failure:
                found.setdefault(str(failure).replace(self.runtime.prefix, "ID"), []).append(why)
        self.bundle.config = saved
        if found:
            raise Failure("; ".join(f"{what} {', '.join(whys)}" for what, whys in found.items()))

    # --- hooks

    def hook_names(self) -> "list[str]":
        """Names of the hooks that ran, in order, and `program` where the program reported."""
        return [line["name"] for line in self.bundle.hooks_ran()]

    def hook_ran(self, name: str) -> "dict[str, Any]":
        """What the one hook of this name was given and saw. `state` is its standard input."""
        found = [line for line in self.bundle.hooks_ran() if line["name"] == name]
        if len(found) != 1:
            raise Failure(f"the {name} hook ran {len(found)} times, not once")
        line = found[0]
        line["state"] = parse_object(line["stdin"].encode("latin-1"), f"the {name} hook's standard input")
        return line

    # --- saying what is wrong

    def equal(self, expected: object, found: object, what: str) -> None:
        if expected != found:
            raise Failure(f"{what} is {found!r}, not {expected!r}")

    def true(self, condition: object, message: str) -> None:
        if not condition:
            raise Failure(message)

    def wait_for(self, condition: Any, what: str) -> None:
        """Wait until something holds; Failure if it does not come."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise Failure(f"{what} did not happen within {TIMEOUT:.0f} s")
            time.sleep(0.005)

    def stopped(self, container: Container) -> None:
        """Wait until `state` says so."""
        container.stopped()


class Mount(str):
    """A line of mountinfo that is equal to another if both are of the same mount: another process may rename the
    place.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self.split()[:4] == str(other).split()[:4]

    def __hash__(self) -> int:
        return hash(tuple(self.split()[:4]))


def must(case: "Callable[[Trial], None]") -> "Callable[[Trial], None]":
    """A case that tells what the specification demands, though its row is one of what it recommends or allows."""
    case.level = "M"  # type: ignore[attr-defined]
    return case


def should(case: "Callable[[Trial], None]") -> "Callable[[Trial], None]":
    """A case that tells what the specification recommends: a runtime that does not do it fails no row."""
    case.level = "S"  # type: ignore[attr-defined]
    return case


def change(pointer: str, value: object) -> "tuple[str, Callable[[Bundle], None]]":
    """An entry for `each_refused`: this value at this place of the config."""
    return f"with {json.dumps(value)} at {pointer}", lambda bundle: bundle.set(pointer, value)


SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
STATES = ("creating", "created", "running", "stopped")


def faults(state: object) -> "list[str]":
    """In what a state document breaks the state schema and the words on its properties."""
    if not isinstance(state, dict):
        return ["it is not an object"]
    annotations = state.get("annotations", {})
    checks = {
        f"ociVersion is {state.get('ociVersion')!r}": isinstance(state.get("ociVersion"), str),
        "id is not a string": isinstance(state.get("id"), str),
        f"status is {state.get('status')!r}": state.get("status") in STATES,
        f"bundle is {state.get('bundle')!r}": isinstance(state.get("bundle"), str) and state["bundle"].startswith("/"),
        f"pid is {state.get('pid')!r}": type(state.get("pid", 0)) is int and state.get("pid", 0) >= 0,
        "there is no pid": state.get("pid") or state.get("status") not in ("created", "running"),
        f"annotations is {annotations!r}": isinstance(annotations, dict)
        and all(isinstance(value, str) for value in annotations.values()),
    }
    return [fault for fault, fine in checks.items() if not fine]


def hold_namespaces(channel: socket.socket, kinds: "tuple[str, ...]") -> NoReturn:
    """A child of the suite: leave a process that waits in new namespaces, and report its pid."""
    try:
        host.unshare(sum(host.NAMESPACES[kind][1] for kind in kinds))
        channel.send(b"u" if "user" in kinds else b"-")
        if "user" in kinds:
            channel.recv(1)
        inner = os.fork()  # pid and time namespaces are those of children
        if inner == 0:
            channel.close()
            while True:
                signal.pause()
        channel.send(str(inner).encode())
        channel.close()
        while True:
            signal.pause()
    finally:
        os._exit(1)


class Console:
    """The receiving end of `--console-socket`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(TIMEOUT)
        self._master = -1

    @property
    def master(self) -> int:
        """The terminal's master, which the runtime has sent or is about to send."""
        if self._master < 0:
            try:
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(TIMEOUT)
                    _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            except TimeoutError:
                raise Failure("nothing came through the console socket") from None
            if not fds:
                raise Failure("a message without a descriptor came through the console socket")
            self._master = fds[0]
        return self._master

    def lines(self) -> "list[dict[str, Any]]":
        """What the probe wrote to the terminal, until no process had it open."""
        text = b""
        while select.select([self.master], [], [], TIMEOUT)[0]:
            try:
                part = os.read(self.master, 65536)
            except OSError:  # EIO: the other end is closed
                part = b""
            if not part:
                return parse_lines(text.decode(errors="replace").splitlines(), "what the terminal said")
            text += part
        raise Failure(f"the terminal was not closed; it said {text[-300:]!r}")


def no_crash(done: Done) -> None:
    """Death by a signal does not count as rejection."""
    if done.status < 0:
        raise Failure(f"`{done.words[0]}` was killed by signal {-done.status}")


def mounts(text: str) -> "dict[str, dict[str, Any]]":
    """mountinfo by mount point, the last mount of each: options, optional fields, filesystem type, super
    options, root.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        left, right = fields.split(), rest.split()
        point = left[4].encode().decode("unicode_escape")
        found[point] = {
            "point": point,
            "id": left[0],
            "parent": left[1],
            "root": left[3],
            "options": set(left[5].split(",")),
            "fields": left[6:],
            "type": right[0],
            "source": right[1] if len(right) > 1 else "",
            "super": set(right[-1].split(",")),
        }
    return found


__all__ = ["SEMVER", "STATES", "Failure", "Trial", "change", "faults", "host", "mounts", "must", "should"]
