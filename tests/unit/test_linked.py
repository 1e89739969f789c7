"""tools/linked reads what a linker prints about its input files."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "linked"


@pytest.fixture(scope="module")
def linked() -> ModuleType:
    """The tool as a module."""
    loader = SourceFileLoader("linked", str(TOOL))
    spec = importlib.util.spec_from_loader("linked", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_archives_count_if_a_member_is_linked(linked: ModuleType, tmp_path: Path) -> None:
    """In both forms of GNU ld; also the objects that the compiler adds, and none of pyoci's own."""
    trace = f"""\
/usr/bin/ld: mode elf_x86_64
{tmp_path}/lib/../lib/crt1.o
{tmp_path}/temp/main.o
{tmp_path}/libold.a
({tmp_path}/libold.a)printf.o
{tmp_path}/libnew.a(printf.o)
{tmp_path}/libnew.a(scanf.o)
{tmp_path}/libunused.a
"""
    expected = [f"{tmp_path}/lib/crt1.o", f"{tmp_path}/libnew.a", f"{tmp_path}/libold.a"]
    assert expected == linked.linked_files(trace)


def test_file_of_no_package_is_an_error(linked: ModuleType, tmp_path: Path) -> None:
    """A bill of materials without it would be wrong."""
    with pytest.raises(linked.Unknown, match=f"no Debian package has {tmp_path}/liblocal.a"):
        linked.packages([f"{tmp_path}/liblocal.a"])
