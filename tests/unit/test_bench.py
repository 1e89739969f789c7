"""What bench/ computes, and that its config is one that runs."""

import json
import platform
import runpy
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import build, parts, plot, report
from bench.runtimes import Host, Runtime
from bench.session import MIN_ROUNDS, Options, Series, Session, turn
from bench.timing import FailedCommandError, Sample, Timer, wall_times
from pyoci import config
from pyoci.compiler.seccomp import compile_filter

DOCS = Path(__file__).resolve().parents[2] / "docs"


def sample(milliseconds: float) -> Sample:
    return Sample(milliseconds / 1000, 0.0, 2048, 0)


def results(busy: float = 0.0) -> dict[str, Any]:
    """A result of one part."""
    series = Series(["floor", "floor-kept", "pyoci", "crun"])
    for name, time in (("floor", 1), ("floor-kept", 2), ("pyoci", 4), ("crun", 5)):
        for factor in (3, 1, 2):
            series.add(name, {part: sample(time * factor) for part in ("run", "create", "start", "delete", "state")})
            series.add(name, {part: sample(time * factor / 10) for part in ("exec", "kill")})
    operations = {"times": {"0": series.times}, "resident": {"0": series.resident("run")}, "mounts": {"0": 13}}
    conditions = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc", "rounds": 3, "realtime": True, "load": 0.5}
    return {
        "parts": {"operations": {**operations, "conditions": {**conditions, "busy": busy}}},
        "host": {"kernel": "6.18", "processor": "Fast", "processors": 2, "memory": 24},
        "suite": "sid",
        "runtimes": {"pyoci": "pyoci version 0.1.0"},
    }


def test_each_runtime_is_first_equally_often() -> None:
    """No runtime profits from its place in the round."""
    assert [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]] == [turn(["a", "b", "c"], number) for number in range(3)]


def test_life_is_the_sum_of_its_parts_in_one_round() -> None:
    """The minimum of the sums, not the sum of the minima."""
    series = Series(["pyoci"])
    series.add("pyoci", {"create": sample(1), "start": sample(2), "delete": sample(6)})
    series.add("pyoci", {"create": sample(5), "start": sample(1), "delete": sample(1)})
    assert [9000, 7000] == series.times["life"]["pyoci"]


