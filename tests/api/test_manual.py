"""The examples of docs/python.md, each run as it stands."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pyoci as api
from pyoci.testing import Bundle
from tests.api.conftest import crun_makes_cgroups
from tests.api.test_plugin import run
from tests.api.test_rootfs import Layout

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
MAIN, BUNDLE, *OTHERS = [example for example in EXAMPLES if "def test_" not in example]
TESTS = [example for example in EXAMPLES if "def test_" in example]

pytestmark = pytest.mark.root


def titles(examples: list[str]) -> list[str]:
    """What an example does, for the name of its test."""
    return [example.splitlines()[0][:40] for example in examples]


@pytest.fixture
def place(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `bundle`, as in the examples. Its program reads its input, and ends at TERM."""
    bundle.shell("trap 'exit 143' TERM; cat; while :; do sleep 0.01; done")
    bundle.write()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["pyoci", "runc", "crun"])
def test_the_main_example(place: Path, name: str, request: pytest.FixtureRequest) -> None:
    """With each of the three runtimes."""
    executable = str(request.getfixturevalue(name)) if name != "runc" else shutil.which("runc")
    if executable is None:
        pytest.skip("no runc")
    more = ', cgroup_manager="disabled"' if name == "crun" and not crun_makes_cgroups() else ""
    example = MAIN.replace("pyoci.Runtime(", f"pyoci.Runtime({executable!r}, ")
    example = example.replace(', root="state")', f', root="state-{name}"{more})').replace(
        '"box"', f'"box-{os.getpid()}"'
    )
    assert example.count(name) >= 1

    exec(example, {})

    assert [] == api.Runtime(executable, root=f"state-{name}").list()


def test_the_bundle_suits_the_main_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyoci: str) -> None:
    """A newcomer runs the second example and then the first, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    example = MAIN.replace("pyoci.Runtime(", f"pyoci.Runtime({pyoci!r}, ").replace('"box"', f'"first-{os.getpid()}"')

    exec(BUNDLE, {})
    exec(example, {})

    assert [] == api.Runtime(pyoci, root="state").list()


@pytest.mark.parametrize("example", OTHERS, ids=titles(OTHERS))
def test_the_other_examples(
    place: Path,
    runtime: api.Runtime,
    container: api.Container,
    bundle: Bundle,
    example: str,
    request: pytest.FixtureRequest,
) -> None:
    """With what the text around them has made."""
    if "/usr/bin/crun" in example and not Path("/usr/bin/crun").exists():
        pytest.skip("no crun")
    if "runtime.run(" in example:
        bundle.program("cat").write()
    if ".checkpoint(" in example:
        runtime = api.Runtime(runtime.executable, root=place / "dumped", criu=request.getfixturevalue("criu"))
    names: dict[str, Any] = {"pyoci": api, "subprocess": subprocess, "contextlib": contextlib, "Path": Path}

    exec(example, names | {"runtime": runtime, "container": container})


def test_the_examples_of_tests(tmp_path: Path, pyoci: str) -> None:
    """As one test module, with an image."""
    from pyoci.testing import make_rootfs

    rootfs = make_rootfs("busybox", tmp_path / "tree")
    (rootfs / "etc/os-release").write_text("NAME=none\n")
    archive = tmp_path / "layer.tar"
    subprocess.run(["tar", "--create", "--file", archive, "--directory", rootfs, "."], check=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    Layout(tmp_path / "images" / "alpine").image(archive.read_bytes())

    assert "3 passed" in run(tmp_path, pyoci, "import pytest\n" + "\n".join(TESTS))
