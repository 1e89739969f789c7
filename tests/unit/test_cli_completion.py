"""The files of shell completion follow the table of commands."""

import re
import subprocess
from pathlib import Path

import pytest

from pyoci.cli.options import Option
from pyoci.cli.table import COMMANDS, GLOBAL_OPTIONS
from tools import gen_completion

VERBS = ["", *COMMANDS]


def test_the_files_are_up_to_date() -> None:
    """A change of the table needs a run of tools/gen_completion.py."""
    assert [] == gen_completion.outdated()


def test_a_changed_file_is_outdated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And so is a missing one."""
    monkeypatch.setattr(gen_completion, "DIRECTORY", tmp_path)
    for path, text in gen_completion.files().items():
        path.write_text(text)
    assert [] == gen_completion.outdated()
    (tmp_path / "_pyoci").write_text("#compdef pyoci\n")
    (tmp_path / "pyoci.fish").unlink()

    assert [tmp_path / "_pyoci", tmp_path / "pyoci.fish"] == gen_completion.outdated()


@pytest.mark.parametrize("verb", VERBS)
def test_every_shell_offers_every_option(verb: str) -> None:
    """Hidden options are not offered."""
    options = COMMANDS[verb].options if verb else GLOBAL_OPTIONS
    names = {f"--{option.names[0]}" for option in options if not option.hidden} | {"--help", "--usage"}
    files = gen_completion.files()
    bash = files[gen_completion.DIRECTORY / "pyoci.bash"]
    zsh = files[gen_completion.DIRECTORY / "_pyoci"]
    fish = files[gen_completion.DIRECTORY / "pyoci.fish"]

    of_bash = re.search(rf"^    {verb or repr('')}\) options='(.*)' ;;$", bash, re.MULTILINE)[1]
    assert names == {word for word in of_bash.split() if word.startswith("--")}
    begin = rf"\({verb}\) _arguments" if verb else "_arguments -C"
    of_zsh = re.search(rf"{begin}.*?&& ret=0", zsh, re.DOTALL)[0]
    assert names == set(re.findall(r"'(?:\*|\([^)]*\))?(--[a-z0-9-]+)=?\[", of_zsh))
    condition = re.escape(f"'__pyoci_option {verb or gen_completion._EMPTY}'")
    assert names == {f"--{name}" for name in re.findall(rf"-n {condition} -l (\S+)", fish)}


def test_names_of_options_in_the_tables_exist() -> None:
    """A renamed option would lose its completion."""
    options = [option for command in COMMANDS.values() for option in command.options] + [*GLOBAL_OPTIONS]

    assert set(gen_completion.KINDS_OF_OPTIONS) <= {option.names[0] for option in options}
    assert set(gen_completion.KINDS) <= {option.value for option in options}
    assert set(gen_completion.STATUSES) | set(gen_completion.NEW) <= set(COMMANDS)
    assert any(gen_completion.REPEATED in option.help for option in options)


def test_words_of_options_stand_in_their_help() -> None:
    """The help names each value that completion offers. Capabilities have too many names for it."""
    options = [option for command in COMMANDS.values() for option in command.options] + [*GLOBAL_OPTIONS]
    for option in options:
        what, _, words = gen_completion.kind(option).partition(" ")
        if what == "words" and option.names[0] != "cap":
            assert [] == [word for word in words.split() if word not in option.help]


def test_text_is_quoted_for_each_shell() -> None:
    """Descriptions have apostrophes, colons and brackets."""
    option = Option("size s", "N[:M]", "the host's size: [M] is `it`")

    assert (
        r"""'(--size -s)--size=[the host'\''s size\: \[M\] is `it`]:N[\:M]: ' """
        r"""'(--size -s)-s=[the host'\''s size\: \[M\] is `it`]:N[\:M]: '"""
    ) == gen_completion._zsh_option(option)
    assert (
        r"complete -c pyoci -n '__pyoci_option run' -l size -s 's' -r -d 'the host\'s size: [M] is `it`'"
        == gen_completion._fish_option("run", option)
    )


BASH = """
source {file}
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}} COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMP_TYPE=9
_pyoci
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(words: str, line: str) -> list[str]:
    """What bash offers, with the words as bash divides them."""
    script = BASH.format(file=gen_completion.DIRECTORY / "pyoci.bash", words=words, line=f"'{line}'")
    return subprocess.check_output(["bash", "--norc", "-c", script], text=True).split()


@pytest.mark.parametrize(
    ("words", "line", "expected"),
    [
        ("pyoci fea", "pyoci fea", ["features"]),
        ("pyoci --log-format = ''", "pyoci --log-format=", ["text", "json"]),
        ("pyoci --log-format = j", "pyoci --log-format=j", ["json"]),
        ("pyoci -log-format j", "pyoci -log-format j", ["json"]),
        ("pyoci --root = /a --log x st", "pyoci --root=/a --log x st", ["start", "state"]),
        ("pyoci -- st", "pyoci -- st", ["start", "state"]),
        ("pyoci list --form", "pyoci list --form", ["--format"]),
        ("pyoci list -- --form", "pyoci list -- --form", []),
        ("pyoci list -f ''", "pyoci list -f ", ["table", "json"]),
        ("pyoci kill web KI", "pyoci kill web KI", ["KILL"]),
        ("pyoci kill -a web KI", "pyoci kill -a web KI", ["KILL"]),
        ("pyoci kill web --al", "pyoci kill web --al", []),
        ("pyoci delete web --fo", "pyoci delete web --fo", ["--force"]),
        ("pyoci exec -u 0 : 0 --cap CAP_BP", "pyoci exec -u 0:0 --cap CAP_BP", ["CAP_BPF"]),
        ("pyoci exec web ls --form", "pyoci exec web ls --form", []),
        ("pyoci restore --image-path x --mem ''", "pyoci restore --image-path x --mem ", []),
        ("pyoci update --kernel-memory 1 --memory-r", "pyoci update --kernel-memory 1 --memory-r", ["--memory-reservation"]),
        ("pyoci unknown --f", "pyoci unknown --f", []),
    ],
)  # fmt: skip
def test_bash_divides_the_command_line_as_pyoci_does(words: str, line: str, expected: list[str]) -> None:
    """Options before and after the command, with one dash or two, with a space or `=`."""
    assert expected == complete(words, line)
