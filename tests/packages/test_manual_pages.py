"""The manual pages, as man(1) and mandoc(1) show them."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.cli.table import COMMANDS
from tests.support import installed

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PAGES = ["pyoci", *(f"pyoci-{verb}" for verb in COMMANDS)]


@pytest.fixture(scope="module")
def root() -> Iterator[installed.Root]:
    """A Debian with the pages in /usr/local/share and two programs that read them."""
    with installed.Root("trixie", "man-db", "mandoc") as root:
        subprocess.run([installed.CHECKOUT / "tools/share", f"{root.path}/usr/local/share"], check=True)
        yield root


def test_man_shows_each_page_without_a_warning(root: installed.Root) -> None:
    """With its commands and options as they are typed."""
    for page in PAGES:
        text = root.run("man", "--warnings=w", "-P", "cat", page, environment={"MANWIDTH": "200"}).stdout
        assert "warning:" not in text
        assert f"{page.upper()}(8)" in text
        assert re.search(rf"(?m)^ +{page} - \S", text)
        verb = page.partition("-")[2]
        for option in COMMANDS[verb].options if verb else ():
            assert re.search(rf"(?<!-)--{re.escape(option.names[0])}\b", text)


def test_mandoc_finds_no_fault(root: installed.Root) -> None:
    """A page has no date before the release of its version."""
    pages = [f"/usr/local/share/man/man8/{page}.8" for page in PAGES]
    done = root.run("mandoc", "-T", "lint", "-W", "warning", *pages, check=False)

    assert [] == [line for line in done.stdout.splitlines() if "missing date" not in line]


def test_whatis_knows_each_page(root: installed.Root) -> None:
    """It reads the names and summaries from the pages."""
    root.run("mandb", "--quiet")
    lines = root.run("whatis", *PAGES).stdout.splitlines()

    assert sorted(PAGES) == sorted(line.split()[0] for line in lines)
    assert any(re.fullmatch(r"pyoci-list \(8\) +- list the containers", line) for line in lines)


def test_lines_of_a_page_fit_a_narrow_terminal(root: installed.Root) -> None:
    """Also those of a long list of options."""
    text = root.run("man", "-P", "cat", "pyoci-update", environment={"MANWIDTH": "60"}).stdout
    path = Path(installed.CHECKOUT / "docs/man/pyoci-update.8.md")

    assert path.exists()
    assert max(map(len, text.splitlines())) <= 80
