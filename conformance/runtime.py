"""A runtime as its command line shows it: create, start, state, kill, delete, with a state root of its own."""

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from conformance import host
from conformance.bundle import Bundle

PATIENCE = 15 * float(os.environ.get("CONFORMANCE_PATIENCE", "1"))  # seconds for one command, or one change of status


class Failure(Exception):
    """The runtime breaks a requirement: how, in a sentence."""


class Done:
    """How a command ended: exit `status`, `out` and `err`."""

    def __init__(self, words: "list[str]", status: int, out: str, err: str) -> None:
        self.words = words
        self.status = status
        self.out = out
        self.err = err

    def __str__(self) -> str:
        said = (self.err or self.out).strip().replace("\n", " / ")
        return f"`{self.words[0]}` ended with {self.status}" + (f", saying: {said[-600:]}" if said else "")


class Container:
    """One container, made by `Runtime.create`, whatever came of it.

    `lines` is what its program has told so far; `pid` is its first process, `wait()` how it ended.
    """

    def __init__(self, runtime: "Runtime", id: str, bundle: Bundle, folder: Path) -> None:
        self.runtime = runtime
        self.id = id
        self.bundle = bundle
        self.out_path = folder / f"{id}.out"
        self.err_path = folder / f"{id}.err"
        self.created: Done
        self._status: int | None = None
        self._pid = 0

    # --- commands

    def start(self, *, ok: bool = True) -> Done:
        if ok:
            self.pid  # noqa: B018 - known from now on, even if the program ends at once
        done = self.runtime.command("start", self.id)
        return expect_ok(done, "start") if ok else done

    def state(self) -> "dict[str, Any]":
        """The state document of a container that exists."""
        done = expect_ok(self.runtime.command("state", self.id), "state")
        try:
            document = json.loads(done.out)
        except ValueError:
            raise Failure(f"`state` does not print JSON but {done.out[:200]!r}") from None
        return document

    def exists(self) -> bool:
        return self.runtime.command("state", self.id).status == 0

    def kill(self, name: str = "KILL", *, ok: bool = True) -> Done:
        done = self.runtime.command("kill", self.id, name)
        return expect_ok(done, "kill") if ok else done

    def delete(self, *options: str, ok: bool = True) -> Done:
        done = self.runtime.command("delete", *options, self.id)
        return expect_ok(done, "delete") if ok else done

    # --- what it does

    @property
    def pid(self) -> int:
        """The first process, as the host numbers it."""
        if not self._pid:
            self._pid = int(self.state()["pid"])
        return self._pid

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status of its first process, 128 + n if signal n ended it. It is our child: we are the subreaper."""
        if self._status is None:
            pid = self.pid
            deadline = time.monotonic() + patience
            while True:
                try:
                    found, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    raise Failure(f"process {pid} of the container is not an orphan after create") from None
                if found:
                    self._status = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                    return self._status
                if time.monotonic() > deadline:
                    raise Failure(f"the program did not end within {patience:.0f} s; it wrote {self.output()[-300:]!r}")
                time.sleep(0.002)
        return self._status

    def output(self) -> str:
        return self.out_path.read_text(errors="replace") if self.out_path.exists() else ""

    @property
    def lines(self) -> "list[dict[str, Any]]":
        """What the probe has told so far, whole lines."""
        lines = self.output().split("\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise Failure(f"the program's output is not what it writes: {self.output()[:300]!r}") from None

    def tells(self, op: str, patience: float = PATIENCE) -> "dict[str, Any]":
        """Wait until the probe has told of this operation; the first such line."""
        deadline = time.monotonic() + patience
        while True:
            for line in self.lines:
                if line["op"] == op:
                    return line
            if time.monotonic() > deadline:
                raise Failure(f"the program never told of `{op}`: {self.output()[-300:]!r} {self.errors()[-300:]!r}")
            time.sleep(0.002)

    def errors(self) -> str:
        return self.err_path.read_text(errors="replace") if self.err_path.exists() else ""

    def file(self, name: str) -> str:
        """/proc/PID/NAME of its first process."""
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def namespace(self, kind: str) -> str:
        """`kind` as in /proc/PID/ns."""
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

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
                timeout=timeout or PATIENCE,
                check=False,
                **options,
            )
        except subprocess.TimeoutExpired as late:
            raise Failure(f"`{text[0]}` did not end within {late.timeout:.0f} s") from None
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
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Failure(f"`create` did not end within {PATIENCE:.0f} s") from None
        container.created = Done(words, status, "", container.errors() + container.output())
        if ok:
            expect_ok(container.created, "create")
        return container

    def features(self) -> "dict[str, Any]":
        """The features document. Missing if the runtime has no such command: it is optional."""
        done = subprocess.run([*self.words, "features"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise host.Missing("the runtime has no `features`")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise Failure(f"`features` does not print JSON but {done.stdout[:200]!r}") from None

    def clean_up(self) -> None:
        """`delete --force` of everything, and then by hand whatever that left: the runtime may have crashed."""
        names = {container.id for container in self.containers}
        if self.root.is_dir():
            names |= {path.name for path in self.root.iterdir() if path.is_dir()}
        for name in sorted(name for name in names if name and "/" not in name and not name.startswith(".")):
            try:
                subprocess.run(
                    [*self.words, "--root", str(self.root), "delete", "--force", name],
                    capture_output=True,
                    timeout=PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                pass
        for path in leftover_cgroups(self.prefix):
            kill_cgroup(path)
        end_children()


def absolute(words: "list[str]") -> "list[str]":
    """The same command line, for use in any working directory."""
    return [os.path.abspath(words[0]), *words[1:]] if "/" in words[0] else words


def version(command_line: str) -> str:
    """What a runtime says of itself, in one line."""
    try:
        done = subprocess.run(
            [*shlex.split(command_line), "--version"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return (done.stdout.splitlines() or ["?"])[0]


def expect_ok(done: Done, what: str) -> Done:
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


def end_children() -> None:
    """Kill and reap whatever became ours."""
    for _ in range(50):
        pids = children()
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