def test_series_ends_in_time_and_without_runtimes_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime of others that fails is left out. If pyoci fails, so does the measurement."""
    bench = Session.__new__(Session)
    bench.options = Options("pyoci", "tools", "config", seconds=0)
    failing = {"youki"}
    cleared = []

    def measure(runtime: Runtime) -> dict[str, Sample]:
        if runtime.name in failing:
            raise FailedCommandError("it fails")
        return {"run": sample(1)}

    def clear(runtime: Runtime, ids: list[str]) -> None:
        cleared.append((runtime.name, ids))

    monkeypatch.setattr(bench, "clear", clear)
    monkeypatch.setattr(Runtime, "__init__", lambda self, name: setattr(self, "name", name))
    bench.runtimes = {name: Runtime(name) for name in ("pyoci", "crun", "youki")}  # type: ignore[call-arg]
    series = bench.repeat(60, measure, "runs")
    assert {"pyoci": [1000] * MIN_ROUNDS, "crun": [1000] * MIN_ROUNDS} == series.times["run"]
    assert ["pyoci", "crun"] == list(bench.runtimes)
    assert [("youki", ["one", "two"])] * 2 == cleared
    failing.add("pyoci")
    with pytest.raises(FailedCommandError):
        bench.repeat(60, measure, "runs")


def test_page_leaves_room_for_a_runtime_that_failed() -> None:
    """It has figures in some rows only."""
    measured = results()
    times = measured["parts"]["operations"]["times"]
    times["10"] = {operation: dict(by_name) for operation, by_name in times["0"].items()}
    del times["10"]["run"]["crun"]
    cells = [line.split("|") for line in report.markdown(measured).splitlines() if line.startswith("| run, 10 ")]
    assert ["", "4.00"] == [cell.strip() for cell in cells[-1][-3:-1]]


def test_page_has_minimum_median_and_ratios() -> None:
    """Ratios are of minima."""
    page = report.markdown(results())
    row = next(line for line in page.splitlines() if line.startswith("| create + start + delete | 3.0"))
    assert ["create + start + delete", "3.0 / 6.0", "12.0 / 24.0", "15.0 / 30.0", "0.80", "4.00"] == [
        cell.strip() for cell in row.strip("|").split("|")
    ]
    assert "0.10 / 0.20" in page
    assert "Other programs used this machine" not in page
    assert "Other programs used this machine" in report.markdown(results(busy=0.5))


def test_page_is_what_its_figures_give() -> None:
    """All figures of docs/performance.md come from the JSON file beside it."""
    found = json.loads((DOCS / "performance.json").read_text())
    assert report.markdown(found) == (DOCS / "performance.md").read_text(), "run bench/bench --report --output docs"
    assert report.svg(found) == (DOCS / "performance.svg").read_text(), "run bench/bench --report --output docs"


def test_json_has_one_line_for_each_list_of_samples() -> None:
    """So a difference between two measurements can be read."""
    text = report.dump(results())
    assert results() == json.loads(text)
    assert any(line.strip().startswith('"pyoci": [12000,') for line in text.splitlines())


def test_bars_are_proportional_within_a_group() -> None:
    """The longest bar of each group has the same length."""
    groups = [plot.Group("<one>", {"floor": 1.0, "pyoci": 4.0}), plot.Group("two", {"pyoci": 0.25, "crun": 0.5})]
    root = ET.fromstring(plot.draw("heading", groups))
    bars = [float(element.get("width") or 0) for element in root if element.tag.endswith("rect")]
    assert [bars[1] / 4, bars[1], bars[1] / 2, bars[1]] == pytest.approx(bars, abs=0.1)
    texts = [element.text for element in root if element.tag.endswith("text")]
    assert {"<one>", "1.0 ms", "4.0 ms", "0.25 ms, 0.50 × crun", "0.50 ms"} <= set(texts)


def test_config_is_one_that_runs(tmp_path: Path) -> None:
    """docker.json is filled in completely, passes validation and needs no warning, its seccomp profile neither."""
    data = (Host(tmp_path, build.CONFIG.read_text()).bundle("pyoci", "one", "sleep") / "config.json").read_bytes()
    assert b"@" not in data
    assert ["/bin/sleep", "100000"] == json.loads(data)["process"]["args"]
    document, warnings = config.load(data)
    assert [] == warnings
    assert [] == compile_filter(document["linux"]["seccomp"], "x86_64").warnings


def test_filters_are_those_of_the_config() -> None:
    """floor.c includes them as bytes."""
    linux = json.loads(build.CONFIG.read_text())["linux"]
    seccomp, devices = build.filters(linux).splitlines()
    program = compile_filter(linux["seccomp"], platform.machine()).program
    assert f"{{{','.join(map(str, program))}}}" in seccomp
    assert devices.startswith("static const unsigned char device_filter[]")


def test_timer_measures_and_reports_failures(tmp_path: Path) -> None:
    """A sleep takes its time, several commands run at once, and a failure carries what the command printed."""
    build.compile_program(build.HERE / "timer.c", tmp_path / "timer", [])
    timer = Timer(tmp_path / "timer")
    sleep = str(shutil.which("sleep"))
    try:
        assert timer.run([sleep, "0"]).seconds < timer.run([sleep, "0.1"]).seconds
        assert 0.5 <= timer.run([sleep, "0.5"], [sleep, "0.5"]).seconds < 1
        assert timer.run([sleep, "0"]).resident > 100
        with pytest.raises(FailedCommandError, match=r"1 of 2 failed: .*sleep: invalid"):
            timer.run([sleep, "x"], [sleep, "0"])
        with pytest.raises(FailedCommandError, match="1 of 1 failed: /nonexistent"):
            timer.run(["/nonexistent"])
    finally:
        timer.close()


def test_each_part_has_a_function_and_a_place() -> None:
    """bench/bench names the parts, measure.py looks for their functions."""
    script = runpy.run_path(str(build.HERE / "bench"))
    for part in script["PARTS"]:
        assert callable(getattr(parts, part))
        assert part in script["__doc__"]
        assert part in dict(report.SECTIONS)


# What hyperfine 1.15 and 2.0 export, without the fields that bench/ ignores.
EXPORTS = {
    "1": {"results": [{"command": "true", "mean": 0.002, "times": [0.003, 0.001], "exit_codes": [0, 0]}]},
    "2": {
        "schema_version": 2,
        "primary_metric": "time_wall_clock",
        "results": [
            {
                "command": "true",
                "measurements": [
                    {
                        "time_wall_clock": {"value": seconds, "unit": "second"},
                        "time_user": {"value": 0.0, "unit": "second"},
                        "memory_peak_resident": {"value": 3600384.0, "unit": "byte"},
                        "exit_code": 0,
                    }
                    for seconds in (0.003, 0.001)
                ],
                "summary": {"time_wall_clock": {"unit": "second", "count": 2, "mean": 0.002}},
            }
        ],
    },
}


@pytest.mark.parametrize("version", EXPORTS)
def test_times_of_both_versions_of_hyperfine(version: str) -> None:
    """The wall-clock time of each run, in seconds."""
    assert [0.003, 0.001] == wall_times(EXPORTS[version])


def test_times_in_another_unit_are_rejected() -> None:
    """Rather than a table of wrong figures."""
    export = json.loads(json.dumps(EXPORTS["2"]).replace('"second"', '"millisecond"'))
    with pytest.raises(ValueError, match="the unit of time is not the second"):
        wall_times(export)
