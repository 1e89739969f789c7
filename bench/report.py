"""The page and its plot, made from the results of a measurement. All figures on the page come from there."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import plot

Results = dict[str, Any]
Times = dict[str, dict[str, list[int]]]  # operation: runtime: microseconds

LIFE = "create + start + delete"
ROWS = {
    "run": "run",
    "life": LIFE,
    "create": "create",
    "start": "start",
    "delete": "delete",
    "exec": "exec",
    "state": "state",
    "kill": "kill",
}
PLOTTED = ("run", "life", "exec", "state", "kill")
BUSY = 0.1


def write(results: Results, directory: Path) -> None:
    """Write the page, and the plot if there are times for it."""
    (directory / "performance.md").write_text(markdown(results))
    if picture := svg(results):
        (directory / "performance.svg").write_text(picture)


def dump(results: Results) -> str:
    """JSON with one line for each list of samples."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    lines: list[str] = []
    joining = False
    for line in text.split("\n"):
        stripped = line.strip()
        if joining:
            lines[-1] += stripped
            joining = not stripped.startswith("]")
        else:
            lines.append(line)
            joining = stripped.endswith("[")
    return "\n".join(lines) + "\n"


# --- the plot


def svg(results: Results) -> str:
    part = results["parts"].get("operations")
    if not part:
        return ""
    few, many = part["times"]["0"], part["times"][most_mounts(part)]
    groups = [plot.Group(ROWS[name], plotted(few[name])) for name in PLOTTED if name in few]
    if many is not few:
        groups.append(
            plot.Group(f"run, with {number(most_mounts(part))} mounts more on the host", plotted(many["run"]))
        )
    if at_once := results["parts"].get("at_once"):
        each = {name: 1000 / max(rates) for name, rates in at_once["rates"]["create"].items()}
        groups.append(plot.Group(f"create, {at_once['containers']} at once: time for each", each))
    if live := results["parts"].get("live"):
        listed = live["times"][str(live["containers"])]["list"]
        groups.append(plot.Group(f"list of {number(live['containers'])} containers", plotted(listed)))
    return plot.draw("Shorter is better. The least time of each command, as an engine sees it.", groups)


def plotted(by_name: dict[str, list[int]]) -> dict[str, float]:
    """The floor is the better one of both."""
    times = {name: least(samples) for name, samples in by_name.items()}
    kept = times.pop("floor-kept", None)
    if kept is not None:
        times["floor"] = min(times["floor"], kept)
    return times


def most_mounts(part: Results) -> str:
    return max(part["times"], key=int)


# --- the page

INTRODUCTION = """\
# Performance

An engine starts the runtime three times or more for each container, and waits for it. This page compares how long pyoci
and other runtimes take, with the config that Docker sends. *Floor* is a small program that only makes the system calls
of such a container. No runtime can be faster.

![The least time of each command with the floor and each runtime](performance.svg)
"""

LOADED = """\
**Other programs used this machine during the measurement.** All times are longer than on an idle machine, and the
ratios are less certain. The last table shows how busy the machine was.
"""

METHOD = """\
## Method

`bench/bench --output docs`, as root, measures all of this and writes this page, its plot and `docs/performance.json`,
which has every sample. `--only PART` measures one part again, and `bench/bench --report` makes the page without
measuring.

- `bench/timer.c` starts a command with posix_spawn and waits for it. The runtimes take turns, in another order each
  round. Compare minima: noise only adds to a time. Compare figures within one table only.
- *At once* means that the timer starts all commands, and then waits for the last one. All processors are busy, so the
  figure shows the work of all processes and of the kernel. In the other tables, a runtime and its child share that work
  on two processors.
- The config is `pyoci/executable/docker.json`: Docker 28's seccomp profile, capabilities, masks, device rules, six
  namespaces and ten mounts. The program is busybox's `true`, and `sleep` for containers that keep running.
- `bench/floor.c` makes the system calls of that container, in C without the C library. It reads no config, checks
  nothing and is not safe. *Floor, kept* first enters a kept mount namespace that is nearly empty.
- *Real-time* means SCHED_FIFO for the runtimes and their containers, which keeps other programs off the processors.
- The runtimes see cgroup v2 at /sys/fs/cgroup. They come from a Debian that `tools/debian` makes.
"""


def markdown(results: Results) -> str:
    parts = results["parts"]
    sections = [INTRODUCTION, *([LOADED] if is_loaded(parts) else [])]
    if "operations" in parts:
        sections.append(summary_section(parts))
    for name, section in SECTIONS:
        if parts.get(name):
            sections.append(section(parts[name]))
    return "\n".join([*sections, METHOD, conditions(results)])


def summary_section(parts: Results) -> str:
    """Ratios of pyoci to the others, of minima: the whole page in one table."""
    rows = list(summary_rows(parts))
    names = [name for name in ("floor", "crun", "runc", "youki") if any(name in by_name for _, by_name in rows)]
    cells = [[title, *(ratio(by_name["pyoci"], by_name.get(name)) for name in names)] for title, by_name in rows]
    text = "## Summary\n\nEach figure is what pyoci needs, divided by what the other needs. Below 1, pyoci is better.\n"
    text += "*Floor* is the faster of floor and *floor, kept*.\n\n"
    return text + rows_of(["", *(f"× {name}" for name in names)], cells)


