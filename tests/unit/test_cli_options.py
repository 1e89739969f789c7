"""The option parser: what Go's flag package accepts, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci.cli.options import Option, UnknownOption, Values, by_name, parse
from pyoci.errors import UsageError

OPTIONS = by_name(
    (
        Option("bundle b", "DIR", ""),
        Option("log", "DEST", ""),
        Option("force f", "", ""),
        Option("no-subreaper", "", ""),
        Option("preserve-fds", "N", ""),
    )
)


def parsed(*arguments: str, mixed: bool = True) -> tuple[Values, list[str]]:
    """(values of all options, operands)."""
    values = Values()
    operands = parse(OPTIONS, list(arguments), values, mixed=mixed)
    return values, operands


@pytest.mark.parametrize(
    "spelling", ["--bundle /b", "--bundle=/b", "-bundle /b", "-bundle=/b", "-b /b", "-b=/b", "--b /b"]
)
def test_every_spelling_of_a_value(spelling: str) -> None:
    """One or two dashes, with a space or an equals sign."""
    values, operands = parsed(*spelling.split(" "), "id")

    assert "/b" == values.text("bundle")
    assert ["id"] == operands


@pytest.mark.parametrize("spelling", ["--force", "-force", "-f", "--f", "--force=true", "-f=1", "--force=T"])
def test_every_spelling_of_a_switch(spelling: str) -> None:
    """A switch has no value, or one after an equals sign."""
    values, operands = parsed(spelling, "id")

    assert values.on("force")
    assert ["id"] == operands


@pytest.mark.parametrize("value", ["false", "0", "F", "f", "False", "FALSE"])
def test_a_switch_can_be_switched_off(value: str) -> None:
    """go-runc writes --rootless=false."""
    assert not parsed("--force", f"--force={value}")[0].on("force")


def test_a_switch_does_not_take_the_next_argument() -> None:
    """`--force true` is the switch and an operand."""
    assert ["true"] == parsed("--force", "true")[1]


def test_single_dash_long_option() -> None:
    """containerd's restore passes -no-subreaper."""
    assert parsed("-no-subreaper", "id")[0].on("no-subreaper")


def test_the_last_of_repeated_options_counts() -> None:
    """conmon-rs passes --root twice."""
    assert "second" == parsed("--log=first", "--log", "second")[0].text("log")


def test_an_empty_value_is_a_value() -> None:
    """`--bundle ''` is given, and empty."""
    values, operands = parsed("--bundle", "", "id")

    assert "" == values.text("bundle")
    assert ["id"] == operands


def test_a_value_may_hold_anything() -> None:
    """An equals sign, a leading dash, a lone dash."""
    assert "a=b" == parsed("--log=a=b")[0].text("log")
    assert "--force" == parsed("--log", "--force")[0].text("log")
    assert "-" == parsed("--log", "-")[0].text("log")


def test_double_dash_ends_the_options() -> None:
    """What follows is an operand whatever it looks like."""
    values, operands = parsed("--force", "--", "--bundle", "-x")

    assert values.on("force")
    assert ["--bundle", "-x"] == operands


def test_options_after_operands() -> None:
    """`delete ID --force` works; a command with a trailing command line stops at its first operand."""
    values, operands = parsed("id", "--force", "x")
    assert values.on("force")
    assert ["id", "x"] == operands

    values, operands = parsed("id", "--force", "x", mixed=False)
    assert not values.on("force")
    assert ["id", "--force", "x"] == operands


@pytest.mark.parametrize(
    "argument", ["--bun", "--forc", "-fb", "-x", "--", "---bundle", "--bundles", "--no_subreaper", "-9"]
)
def test_names_are_not_guessed(argument: str) -> None:
    """No abbreviations, no bundled letters, no unknown names."""
    if argument == "--":
        assert [] == parsed(argument)[1]
        return
    with pytest.raises(UnknownOption, match=f"^flag provided but not defined: {argument}$") as caught:
        parsed(argument, "id")
    assert argument.lstrip("-") == caught.value.name.lstrip("-")


@pytest.mark.parametrize("argument", ["--bundle", "-b", "-bundle"])
def test_a_missing_value(argument: str) -> None:
    """The text that Podman looks for."""
    with pytest.raises(UsageError, match=f"^flag needs an argument: {argument}$"):
        parsed("id", argument)


@pytest.mark.parametrize("value", ["", "yes", "2", "tRUE"])
def test_a_switch_that_is_neither_on_nor_off(value: str) -> None:
    """Only what Go's ParseBool takes."""
    with pytest.raises(UsageError, match="expected true or false"):
        parsed(f"--force={value}")


def test_what_came_before_a_fault_is_known() -> None:
    """So that the error reaches the log that was given before it."""
    values = Values()
    with pytest.raises(UsageError):
        parse(OPTIONS, ["--log", "x", "--bogus"], values, mixed=False)

    assert "x" == values.text("log")


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("3", 3), ("007", 7), ("999999999", 999999999)])
def test_counts(text: str, expected: int) -> None:
    """--preserve-fds N."""
    assert expected == parsed("--preserve-fds", text)[0].count("preserve-fds")


def test_no_count_is_zero() -> None:
    """An option that is not given counts as zero."""
    assert 0 == Values().count("preserve-fds")


@pytest.mark.parametrize("text", ["", "-1", "1.0", "0x1", " 1", "1_0", "１", "²", "1" * 5000])
def test_invalid_count_is_rejected(text: str) -> None:
    """Only ASCII digits are a number."""
    with pytest.raises(UsageError, match="for --preserve-fds: expected a count"):
        parsed(f"--preserve-fds={text}")[0].count("preserve-fds")


@given(st.lists(st.text(alphabet="-=bflogxce /", max_size=9), max_size=6), st.booleans())
def test_any_command_line_is_parsed_or_refused(arguments, mixed) -> None:
    """No argument makes the parser fail in another way, and nothing is lost."""
    values = Values()
    try:
        operands = parse(OPTIONS, arguments, values, mixed=mixed)
    except UsageError:
        return

    assert len(operands) <= len(arguments)
    assert all(operand in arguments for operand in operands)
