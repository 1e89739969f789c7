"""bench/: the floor makes the container that pyoci makes, and the measurement gives figures, a page and a plot."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import build
from bench.runtimes import Floor, Host, Runtime

CHECKOUT = Path(__file__).resolve().parents[2]
UNIFIED = str(CHECKOUT / "tests/vm/unified")
# What a process sees of its container, without the numbers that differ each time.
LOOK = """
    cut -d ' ' -f 4- /proc/self/mountinfo | sed 's/ - / /; s/,nr_inodes=[0-9]*//; s/,inode64//; s/,size=4k,mode=555//' | sort
    grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status
    hostname
    cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/self/oom_score_adj
    cat /proc/self/cgroup /sys/class/net/lo/flags
    cd /dev && ls -l null zero full random urandom tty ptmx fd stdin stdout stderr | sed 's/ [A-Z][a-z][a-z] .*:.. / /'
    ls -a /proc/acpi /sys/firmware
    (echo x >/proc/sys/kernel/hostname) 2>&1
    env | grep -v -e ^HOME -e ^OLDPWD -e ^PWD -e ^SHLVL | sort
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of floor and timer, compiled with -Wall -Wextra -Werror."""
    directory = tmp_path_factory.mktemp("tools")
    build.build(directory)
    return directory


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A root filesystem and bundles."""
    return Host(tmp_path, build.CONFIG.read_text())


@pytest.fixture
def floor(host: Host, tools: Path) -> Iterator[Floor]:
    """The floor, whose container `one` is deleted afterwards."""
    made = Floor("floor", str(tools / "floor"), host)
    yield made
    subprocess.run([UNIFIED, *made.command("delete", "--force", "one")], stderr=subprocess.DEVNULL)


def output(command: list[str]) -> str:
    done = subprocess.run([UNIFIED, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def look(host: Host, runtime: Runtime, name: str) -> list[str]:
    """What a process in the runtime's container sees. The floor takes its program from the command line."""
    host.programs["look"] = ["/bin/busybox", "sh", "-c", LOOK]
    return output(runtime.run("one", "look")).replace(f"{host.prefix}-{name}", host.prefix).splitlines()


def test_floor_makes_the_container_that_pyoci_makes(host: Host, floor: Floor, pyoci: str) -> None:
    """Mounts, device nodes, capabilities, the filter, masks, sysctls, hostname and environment are the same."""
    seen = look(host, floor, "floor")
    assert len(seen) > 40
    assert look(host, Runtime("pyoci", pyoci, host), "pyoci") == seen


def test_floor_returns_the_programs_status(host: Host, floor: Floor) -> None:
    """Else a container that fails would look like a fast one."""
    host.programs["fail"] = ["/bin/sh", "-c", "exit 7"]
    assert 7 == subprocess.run([UNIFIED, *floor.run("one", "fail")]).returncode
    host.programs["missing"] = ["/bin/missing"]
    assert 1 == subprocess.run([UNIFIED, *floor.run("one", "missing")], stderr=subprocess.DEVNULL).returncode
    cgroups = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names]  # others come and go meanwhile
    assert not [name for name in cgroups if name.startswith(f"{host.prefix}-")]


def test_floor_has_the_life_of_a_container(floor: Floor) -> None:
    """From create to delete, the state is that of the process, and the program runs only after start."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    subprocess.run([UNIFIED, *floor.create("one")], check=True, **quiet)
    created = json.loads(output(floor.state("one")))
    executable = Path(f"/proc/{created['pid']}/exe")
    assert "floor" == os.path.basename(executable.readlink())
    output(floor.start("one"))
    assert "busybox" == os.path.basename(executable.readlink())
    assert ["one", "running"] == [json.loads(output(floor.list_all()))[key] for key in ("id", "status")]
    output(floor.exec("one"))
    assert 1 == subprocess.run([UNIFIED, *floor.delete("one")], stderr=subprocess.DEVNULL).returncode
    output(floor.kill("one"))
    while json.loads(output(floor.state("one")))["status"] != "stopped":
        pass
    output(floor.delete("one"))
    assert "" == output(floor.list_all())


def test_bench_measures_and_reports(pyoci: str, tmp_path: Path) -> None:
    """One round with few mounts: valid JSON with samples of all commands, a page with tables, and a plot."""
    command = [
        CHECKOUT / "bench/bench",
        "--suite",
        "host",
        "--only",
        "operations",
        "--rounds",
        "1",
        "--mounts",
        "0",
        "2",
        "--peers",
    ]
    done = subprocess.run([*command, "--pyoci", pyoci, "--output", tmp_path], capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    results = json.loads((tmp_path / "performance.json").read_text())
    for times in results["parts"]["operations"]["times"].values():
        assert {"run", "create", "start", "state", "exec", "kill", "delete", "life"} == set(times)
        assert all(len(times["run"][name]) == 1 for name in ("floor", "floor-kept", "pyoci"))
        assert all(samples[0] > 50 for by_name in times.values() for samples in by_name.values())
    page = (tmp_path / "performance.md").read_text()
    assert "| create + start + delete |" in page
    assert "| run, 2 " in page
    root = ET.parse(tmp_path / "performance.svg").getroot()
    assert {"floor", "pyoci"} <= {element.get("class") for element in root}

    for name in ("performance.md", "performance.svg"):
        (tmp_path / name).rename(tmp_path / f"first-{name}")
    subprocess.run([CHECKOUT / "bench/bench", "--report", "--output", tmp_path], check=True)
    for name in ("performance.md", "performance.svg"):
        assert (tmp_path / f"first-{name}").read_text() == (tmp_path / name).read_text()
