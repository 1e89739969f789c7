"""What `pip install` installs: the source distribution, and the wheel that pip builds from it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import pyoci
runtime = pyoci.Runtime()
print(runtime.executable, runtime.name, pyoci.validate({})[0].message)
"""


def source_distribution(directory: Path) -> Path:
    """The archive that `python -m build --sdist` makes, in `directory`."""
    command = ["setup.py", "--quiet", "egg_info", "--egg-base", directory, "sdist", "--dist-dir", directory]
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == result.returncode, result.stderr
    (archive,) = directory.glob("*.tar.gz")
    return archive


def stubs(package: Path) -> set[str]:
    """The stub files of the extensions in a package."""
    return {str(path.relative_to(package)) for path in package.rglob("*.pyi")}


@pytest.mark.slow
@pytest.mark.may_skip("a source distribution can be tested, too")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_the_source_distribution_has_every_file_of_the_repository(tmp_path: Path) -> None:
    """And none that the build makes, besides the metadata."""
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    with tarfile.open(source_distribution(tmp_path)) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}

    assert set() == set(tracked) - files
    assert {"PKG-INFO", "setup.cfg"} == {name for name in files - set(tracked) if ".egg-info/" not in name}


@pytest.mark.slow
def test_the_wheel_has_the_api_the_plugin_and_the_executable(tmp_path: Path) -> None:
    """pip builds it from the source distribution, and the program runs in another directory."""
    source = source_distribution(tmp_path)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    result = subprocess.run([*build, tmp_path, source], capture_output=True, text=True, check=False, timeout=900)
    assert 0 == result.returncode, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (info,) = (tmp_path / "site").glob("*.dist-info")
    (script,) = (tmp_path / "site").glob("*.data/scripts/pyoci")
    script.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    output = subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, text=True)

    assert f'{script} pyoci missing the required property "ociVersion"\n' == output
    assert "[pytest11]\npyoci.testing.plugin = pyoci.testing.plugin\n" in (info / "entry_points.txt").read_text()
    assert (tmp_path / "site/pyoci/py.typed").exists()
    assert stubs(ROOT / "pyoci") == stubs(tmp_path / "site/pyoci")
    assert (tmp_path / "site/pyoci/types.py").exists()
