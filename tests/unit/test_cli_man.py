"""The manual pages are those of the commands."""

import importlib.util
import re
import types
from pathlib import Path

from pyoci.cli.table import COMMANDS

ROOT = Path(__file__).parents[2]


def generator() -> types.ModuleType:
    """tools/gen_man.py as a module."""
    specification = importlib.util.spec_from_file_location("gen_man", ROOT / "tools/gen_man.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date() -> None:
    """Who changes the table runs tools/gen_man.py."""
    assert [] == generator().outdated()


def test_every_option_is_on_its_page() -> None:
    """Hidden ones, too: they are accepted."""
    missing = [
        (verb, option.names[0])
        for verb, command in COMMANDS.items()
        for option in command.options
        if f"--{option.names[0]}" not in (ROOT / f"docs/man/pyoci-{verb}.8.md").read_text()
    ]

    assert [] == missing


def test_every_example_is_a_valid_command_line() -> None:
    """Examples use commands and options that exist."""
    for text in generator().EXAMPLES.values():
        for line in text.splitlines():
            words = line.split()
            if words[0] != "pyoci":
                continue
            (verb,) = [word for word in words if word in COMMANDS][:1]
            known = {f"--{name}" for option in COMMANDS[verb].options for name in option.names} | {"--root"}
            assert set(re.findall(r"--[a-z-]+", line)) <= known
