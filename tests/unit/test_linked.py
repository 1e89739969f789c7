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


def test_packages_come_from_several_databases(
    linked: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tools/unpack writes them, one for each directory. A file may be listed without /usr."""
    for name, architecture, file in ("libone-dev", "arm64", "/usr/lib/one.a"), ("two", "amd64", "/bin/two"):
        info = tmp_path / name / "info"
        info.mkdir(parents=True)
        (info.parent / "updates").mkdir()
        (info / f"{name}.list").write_text(f"{file}\n")
        (info.parent / "status").write_text(
            f"Package: {name}\nStatus: install ok installed\nMaintainer: somebody\nArchitecture: {architecture}\n"
            f"Source: src-{name} (1.0)\nVersion: 1.0+b2\nDescription: a package\n of one file\n\n"
        )
    monkeypatch.setattr(linked, "DATABASES", [str(tmp_path / name) for name in ("libone-dev", "two")])

    one, two = linked.packages(["/usr/bin/two", "/usr/lib/one.a"])

    assert ("libone-dev", "1.0+b2", "src-libone-dev", "1.0", "arm64") == tuple(
        one[key] for key in ("name", "version", "source", "sourceVersion", "architecture")
    )
    assert ("two", "amd64") == (two["name"], two["architecture"])


def test_file_of_no_package_is_an_error(linked: ModuleType, tmp_path: Path) -> None:
    """A bill of materials without it would be wrong."""
    with pytest.raises(linked.Unknown, match=f"no Debian package has {tmp_path}/liblocal.a"):
        linked.packages([f"{tmp_path}/liblocal.a"])
