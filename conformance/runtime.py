"""A runtime as its command line shows it: create, start, state, kill, delete, with a state root of its own."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from conformance import host
from conformance.bundle import Bundle
from conformance.output import Failure, Late, parse_lines, parse_object

TIMEOUT = 15 * float(os.environ.get("CONFORMANCE_SLOWNESS", "1"))  # seconds for one command, or one change of status


class Done:
    """How a command ended: exit `status`, `out` and `err`."""

    def __init__(self, words: "list[str]", status: int, out: str, err: str) -> None:
        self.words = words
        self.status = status
        self.out = out
        self.err = err

    def __str__(self) -> str:
        """The last line first, which says most: warnings come before an error."""
        said = " / ".join(reversed((self.err or self.out).strip().splitlines()))
        return f"`{self.words[0]}` ended with {self.status}" + (f", saying: {said[:600]}" if said else "")


class Container:
    """One container, made by `Runtime.create`, whatever came of it.

    `lines` has its program's reports so far; `pid` is its first process, `wait()` how it ended.
    """

    def __init__(self, runtime: "Runtime", id: str, bundle: Bundle, folder: Path) -> None:
        self.runtime = runtime
        self.id = id
        self.bundle = bundle
        self._before = set(children())
        self.out_path = folder / f"{id}.out"
        self.err_path = folder / f"{id}.err"
        self.created: Done
        self.gone = False  # nothing is left to be cleaned up
        self._status: int | None = None
        self._pid = 0

    # --- commands

    def start(self, *, ok: bool = True) -> Done:
        if ok:
            self.pid  # noqa: B018 - known from now on, even if the program ends at once
        done = self.runtime.command("start", self.id)
        return expect_ok(done) if ok else done

    def state(self) -> "dict[str, Any]":
        """The state document of a container that exists."""
        done = expect_ok(self.runtime.command("state", self.id))
        return parse_object(done.out, "what `state` prints")

    def exists(self) -> bool:
        return self.runtime.command("state", self.id).status == 0

    def kill(self, name: str = "KILL", *, ok: bool = True) -> Done:
        done = self.runtime.command("kill", self.id, name)
        return expect_ok(done) if ok else done

    def delete(self, *, ok: bool = True) -> Done:
        done = self.runtime.command("delete", self.id)
        self.gone = done.status == 0
        return expect_ok(done) if ok else done

    def stop(self) -> None:
        """Kill it, and wait until it is gone."""
        self.pid  # noqa: B018 - known from now on
        self.kill()
        self.wait()
        self.stopped()

    def end(self) -> None:
        """Stop and delete it: with the specification's own operations, since runtimes need have no others."""
        self.stop()
        self.delete()

    def clear(self) -> None:
        """The same for a container in an unknown state: failures are ignored."""
        try:
            self.end()
        except Failure:
            self.delete(ok=False)

    def stopped(self) -> None:
        """Wait until `state` says so."""
        deadline = time.monotonic() + TIMEOUT
        while (status := self.state()["status"]) != "stopped":
            if time.monotonic() > deadline:
                raise Failure(f"status stopped did not come within {TIMEOUT:.0f} s: it is {status!r}")
            time.sleep(0.005)

    # --- what it does

    @property
    def pid(self) -> int:
        """The first process, as the host numbers it."""
        if not self._pid:
            self._pid = self._orphan()
        if not self._pid:
            pid = self.state()["pid"]
            if type(pid) is not int or pid <= 0:
                raise Failure(f"pid is {pid!r}")
            self._pid = pid
        return self._pid

    def _orphan(self) -> int:
        """Its first process without asking the runtime: the one child that we have since create whose root is
        the bundle's.
        """
        found = [
            pid for pid in children() if pid not in self._before and is_same(f"/proc/{pid}/root", self.bundle.rootfs)
        ]
        return found[0] if len(found) == 1 else 0

    def wait(self) -> int:
        """The exit status of its first process, 128 + n if signal n ended it. It is our child: we are the subreaper."""
        if self._status is None:
            pid = self.pid
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    found, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    raise Failure(f"process {pid} of the container is not an orphan after create") from None
                if found:
                    self._status = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                    return self._status
                if time.monotonic() > deadline:
                    raise Failure(f"the program did not end within {TIMEOUT:.0f} s; it wrote {self.output()[-300:]!r}")
                time.sleep(0.002)
        return self._status

    def output(self) -> str:
        return self.out_path.read_text(errors="replace") if self.out_path.exists() else ""

    @property
    def lines(self) -> "list[dict[str, Any]]":
        """The probe's reports so far, whole lines."""
        return parse_lines(self.output().split("\n")[:-1], "the program's output")

    def tells(self, op: str) -> "dict[str, Any]":
        """Wait until the probe has reported this operation; return the first such line."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            for line in self.lines:
                if line["op"] == op:
                    return line
            if time.monotonic() > deadline:
                raise Failure(f"the program never reported `{op}`: {self.output()[-300:]!r} {self.errors()[-300:]!r}")
            time.sleep(0.002)

    def errors(self) -> str:
        return self.err_path.read_text(errors="replace") if self.err_path.exists() else ""

    def file(self, name: str) -> str:
        """/proc/PID/NAME of its first process."""
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            raise Failure(f"there is no process {self.pid}") from None

    def namespace(self, kind: str) -> str:
        """`kind` as in /proc/PID/ns."""
        try:
            return os.readlink(f"/proc/{self.pid}/ns/{kind}")
        except (FileNotFoundError, ProcessLookupError):
            raise Failure(f"there is no process {self.pid}") from None

    def cgroup(self) -> Path:
        """Its cgroup v2 directory on the host. Missing if the runtime uses v1 here and left it in our own."""
        (line,) = [line for line in self.file("cgroup").splitlines() if line.startswith("0::")]
        own = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
        if [line] == own:
            raise host.Missing("the runtime puts containers into cgroup v1 here")
        return host.cgroup_mount() / line[4:]  # "0::/"


class Runtime:
    """One executable with a state root below `folder`, used by one trial."""

    def __init__(self, command_line: str, folder: Path, prefix: str) -> None:
        self.words = absolute(shlex.split(command_line))
        self.folder = folder
        self.root = folder / "state"
        self.prefix = prefix  # of every id, so that leftovers can be found
        self.containers: list[Container] = []

    def command(self, *words: object, timeout: float = 0, **options: Any) -> Done:
        """Run `RUNTIME --root ROOT WORDS`."""
        options.setdefault("stdin", subprocess.DEVNULL)
        text = [str(word) for word in words]
        try:
            done = subprocess.run(
                [*self.words, "--root", str(self.root), *text],
                capture_output=True,
                timeout=timeout or TIMEOUT,
                check=False,
                **options,
            )
        except subprocess.TimeoutExpired as late:
            raise Late(f"`{text[0]}` did not end within {late.timeout:.0f} s") from None
        return Done(text, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def new_id(self) -> str:
        return f"{self.prefix}-{len(self.containers) + 1}"

    def create(self, bundle: Bundle, *options: object, id: str = "", ok: bool = True, **more: Any) -> Container:
        """`create`. Its outcome is in `.created`; with `ok` it must succeed."""
        bundle.write()
        container = Container(self, id or self.new_id(), bundle, self.folder)
        self.containers.append(container)
        given = [] if "--bundle" in options else ["--bundle", bundle.folder]
        words = [str(word) for word in ("create", *given, *options, container.id)]
        # not /dev/null, which is the host's: a runtime may give standard streams to the container's user
        nothing = self.folder / "nothing"
        nothing.touch()
        with container.out_path.open("wb") as out, container.err_path.open("wb") as err, nothing.open("rb") as empty:
            options_ = {"stdin": empty, "stdout": out, "stderr": err, **more}
            process = subprocess.Popen([*self.words, "--root", str(self.root), *words], **options_)
            try:
                status = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Late(f"`create` did not end within {TIMEOUT:.0f} s") from None
        container.created = Done(words, status, "", container.errors() + container.output())
        if ok:
            expect_ok(container.created)
        return container

    def features(self) -> "dict[str, Any]":
        """The features document. Missing if the runtime has no such command: it is optional."""
        words = [*self.words, "features"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as late:
            raise Late(f"`features` did not end within {late.timeout:.0f} s") from None
        if done.returncode:
            raise host.Missing("the runtime has no `features`")
        return parse_object(done.stdout, "what `features` prints")

    def clean_up(self) -> None:
        """`delete --force` of everything, and the rest by hand: the runtime may have crashed, or not know the
        option.
        """
        end_children()  # the first process of a pid namespace would wait for those of others in it until we reap them
        names = {container.id for container in self.containers if not container.gone}
        if self.root.is_dir():
            names |= {path.name for path in self.root.iterdir() if path.is_dir()}
        for name in sorted(name for name in names if name and "/" not in name and not name.startswith(".")):
            try:
                subprocess.run(
                    [*self.words, "--root", str(self.root), "delete", "--force", name],
                    capture_output=True,
                    timeout=TIMEOUT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                pass
        for path in leftover_cgroups(self.prefix):
            kill_cgroup(path)
        end_children()


def is_same(one: object, other: object) -> bool:
    """Whether both paths lead to one file, and there is such a file."""
    try:
        return os.path.samefile(str(one), str(other))
    except (OSError, ValueError):
        return False


def absolute(words: "list[str]") -> "list[str]":
    """The same command line, for use in any working directory."""
    return [os.path.abspath(words[0]), *words[1:]] if "/" in words[0] else words


def version(command_line: str) -> str:
    """The runtime's name and version, in one line."""
    try:
        done = subprocess.run(
            [*shlex.split(command_line), "--version"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return (done.stdout.splitlines() or ["?"])[0]


def expect_ok(done: Done) -> Done:
    if done.status != 0:
        raise Failure(str(done))
    return done


def leftover_cgroups(prefix: str) -> "list[Path]":
    """Cgroup directories, of v1 or v2, whose name has this prefix; the deepest first."""
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup", topdown=False):
        found += [Path(folder, name) for name in names if prefix in name or prefix in folder]
    return found


def kill_cgroup(path: Path) -> None:
    """End every process of a cgroup and remove it."""
    for _ in range(200):
        try:
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        except (OSError, ValueError):
            pass
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)


def children() -> "list[int]":
    """Every child of this process, zombies and adopted orphans too."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except FileNotFoundError:
            pass  # a thread that ended
    return found


def descendants(pid: int) -> "list[int]":
    """Its children, theirs, and so on."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def end_children() -> None:
    """Kill and reap whatever became ours."""
    deadline = time.monotonic() + TIMEOUT
    while (pids := children()) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # whichever ends first: the first process of a pid namespace waits for others in it, of which some are ours
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)
