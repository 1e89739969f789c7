"""The public names: what `import pyoci` offers and costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyoci
from pyoci.executable import freeze

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "docs" / "python.md").read_text()


def test_every_public_name_can_be_imported() -> None:
    """`__all__` and `dir` list what is there."""
    for name in pyoci.__all__:
        assert getattr(pyoci, name) is not None

    assert set(pyoci.__all__) <= set(dir(pyoci))
    assert len(set(pyoci.__all__)) == len(pyoci.__all__)


def test_the_manual_lists_every_public_name() -> None:
    """The table "Names" of docs/python.md is `__all__`."""
    table = MANUAL.partition("\n## Names\n")[2].partition("\n## ")[0]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]

    assert sorted(pyoci.__all__) == sorted(listed)


def test_type_checkers_see_the_same_names() -> None:
    """What stands under TYPE_CHECKING is what `__getattr__` finds."""
    tree = ast.parse((ROOT / "pyoci" / "__init__.py").read_text())
    imported = {
        alias.asname
        for branch in tree.body
        if isinstance(branch, ast.If)
        for statement in branch.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert set(pyoci.__all__) - {"__version__"} == imported


def test_import_loads_nothing_else() -> None:
    """The executable imports the package for each command, so names are imported when they are used."""
    program = "import sys; before = set(sys.modules); import pyoci; print(*sorted(set(sys.modules) - before))"
    output = subprocess.check_output([sys.executable, "-S", "-c", program], cwd=ROOT, text=True)

    assert ["pyoci", "pyoci.version"] == output.split()


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As with any other module."""
    with pytest.raises(AttributeError, match="module 'pyoci' has no attribute 'runtime_'"):
        pyoci.runtime_  # noqa: B018


def test_the_executable_does_not_hold_the_api() -> None:
    """Nothing in the executable imports it, and it is not frozen in."""
    frozen = {name for name, _, _ in freeze.modules(ROOT / "pyoci")}

    assert {name for name in frozen if name.startswith(("pyoci.client", "pyoci.testing"))} == set()
    for file in (ROOT / "pyoci").rglob("*.py"):
        if file.relative_to(ROOT / "pyoci").parts[0] not in ("client", "testing", "__init__.py"):
            assert not re.search(r"pyoci\.(client|testing)", file.read_text()), file
