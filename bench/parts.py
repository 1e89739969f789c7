"""The parts of the measurement. Each returns what goes into the JSON file under its name."""

import ctypes
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.runtimes import Runtime
from bench.session import Options, Session, end_processes, note, remove_cgroups, session
from bench.timing import FailedCommandError, Sample, time_with_hyperfine

Result = dict[str, Any]
AT_ONCE = 50
SETTLE = 0.3  # seconds for the kernel to remove the namespaces of so many containers
PROPORTIONAL = 10  # runtimes that wait at a time
HYPERFINE_RUNS = 10
HYPERFINE_ROUNDS = 15  # rounds of our timer for each round of hyperfine


def versions(options: Options) -> Result:
    """What the runtimes print about themselves."""
    with session(options) as bench:
        return {name: runtime.version() for name, runtime in bench.runtimes.items()}


def operations(options: Options) -> Result:
    """Each command, with more and more mounts on the host."""
    with session(options) as bench:
        bench.add_kept_floor()
        tree = bench.host.directory / "mounts"
        tree.mkdir()
        mount("tmpfs", tree)
        result: Result = {"times": {}, "resident": {}, "mounts": {}}
        made = 0
        for level in options.mounts:
            for number in range(made, level):
                (tree / str(number)).mkdir()
                mount("tmpfs", tree / str(number))
            made = level
            # runc alone needs a quarter of a second
            rounds = options.rounds if level == 0 else max(1, options.rounds // 2)
            series = bench.repeat(rounds, bench.live, f"{level} mounts")
            result["times"][str(level)] = series.times
            result["resident"][str(level)] = series.resident("run")
            result["mounts"][str(level)] = len(Path("/proc/self/mountinfo").read_text().splitlines())
        subprocess.run(["umount", "--recursive", "--lazy", tree], check=True)
        return result


def at_once(options: Options) -> Result:
    """Many containers at the same time: containers per second of each round."""
    ids = [f"many{number}" for number in range(AT_ONCE)]

    def measure(runtime: Runtime) -> dict[str, Sample]:
        try:
            time.sleep(SETTLE)
            created = bench.timer.run(*(runtime.create(id) for id in ids))
            end_processes([runtime.cgroup(id) for id in ids])
            bench.timer.run(*(runtime.delete(id) for id in ids))
            time.sleep(SETTLE)
            return {"create": created, "run": bench.timer.run(*(runtime.run(id) for id in ids))}
        except FailedCommandError:
            bench.clear(runtime, ids)
            raise

    with session(options) as bench:
        series = bench.repeat(max(1, options.rounds // 5), measure, f"{AT_ONCE} at once")
    rates = {
        operation: {name: [round(AT_ONCE / (time / 1e6), 1) for time in times] for name, times in by_name.items()}
        for operation, by_name in series.times.items()
    }
    return {"rates": rates, "containers": AT_ONCE}


def live(options: Options) -> Result:
    """Commands while other containers live: first none, then many of each runtime."""
    result: Result = {"times": {}, "containers": options.containers}
    with session(options) as bench:

        def measure(runtime: Runtime) -> dict[str, Sample]:
            listed = bench.timer.run(runtime.list_all())
            return {**{name: sample for name, sample in bench.live(runtime).items() if name in kept}, "list": listed}

        kept = ("create", "start", "state", "delete")
        rounds = max(1, options.rounds // 2)
        runtimes = list(bench.runtimes.values())
        for runtime in runtimes:
            runtime.root.mkdir(exist_ok=True)
        result["times"]["0"] = bench.repeat(rounds, measure, "no live containers").times
        ids = [f"live{number}" for number in range(options.containers)]
        try:
            for runtime in runtimes:
                try:
                    populate(bench, runtime, ids)
                except FailedCommandError as error:
                    bench.skip(runtime.name, error)
            times = bench.repeat(rounds, measure, f"{options.containers} live containers").times
        finally:
            for runtime in runtimes:
                remove_all(runtime, ids)
        result["times"][str(options.containers)] = times
    return result


def populate(bench: Session, runtime: Runtime, ids: list[str], together: int = 4) -> None:
    for first in range(0, len(ids), together):
        note(f"{runtime.name}: create container {first}/{len(ids)}")
        batch = ids[first : first + together]
        bench.timer.run(*(runtime.create(id) for id in batch))
        bench.timer.run(*(runtime.start(id) for id in batch))


def remove_all(runtime: Runtime, ids: list[str]) -> None:
    """Remove containers without `delete`, because runc's waits 0.1 s for each."""
    note(f"{runtime.name}: remove the containers")
    remove_cgroups([runtime.cgroup(id) for id in ids])
    shutil.rmtree(runtime.root, ignore_errors=True)
    note("")


def memory(options: Options) -> Result:
    """The memory of a runtime while `run` waits for its container: proportional set size, KiB."""
    result: Result = {"proportional": {}, "waiting": PROPORTIONAL}
    with session(options) as bench:
        for name, runtime in list(bench.runtimes.items()):
            figures = []
            for count in (1, PROPORTIONAL):
                ids = [f"wait{number}" for number in range(count)]
                try:
                    figures.append(round(proportional(runtime, ids) / count))
                except FailedCommandError as error:
                    bench.skip(name, error)
                    break
                finally:
                    bench.clear(runtime, ids)
            else:
                result["proportional"][name] = figures
    return result


def proportional(runtime: Runtime, ids: list[str]) -> int:
    """The memory of all processes of these runtimes, without the containers' own processes."""
    null = subprocess.DEVNULL
    waiting = [subprocess.Popen(runtime.run(id, "sleep"), stdin=null, stdout=null, stderr=null) for id in ids]
    try:
        for process in waiting:
            end = time.monotonic() + 30
            while True:
                if any(is_program(pid) for pid in descendants(process.pid)):
                    break
                if time.monotonic() > end or process.poll() is not None:
                    raise FailedCommandError(f"no container runs: {' '.join(runtime.run(ids[0], 'sleep'))}")
                time.sleep(0.01)
        time.sleep(0.2)  # until runc's short-lived processes have ended
        found = [pid for process in waiting for pid in descendants(process.pid) if not is_program(pid)]
        return sum(proportional_set(pid) for pid in found)
    finally:
        end_processes([runtime.cgroup(id) for id in ids])
        for process in waiting:
            process.wait()


def descendants(pid: int) -> list[int]:
    """A process and its descendants, without those that end meanwhile."""
    pids = [pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += descendants(int(child))
    return pids


def is_program(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return os.readlink(f"/proc/{pid}/exe").endswith("/busybox")
    return False


def proportional_set(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"cannot read the memory of process {pid}")


def smallest(options: Options) -> Result:
    """The smallest memory limit with which `run` runs /bin/true, in KiB. Needs the memory controller."""
    result = {}
    with session(options) as bench:
        (Path("/sys/fs/cgroup") / "cgroup.subtree_control").write_text("+memory")
        bench.runtimes.pop("floor")  # it sets no limits
        for name, runtime in bench.runtimes.items():
            low, high = 0, 128  # steps of 64 KiB: 0 is too small, 8 MiB is enough
            while high - low > 1:
                middle = (low + high) // 2
                note(f"{name}: run with {middle * 64} KiB")
                low, high = (low, middle) if fits(bench, runtime, middle * 65536) else (middle, high)
            result[name] = high * 64
    note("")
    return {"limit": result}


def fits(bench: Session, runtime: Runtime, limit: int) -> bool:
    bench.host.limit = limit
    try:
        for _ in range(2):
            bench.timer.run(runtime.run("small"))
    except FailedCommandError:
        bench.clear(runtime, ["small"])
        return False
    return True


def systemd(options: Options) -> Result:
    """Each command, when systemd creates the cgroups. Runs inside tests/vm/systemd."""
    with session(options, systemd=True) as bench:
        version = subprocess.check_output(["systemctl", "--version"], text=True).split("\n")[0]
        times = bench.repeat(max(1, options.rounds // 2), bench.live, "systemd").times
        return {"times": times, "version": version}


def docker(options: Options) -> Result:
    """Docker's own commands. Runs inside tests/engines/machine."""
    from bench.docker import measure

    return measure(options)


def hyperfine(options: Options) -> Result:
    """The same commands with hyperfine and with our timer, in turn."""
    if not shutil.which("hyperfine"):
        return {}
    ours: dict[str, dict[str, list[int]]] = {}
    theirs: dict[str, dict[str, list[int]]] = {}
    with session(options) as bench:
        for name, runtime in bench.runtimes.items():
            bench.timer.run(runtime.create("live"))
            bench.timer.run(runtime.start("live"))
            script = bench.host.directory / f"prepare-{name}"
            delete = " ".join(runtime.command("delete", "--force", "two"))
            script.write_text(f"#!/bin/sh\n{delete} >/dev/null 2>&1\ntrue\n")
            script.chmod(0o755)
        for number in range(max(1, options.rounds // HYPERFINE_ROUNDS)):
            for name, runtime in bench.runtimes.items():
                for operation, command, script in (
                    ("run", runtime.run("one"), None),
                    ("create", runtime.create("two"), bench.host.directory / f"prepare-{name}"),
                    ("state", runtime.state("live"), None),
                    ("exec", runtime.exec("live"), None),
                ):
                    note(f"hyperfine: round {number + 1}: {name} {operation}")
                    seconds = time_with_hyperfine(command, HYPERFINE_RUNS, script)
                    theirs.setdefault(operation, {}).setdefault(name, []).extend(round(each * 1e6) for each in seconds)
                    for _ in range(HYPERFINE_RUNS):
                        if script:
                            subprocess.run([script], check=True)
                        sample = bench.timer.run(command)
                        ours.setdefault(operation, {}).setdefault(name, []).append(round(sample.seconds * 1e6))
                    if script:
                        subprocess.run([script], check=True)
        for runtime in bench.runtimes.values():
            bench.clear(runtime, ["live", "two"])
    version = subprocess.check_output(["hyperfine", "--version"], text=True).strip()
    return {"ours": ours, "hyperfine": theirs, "version": version}


def checkpoint(options: Options) -> Result:
    """Dump a container to a tmpfs, and restore it. CRIU's own time, the same for all, is most of it."""
    with session(options) as bench:
        for name in ("floor", "youki"):  # neither can restore
            bench.runtimes.pop(name, None)
        images = bench.host.directory / "images"
        images.mkdir()
        for directory in (
            images,
            Path("/run"),
        ):  # CRIU keeps what it knows about the kernel in /run, if that is a tmpfs
            subprocess.run(["mount", "-t", "tmpfs", "bench", directory], check=True)

        for runtime in bench.runtimes.values():
            runtime.root = Path("/run") / runtime.name  # crun masks directories with one that it finds only there

        def measure(runtime: Runtime) -> dict[str, Sample]:
            run, pid = bench.timer.run, bench.pid
            shutil.rmtree(images / runtime.name, ignore_errors=True)
            run(runtime.create("two", "quiet"))
            run(runtime.start("two"))
            time.sleep(SETTLE)  # until the program has closed the output
            first = pid(runtime, "two")
            dumped = run(runtime.checkpoint("two", images / runtime.name))
            bench.timer.reap(first)
            restored = run(runtime.restore("two", images / runtime.name))
            end_processes([runtime.cgroup("two")])
            run(runtime.command("delete", "--force", "two"))
            return {"checkpoint": dumped, "restore": restored}

        try:
            series = bench.repeat(max(1, options.rounds // 2), measure, "checkpoint")
        finally:
            subprocess.run(["umount", images, "/run"], check=True)
        version = subprocess.check_output(["criu", "--version"], text=True).split("\n")[0].split()[-1]
        return {"times": series.times, "criu": version}


def mount(type: str, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bench", str(target).encode(), type.encode(), 0, b"size=4k"):
        raise OSError(ctypes.get_errno(), f"cannot mount {target}")
