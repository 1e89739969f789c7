"""What bench/compare computes, and that its config is one that can be run."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyoci import config
from pyoci.compiler.seccomp import compile_filter

BENCH = Path(__file__).resolve().parents[2] / "bench"
PACKAGE = BENCH.parent / "pyoci"


@pytest.fixture(scope="module")
def compare() -> Any:
    """The script as a module."""
    return SimpleNamespace(**runpy.run_path(str(BENCH / "compare")))


def test_runtimes_are_first_equally_often(compare: Any) -> None:
    """No runtime profits from its place in the round."""
    rounds = [compare.turn(["a", "b", "c"], number) for number in range(3)]
    assert [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]] == rounds


def test_table_has_minimum_median_and_ratio(compare: Any) -> None:
    """A ratio is of medians, and says how many times pyoci's the peer's time is."""
    times = {"run": {"pyoci": [0.003, 0.001, 0.002], "crun": [0.005, 0.009, 0.004]}}
    expected = [
        ["ms: minimum / median", "pyoci", "crun"],
        ["run", "1.0 / 2.0", "4.0 / 5.0 (2.5×)"],
        ["peak memory of run, MiB", "2.0", "1.5"],
    ]
    assert expected == compare.table(times, {"pyoci": 2048, "crun": 1536})


def test_a_life_is_the_sum_of_its_parts(compare: Any) -> None:
    """The row of the whole life comes when all of its parts were measured."""
    times = {name: {"pyoci": [0.001, 0.002, 0.004]} for name in ("create", "start", "delete")}
    assert ["create + start + delete", "3.0 / 6.0"] == compare.table(times, {"pyoci": 0})[-2]
    del times["start"]
    assert "delete" == compare.table(times, {"pyoci": 0})[-2][0]


def benchmark(compare: Any, folder: Path) -> Any:
    config = (PACKAGE / "executable" / "docker.json").read_text()
    return compare.Bench(folder, config, {"pyoci": "/usr/bin/pyoci"}, systemd=False)


def test_each_operation_finds_what_it_needs(compare: Any, tmp_path: Path) -> None:
    """Whatever is prepared starts without a container, and every word of the table becomes a command."""
    bench = benchmark(compare, tmp_path)
    for words, steps, program in compare.OPERATIONS.values():
        script = bench.preparation("pyoci", steps, program)
        assert script.startswith(f"/usr/bin/pyoci --root {tmp_path}/root-pyoci delete --force one 2>/dev/null; ")
        assert not {"CREATE", "START", "WAIT", "BUNDLE"} & set(script.replace(";", " ").split())
        assert "BUNDLE" not in bench.command("pyoci", words, program)


def test_config_is_one_that_runs(compare: Any, tmp_path: Path) -> None:
    """docker.json is filled in completely, passes validation and needs no warning, its seccomp profile neither."""
    benchmark(compare, tmp_path)
    data = (tmp_path / "pyoci-sleep" / "config.json").read_bytes()
    assert b"@" not in data
    assert ["/bin/sleep", "1000"] == json.loads(data)["process"]["args"]
    document, warnings = config.load(data)
    assert [] == warnings
    assert [] == compile_filter(document["linux"]["seccomp"], "x86_64").warnings


# What hyperfine 1.15 and 2.0 export, without what is not of interest here.
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
def test_times_of_both_versions_of_hyperfine(compare: Any, version: str) -> None:
    """The wall-clock time of each run, in seconds."""
    assert [0.003, 0.001] == compare.wall_times(EXPORTS[version])


def test_times_in_another_unit_are_refused(compare: Any) -> None:
    """Rather than a table of wrong figures."""
    export = json.loads(json.dumps(EXPORTS["2"]).replace('"second"', '"millisecond"'))
    with pytest.raises(ValueError, match="the unit of time is not the second"):
        compare.wall_times(export)