def summary_rows(parts: Results) -> Iterable[tuple[str, dict[str, float]]]:
    """Rows of figures by runtime. Less is better, so rates are inverted."""
    if part := parts.get("operations"):
        for name in PLOTTED:
            yield ROWS[name], plotted(part["times"]["0"][name])
        if (most := most_mounts(part)) != "0":
            yield f"run, with {number(most)} mounts more on the host", plotted(part["times"][most]["run"])
        peak = {name: kibibytes for name, kibibytes in part["resident"]["0"].items() if not name.startswith("floor")}
        yield "peak memory of run", peak
    if part := parts.get("live"):
        times = part["times"][str(part["containers"])]["list"]
        yield f"list of {number(part['containers'])}", {name: least(samples) for name, samples in times.items()}
    if part := parts.get("at_once"):
        for operation, rates in part["rates"].items():
            title = f"{operation}, {part['containers']} at once"
            yield title, {name: 1 / max(samples) for name, samples in rates.items()}
    if part := parts.get("systemd"):
        yield "run, with systemd", {name: least(samples) for name, samples in part["times"]["run"].items()}
    if part := parts.get("checkpoint"):
        for operation, times in part["times"].items():
            yield operation, {name: least(samples) for name, samples in times.items()}


def ratio(ours: float, other: float | None) -> str:
    if other is None:
        return ""
    return f"{ours / other:.2f}" if ours < 10 * other else f"{ours / other:.0f}"


def commands_section(part: Results) -> str:
    times: Times = {name: dropped(by_name, "floor-kept") for name, by_name in part["times"]["0"].items()}
    resident = part["resident"]["0"]
    text = "## Each command\n\n" + times_table(times)
    text += "\nMilliseconds: minimum / median. The ratios compare minima: below 1, pyoci is faster.\n"
    if len(part["times"]) > 1:
        text += "\n" + mounts_section(part)
    return text + "\n" + peak_section(resident)


def mounts_section(part: Results) -> str:
    rows = {
        f"{ROWS[name]}, {number(level)}": times[name]
        for name in ("run", "life", "exec")
        for level, times in part["times"].items()
        if name in times
    }
    text = "## With many mounts on the host\n\n"
    text += "A host with many containers or volumes has thousands of mounts. A new mount namespace copies them all.\n\n"
    return text + times_table(rows, head="command, extra mounts")


def peak_section(resident: dict[str, int]) -> str:
    names = [name for name in resident if not name.startswith("floor")]
    table = rows_of(["MiB", *names], [["largest process of `run`", *(mebibytes(resident[name]) for name in names)]])
    return f"## Memory\n\n{table}"


def memory_section(part: Results) -> str:
    names = list(part["proportional"])
    count = part["waiting"]
    rows = [
        ["one `run` that waits", *(mebibytes(part["proportional"][name][0]) for name in names)],
        [f"each of {count} that wait", *(mebibytes(part["proportional"][name][1]) for name in names)],
    ]
    text = "Proportional memory (PSS) of a runtime while `run` waits for its container. Of a page that several\n"
    return text + "processes share, each counts its part.\n\n" + rows_of(["MiB", *names], rows)


def smallest_section(part: Results) -> str:
    names = list(part["limit"])
    rows = [["smallest memory limit", *(f"{part['limit'][name]:,}" for name in names)]]
    text = "The smallest memory limit of a container that runs `/bin/true`, in steps of 64 KiB, on user-mode Linux:\n\n"
    return text + rows_of(["KiB", *names], rows)


def at_once_section(part: Results) -> str:
    rates = part["rates"]
    names = list(rates["create"])
    rows = [
        [
            f"`{operation}`",
            *(f"{max(by_name[name]):.0f}" for name in names),
            ratio(max(by_name["pyoci"]), max(by_name["crun"])) if "crun" in names else "",
        ]
        for operation, by_name in rates.items()
    ]
    text = f"## {part['containers']} containers at once\n\n"
    text += f"The best of {len(rates['create']['pyoci'])} rounds. Above 1, pyoci makes more.\n\n"
    return text + rows_of(["containers per second", *names, "pyoci / crun"], rows)


def live_section(part: Results) -> str:
    rows = {}
    for name in ("create", "start", "state", "delete", "list"):
        for level, times in part["times"].items():
            rows[f"{name}, {number(level)}"] = times[name]
    text = "## Beside many containers\n\n"
    text += f"Each runtime has {number(part['containers'])} running containers. The commands act on one more.\n\n"
    return text + times_table(rows, head="command, live containers")


def systemd_section(part: Results) -> str:
    text = "## When systemd creates the cgroups\n\n"
    text += f"With `--systemd-cgroup`, the runtime asks systemd. Here that is {part['version']}.\n\n"
    return text + times_table(part["times"])


