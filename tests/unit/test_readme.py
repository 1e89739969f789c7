"""README.md and SECURITY.md agree with the pages that the tests follow."""

import re
import tomllib
from pathlib import Path

from pyoci.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
README, INSTALL, SECURITY = (ROOT / name for name in ("README.md", "docs/install.md", "SECURITY.md"))


def commands(section: str) -> list[str]:
    """The commands of a section that are set as code, without their comments."""
    indented = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    return [re.sub(r"\s{2,}#.*", "", line) for line in indented]


def test_ways_to_install_are_those_of_the_page() -> None:
    """docs/install.md has each command of the README. tests/packages run them."""
    _, _, rest = README.read_text().partition("\n## Install it\n")
    ways, _, _ = rest.partition("As root, with a root filesystem")
    named = commands(ways)

    assert len(named) > 8
    assert [] == [command for command in named if f"    {command}\n" not in INSTALL.read_text()]


def test_versions_agree() -> None:
    """pyproject.toml, the version that pyoci prints, and the files that the pages name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [version for page in (README, INSTALL) for version in re.findall(r"pyoci[-_](\d+\.\d+\.\d+)[-_]", page.read_text())]  # fmt: skip

    assert project["version"] == VERSION
    assert len(named) > 2
    assert {VERSION} == set(named)


def test_links_to_sections_exist() -> None:
    """A link to a heading of another page, in any page."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    missing = []
    for page in pages:
        for target, heading in re.findall(r"\]\(([\w./-]+\.md)#([\w-]+)\)", page.read_text()):
            titles = re.findall(r"^#+ (.*)$", (page.parent / target).read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            if heading not in anchors:
                missing.append(f"{page.name}: {target}#{heading}")

    assert [] == missing
    assert "SECURITY.md#verify-a-download" in README.read_text()
    assert "sha256sum --check" in SECURITY.read_text()
