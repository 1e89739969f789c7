"""docs/kubernetes.md shows the files of contrib, and the features of pyoci. tests/engines gives it to engines."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pyoci.cli.table import COMMANDS, GLOBAL_BY_NAME
from pyoci.compiler.features import document
from tests.support.pages import CHECKOUT, KUBERNETES, Block, block, blocks

LANGUAGES = {"toml", "yaml", "json", "sh"}
SHOWN = sorted((CHECKOUT / "contrib/kubernetes").iterdir())


def without_comment(file: Path) -> str:
    """A file without the comment at its beginning, which says where it goes."""
    return re.sub(r"\A(?:#.*\n)+", "", file.read_text())


def handlers(text: str) -> set[str]:
    """The names of runtimes in a TOML file of an engine: the tables in a table `runtimes`."""
    return set(re.findall(r"^\[.*\.runtimes\.(\w+)\]$", text, re.MULTILINE))


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: file.name)
def test_page_shows_each_file_whole(file: Path) -> None:
    """A user who copies from the page gets the file that the engines' tests use."""
    assert without_comment(file) in [shown.text for shown in blocks(KUBERNETES)]


@pytest.mark.parametrize("shown", blocks(KUBERNETES), ids=lambda shown: f"{shown.section}-{shown.language}")
def test_snippets_parse(shown: Block) -> None:
    """Each is in a language that a test reads. The engines' tests parse YAML."""
    assert shown.language in LANGUAGES
    if shown.language == "toml":
        assert tomllib.loads(shown.text)
    elif shown.language == "json":
        assert json.loads(shown.text)


def test_runtime_class_names_a_handler_of_each_engine() -> None:
    """The handler of the RuntimeClass is the name of the runtime in containerd 1, containerd 2 and CRI-O."""
    classes = [each.text for each in blocks(KUBERNETES, "RuntimeClass", "yaml")]
    (handler,) = {match for text in classes for match in re.findall(r"^handler: (\w+)$", text, re.MULTILINE)}
    engines = [names for each in blocks(KUBERNETES, language="toml") if (names := handlers(each.text))]

    assert [{"runc", handler}, {handler}, {handler}] == sorted(engines, key=len, reverse=True)


def is_part(part: Any, whole: Any) -> bool:
    """Whether a document has every key and every item of a part of it."""
    if isinstance(part, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return all(item in whole for item in part)
    return bool(part == whole)


def test_features_have_what_the_page_says() -> None:
    """The keys that containerd and CRI-O look for."""
    shown = json.loads(block(KUBERNETES, "What pyoci reports to the engine", "json"))

    assert is_part(shown, document())
    assert not is_part({"mountOptions": ["none"]}, document())
    assert not is_part({"linux": {"mountExtensions": {"idmap": {"enabled": False}}}}, document())


def test_commands_exist() -> None:
    """Each command of pyoci on the page, with its global options."""
    lines = [line for each in blocks(KUBERNETES, language="sh") for line in each.text.splitlines()]
    called = [line.split() for line in lines if line.startswith("pyoci ")]

    assert len(called) > 3
    for _, *words in called:
        while words[0].startswith("-"):
            assert GLOBAL_BY_NAME[words.pop(0).lstrip("-")].value
            words.pop(0)  # its value
        assert words[0] in COMMANDS
