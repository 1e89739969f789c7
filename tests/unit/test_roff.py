"""The manual pages as roff."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyoci.cli.table import COMMANDS
from tools import roff

ROOT = Path(__file__).resolve().parents[2]


def page(text: str) -> list[str]:
    """The lines of a page with this text, without its title."""
    return roff.page(f"# name(8)\n\n## TEXT\n\n{text}\n", version="1.2.3", date="2026-01-02").splitlines()[2:]


def test_title_has_version_and_date() -> None:
    """man(1) shows them in the last line."""
    text = roff.page("# pyoci-run(8)\n\n## NAME\n\npyoci-run - run it\n", version="1.2.3", date="2026-01-02")

    assert (
        '.TH "PYOCI\\-RUN" "8" "2026-01-02" "pyoci 1.2.3" "System Administration"\n.SH NAME\npyoci\\-run \\- run it\n'
    ) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a `b-c` **d** *e* f.", [r"a \fBb\-c\fR \fBd\fR \fIe\fR f."]),
        ("One. Two! *Three*...\nfour.", ["One.", "Two!", r"\fIThree\fR... four."]),
        ("[pyoci(8)](pyoci.8.md), [x.md](../x.md)", [r"\fBpyoci\fR(8), x.md"]),
        ("<https://a.b/c-d>", [r"https://a.b/c\-d"]),
        (r"a\b 'c' ^ ~ …", [r"a\(rsb \(aqc\(aq \(ha \(ti ..."]),
        ("one\n\ntwo", ["one", ".PP", "two"]),
        (".a", [r"\&.a"]),
        ("- **-a, --b C**: d. E\n- **f**, **g**: h", [".TP", r"\fB\-a, \-\-b C\fR", "d.", "E", ".TP", r"\fBf\fR, \fBg\fR", "h"]),
        ("- *a*: b\n  c", [r".IP \(bu 2", r"\fIa\fR: b c"]),
        ("| a | |\n|-|-|\n| [run](pyoci-run.8.md) | b, c |", [".TP", r"\fBpyoci\-run\fR(8)", "b, c"]),
        ("    # pyoci run\n    .x", [".RS 4", ".nf", r"# pyoci run", r"\&.x", ".fi", ".RE"]),
    ],
)  # fmt: skip
def test_marks_become_requests(text: str, expected: list[str]) -> None:
    """Each kind of block, and each mark inside a line."""
    assert expected == page(text)


def test_other_characters_are_rejected() -> None:
    """A page prints the same in every locale."""
    with pytest.raises(ValueError, match="not ASCII"):
        page("é")


def test_share_has_a_page_for_every_command(tmp_path: Path) -> None:
    """tools/share writes them, with completion, documentation and examples. All users can read them."""
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "tools").rglob("*")}
    for name in ("a", "b"):
        subprocess.run(
            ["sh", "-c", 'umask 077 && "$@"', "sh", sys.executable, ROOT / "tools/share", tmp_path / name], check=True
        )
    first, second = (
        {
            str(path.relative_to(tmp_path / name)): (path.read_bytes(), path.stat().st_mode & 0o777)
            for path in sorted((tmp_path / name).rglob("*"))
            if path.is_file()
        }
        for name in ("a", "b")
    )

    assert first == second
    pages = {f"man/man8/pyoci{verb}.8" for verb in ("", *(f"-{verb}" for verb in COMMANDS))}
    assert pages == {name for name in first if name.startswith("man/")}
    assert {
        "bash-completion/completions/pyoci", "zsh/site-functions/_pyoci", "fish/vendor_completions.d/pyoci.fish",
        "doc/pyoci/LICENSE", "doc/pyoci/README.md", "doc/pyoci/CHANGELOG.md", "doc/pyoci/examples/docker/daemon.json",
    } <= set(first)  # fmt: skip
    assert [] == [name for name, (text, mode) in first.items() if mode != (0o755 if text.startswith(b"#!") else 0o644)]
    assert {0o755} == {path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*") if path.is_dir()}
    assert before == {path: path.stat().st_mtime_ns for path in (ROOT / "tools").rglob("*")}


def test_links_between_installed_pages_exist(tmp_path: Path) -> None:
    """Each relative link of an installed page leads to an installed file or directory."""
    subprocess.run([sys.executable, ROOT / "tools/share", tmp_path], check=True)
    pages = [*(tmp_path / "doc/pyoci").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text())]

    assert len(links) > 50
    assert [] == [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]


def test_share_reports_a_directory_that_it_cannot_write(tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "file").touch()
    result = subprocess.run(
        [sys.executable, ROOT / "tools/share", tmp_path / "file"], capture_output=True, text=True, check=False
    )

    assert 1 == result.returncode
    assert result.stderr.startswith(f"cannot write {tmp_path}/file")
    assert 1 == result.stderr.count("\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_share_needs_one_directory(arguments: list[str]) -> None:
    """Otherwise it shows its usage."""
    result = subprocess.run(
        [sys.executable, ROOT / "tools/share", *arguments], capture_output=True, text=True, check=False
    )

    assert (2, "usage: tools/share DIRECTORY\n") == (result.returncode, result.stderr)
