"""The prose of the project, by the rules of CONTRIBUTING.md: words, messages, lengths, and paths that exist."""

import re
from pathlib import Path

import pytest

from tools import prose

ROOT = Path(__file__).resolve().parents[2]

MAX_WORDS_PER_1000_LINES = 0.3


@pytest.fixture(scope="module")
def findings() -> list[prose.Finding]:
    """Everything that breaks a rule."""
    return [finding for path in prose.files() for finding in prose.check(path)]


@pytest.mark.parametrize("kind", ["message", "line", "sentence", "mention"])
def test_prose_follows_the_rules(findings: list[prose.Finding], kind: str) -> None:
    """`tools/prose.py FILE` shows each place."""
    assert [] == [str(finding) for finding in findings if finding.kind == kind]


def test_unclear_words_are_rare(findings: list[prose.Finding]) -> None:
    """They are under 0.3 in 1,000 lines. `tools/prose.py FILE` suggests what to write instead."""
    found = [str(finding) for finding in findings if finding.kind == "word"]
    lines = sum(path.read_text(errors="replace").count("\n") for path in prose.files())

    assert len(found) < MAX_WORDS_PER_1000_LINES * lines / 1000, "\n".join(found)


def check(tmp_path: Path, name: str, text: str) -> list[str]:
    """The kinds of what is wrong with a file."""
    file = tmp_path / name
    file.write_text(text)
    return [finding.kind for finding in prose.check(file)]


@pytest.mark.parametrize(
    "text",
    [
        "Nobody reads it.", "It was told so.", "The file is no symlink.", "A missing file is none.", "No cgroup can be had.",
        "Limits are done\nwithout.", "Whoever calls it knows.", "What is missing is made.", "It ends of its own accord.",
        "The folder is removed.", "It takes a mount namespace.",
    ],
)  # fmt: skip
def test_unclear_words_are_found(tmp_path: Path, text: str) -> None:
    """Also across lines, in comments, docstrings and strings of Python and C."""
    assert ["word"] == check(tmp_path, "page.md", text)
    assert ["word"] == check(tmp_path, "a.py", f'"""{text}"""\n')
    assert ["word"] == check(tmp_path, "b.py", "# " + text.replace("\n", "\n# ") + "\n")
    assert ["word"] == check(tmp_path, "c.pxi", "cdef int f() nogil:\n    # " + text.replace("\n", "\n    # ") + "\n")
    assert ["word"] == check(tmp_path, "d.c", f"/* {text} */\n")


@pytest.mark.parametrize(
    "text",
    [
        "There is no symlink.", "The file is no longer open.", "It takes 3 ms.", "What is a plan?", "The user `nobody` has it.",
        "pyoci runs the container without a cgroup.", "The kernel reports the error.",
    ],
)  # fmt: skip
def test_plain_words_pass(tmp_path: Path, text: str) -> None:
    """The same words where they are right."""
    assert [] == check(tmp_path, "page.md", text)
    assert [] == check(tmp_path, "a.py", f'"""{text}"""\n')


def test_code_is_not_prose(tmp_path: Path) -> None:
    """Names of variables are no sentences; those of functions and classes are."""
    assert [] == check(tmp_path, "a.py", "folder = told[nobody]\nx is None\n")
    assert ["word", "word"] == check(tmp_path, "b.py", "def test_ids_that_are_none(): ...\ndef nobody_knows(): ...\n")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("cannot open log /x: permission denied", ""),
        ("cannot open … x: is a directory", ""),
        ("…: no such file", ""),
        ("SCMP_ACT_NOTIFY needs `listenerPath`", ""),
        ("Cannot open x", "begins with a capital"),
        ("cannot open x.", "ends with a full stop"),
        ("could not open x", "does not say `cannot <verb> <object>: <reason>`"),
        ("failed to open x", "does not say `cannot <verb> <object>: <reason>`"),
        ("cannot /x", "no verb after `cannot`"),
    ],
)
def test_form_of_messages(message: str, fault: str) -> None:
    """`cannot <verb> <object>: <reason>`, in lower case, without a full stop."""
    assert fault == prose.fault_of(message)


def test_long_lines_and_sentences_are_found(tmp_path: Path) -> None:
    """In pages, but not in tables and code; comments in other files."""
    long = "word " * 30

    assert ["line"] == check(tmp_path, "page.md", long)
    assert [] == check(tmp_path, "page.md", f"| {long} |\n```\n{long}\n```\n")
    assert ["line"] == check(tmp_path, "a.py", f"# {long}\nx = '{long}'\n")
    assert ["sentence"] == check(tmp_path, "page.md", "word\n" * 31)
    assert [] == check(tmp_path, "page.md", "word\n" * 30 + "\n" + "word\n" * 20)


def test_paths_in_pages_exist() -> None:
    """A page names files as they are in the tree. Files that a build or a container makes are not in it."""
    path = r"(?<![\w/.~:-])((?:pyoci|tests|conformance|docs|tools|contrib|bench|specs)/[\w./-]*\w/?)"
    module = r"`((?:cli|client|testing|parent|compiler|config|cgroups|host|dbus|native|executable)/[\w./-]*\w/?)`"
    made = re.compile(r"_schemas\.py$")
    pages = [page for page in prose.files() if page.suffix == ".md"]
    named = {(page, ROOT / match) for page in pages for match in re.findall(path, page.read_text())}
    named |= {(page, ROOT / "pyoci" / match) for page in pages for match in re.findall(module, page.read_text())}

    assert len(named) > 100
    assert [] == sorted(
        f"{prose.name(page)}: {file.relative_to(ROOT)}"
        for page, file in named
        if not file.exists() and not made.search(file.name)
    )


def test_links_in_pages_lead_to_files() -> None:
    """Relative to the page, with the heading that a fragment names."""
    broken = []
    for page in prose.files():
        if page.suffix != ".md":
            continue
        for target, heading in re.findall(r"\]\(([^():#\s]*)(?:#([\w-]+))?\)", page.read_text()):
            file = page.parent / target if target else page
            if not file.exists():
                broken.append(f"{prose.name(page)}: {target}")
            elif heading:
                titles = re.findall(r"(?m)^#+ (.*)$", file.read_text())
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                broken += [] if heading in anchors else [f"{prose.name(page)}: {target}#{heading}"]

    assert [] == broken
