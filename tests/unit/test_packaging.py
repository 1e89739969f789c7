"""The files of the Debian package agree with the rest of the project."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENTRY = r"pyoci \((?P<version>\S+)\) (?P<distribution>\S+);"


def test_versions_agree() -> None:
    """The package has the version of pyoci, and is released when that is."""
    changelog = re.match(ENTRY, (CHECKOUT / "debian/changelog").read_text())
    heading = re.search(r"(?m)^## (\S+) \((.*)\)$", (CHECKOUT / "CHANGELOG.md").read_text())

    assert heading[1] == changelog["version"].rpartition("-")[0]
    assert (heading[2] == "unreleased") == (changelog["distribution"] == "UNRELEASED")


def test_package_and_installer_look_for_the_same_containers() -> None:
    """Both have the same functions, because neither can load the other's file."""
    functions = r"(?ms)^# Print the status, the id.*?^}\n.*?^}\n.*?^}\n"
    texts = [
        re.search(functions, (CHECKOUT / name).read_text())[0] for name in ("debian/pyoci.prerm", "contrib/install.sh")
    ]

    assert texts[0] == texts[1]
    assert "refuse_if_containers_live()" in texts[0]
