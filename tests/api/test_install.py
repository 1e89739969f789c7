"""The wheel: what `pip install .` installs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyoci", "specs", "tools", "setup.py", "pyproject.toml", "README.md", "LICENSE")
GENERATED = ("*.so", "*.c.o", "_native.c", "__pycache__", "_validator.py", "_platforms.py", "_schemas.py", "types.py")
PROGRAM = """
import pyoci
runtime = pyoci.Runtime()
print(runtime.executable, runtime.name, pyoci.validate({})[0].message)
"""


@pytest.mark.slow
def test_the_wheel_has_the_api_the_plugin_and_the_executable(tmp_path: Path) -> None:
    """Built from the sources alone, and used from another directory."""
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*GENERATED))
        else:
            shutil.copy(ROOT / name, source)
    shutil.copy(ROOT / "pyoci/client/types.py", source / "pyoci/client/types.py")
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
    assert (tmp_path / "site/pyoci/types.py").exists()