def checkpoint_section(part: Results) -> str:
    text = "## Checkpoint and restore\n\n"
    text += f"A container whose program sleeps, dumped to a tmpfs by CRIU {part['criu']} and restored. "
    text += "CRIU itself takes most of the time.\n\n"
    return text + times_table(part["times"])


def docker_section(part: Results) -> str:
    names = list(part["run"])
    rows = [
        ["`docker run --rm`, ms", *(cell(part["run"][name]) for name in names)],
        [
            "CPU of one health check, ms",
            *(f"{statistics.median(part['check'][name]) * 1000:.0f}" for name in names),
        ],
    ]
    version = part["version"].partition(", build")[0]
    text = (
        f"## With Docker\n\n{version}. The CPU is that of dockerd, containerd, the shim and the runtime. Docker sends\n"
    )
    text += (
        "an empty `blockIO`. So the table leaves out a runtime that needs the io controller, if the host lacks it.\n\n"
    )
    return text + rows_of(["minimum / median", *names], rows)


def hyperfine_section(part: Results) -> str:
    names = list(part["ours"]["run"])
    rows = []
    for operation in part["ours"]:
        for title, of in (("our timer", part["ours"]), (part["version"], part["hyperfine"])):
            rows.append([f"`{operation}`, {title}", *(cell(of[operation][name]) for name in names)])
    text = "## The same with hyperfine\n\n"
    text += "In turn, as a check of our timer. Each run starts right after the one before. So it waits until the kernel has\n"
    text += "removed the network namespace of that one.\n\n"
    return text + rows_of(["ms", *names], rows)


SECTIONS: tuple[tuple[str, Callable[[Results], str]], ...] = (
    ("operations", commands_section),
    ("memory", memory_section),
    ("smallest", smallest_section),
    ("at_once", at_once_section),
    ("live", live_section),
    ("systemd", systemd_section),
    ("docker", docker_section),
    ("checkpoint", checkpoint_section),
    ("hyperfine", hyperfine_section),
)


def conditions(results: Results) -> str:
    """The machine, the versions, and what each part was measured on."""
    host = results["host"]
    text = "## Conditions\n\n"
    text += f"Linux {host['kernel']}, {host['processors']} × {host['processor']}, {host['memory']} GiB.\n\n"
    suite = results["suite"]
    text += "The runtimes are this host's:\n\n" if suite == "host" else f"All but pyoci come from Debian {suite}:\n\n"
    text += "".join(f"- {name}: {version}\n" for name, version in results["runtimes"].items() if name != "floor")
    parts = {name: part["conditions"] for name, part in results["parts"].items()}
    rows = [
        [
            name,
            of["date"][:16].replace("T", " "),
            of["commit"],
            str(samples_of(results["parts"][name])),
            "yes" if of["realtime"] else "no",
            f"{of['busy']:.0%}",
        ]
        for name, of in parts.items()
    ]
    text += "\n" + rows_of(["part", "date, UTC", "commit", "samples", "real-time", "busy before"], rows)
    return text


def samples_of(part: Results) -> int:
    """The greatest number of samples of pyoci for one figure."""
    found = 1
    for key, value in part.items():
        if key == "pyoci" and isinstance(value, list):
            found = max(found, len(value))
        elif isinstance(value, dict):
            found = max(found, samples_of(value))
    return found


def is_loaded(parts: Results) -> bool:
    return any(part["conditions"]["busy"] > BUSY for part in parts.values())


# --- tables


def times_table(times: Times, head: str = "ms: minimum / median") -> str:
    names = list(dict.fromkeys(name for by_name in times.values() for name in by_name))
    others = [name for name in ("crun", "floor") if name in names and "pyoci" in names]
    rows = []
    for operation, by_name in ordered(times):
        ours = least(by_name["pyoci"])
        ratios = [ratio(ours, least(by_name[other]) if other in by_name else None) for other in others]
        rows.append([operation, *(cell(by_name.get(name, ())) for name in names), *ratios])
    titles = [name.replace("floor-kept", "floor, kept") for name in names]
    return rows_of([head, *titles, *(f"pyoci / {other}" for other in others)], rows)


def ordered(times: Times) -> Iterable[tuple[str, dict[str, list[int]]]]:
    """With the titles of the operations, in the order of ROWS."""
    known = [(title, times[name]) for name, title in ROWS.items() if name in times]
    return known or list(times.items())


def cell(samples: Sequence[float]) -> str:
    """Empty for a runtime that has failed."""
    if not samples:
        return ""
    return f"{figure(min(samples) / 1000)} / {figure(statistics.median(samples) / 1000)}"


def figure(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds >= 1 else f"{milliseconds:.2f}"


def least(samples: Sequence[int]) -> float:
    """Milliseconds."""
    return min(samples) / 1000


def mebibytes(kibibytes: float) -> str:
    return f"{kibibytes / 1024:.1f}"


def number(text: str | int) -> str:
    return f"{int(text):,}"


def dropped(by_name: dict[str, list[int]], name: str) -> dict[str, list[int]]:
    return {key: value for key, value in by_name.items() if key != name}


def rows_of(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    padded = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in table]
    lines = [f"| {' | '.join(cells)} |" for cells in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"
