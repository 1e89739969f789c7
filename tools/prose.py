#!/usr/bin/env python3
"""Checks the prose of the project: words, messages, lengths of lines and sentences, and notes that do not last.

    tools/prose.py              every file that a person reads
    tools/prose.py FILE...      these files
    tools/prose.py --summary    counts for each directory

CONTRIBUTING.md ("How we write") has the rules. The exit status is 1 if something breaks them. tests/unit/test_prose.py
runs the same checks and holds the measure: under 0.3 words of WORDS in 1,000 lines.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# What to write instead. A pattern's spaces match any white space, so a phrase may be broken across lines.
WORDS = {
    r"(?:no|any|some|every)body": "name the actor: no process, another user, every container",
    r"who(?:so)?ever": "the user who, the process that",
    r"whom": "start a new sentence; name the actor",
    r"told": "report, pass, or say what the code prints",
    r"heard": "read, received",
    r"patience": "timeout",
    r"folders?": "directory",
    r"peers": "runc and crun, or the two ends of a socket",
    r"people": "users",
    r"(?<!there\s)(?:is|are|was|were) (?-i:none)": "say what happens: ignores, rejects, is empty",
    r"(?<!there\s)(?:is|are|was|were) no(?!\s+longer|\s+more)": "is not a …",
    r"be had": "is available",
    r"(?:done|do|does|doing) without": "skip, run without",
    r"of (?:its|their|one's) own accord": "by itself",
    r"one's own": "the caller's, the user's",
    r"of (?:theirs|ours|its like|their like)": "name the owner",
    r"as good as": "almost, equivalent to",
    r"at any rate": "leave it out",
    r"let (?:it )?be": "leave unchanged, keep",
    r"(?<!long\s)it (?:takes|took)(?!\s\d|[.,]|\s(?:about|up to|longer|at most|less))": "needs",
    r"at its word": "to the letter",
    r"and the like": "name them, or leave it out",
    r"now and then": "sometimes",
    r"all the same": "anyway; still",
    r"as (?:the |a |an )?[a-z]+(?: [a-z]+)? (?:has|have|had) it": "as the specification says",
    r"stands? twice": "is listed twice",
    r"(?:say|says|said) of": "say about; or: the file lacks …",
    r"is asked for": "the config asks for …; requested",
    r"nor (?:is|are|does|do|has|have|can|may)": "write a second sentence with a subject",
    r"without end": "forever",
    r"(?:to|for|of) who": "users who, for users",
    r"(?-i:What (?:is|are|has|was)(?=[^?]*[.]))": "begin with the subject",
}
SPACED = [pattern.replace(" ", r"\s+") for pattern in WORDS]
SEARCH = re.compile(
    "(?<![A-Za-z_'’/`-])(?:"
    + "|".join(f"(?P<w{index}>{pattern})" for index, pattern in enumerate(SPACED))
    + ")(?![A-Za-z_/])",
    re.IGNORECASE,
)
INSTEAD = {f"w{index}": instead for index, instead in enumerate(WORDS.values())}

# Where a word is right: part of the path (a regular expression), what the text matches, and why.
EXCEPTIONS = (
    (r"^CONTRIBUTING\.md$|^tools/prose\.py$|/test_prose\.py$", "", "they name the words"),
    (r"", r"\bnobody\b(?=[:\"'`)*]|\s+\(|\s*=\s*65534)|[\"'`:/]nobody", "the account"),
    (r"", r"folders? (?:of|in|with) (?:a |the )?(?:e?mail|desktop)", "a folder that users see"),
)

# What does not last: notes to do something, and the hashes of commits.
FOREIGN = re.compile(
    r"\bTODO[:(]|\bFIXME\b|\bXXX\b|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)(?:commit )[0-9a-f]{7,40}\b",
    re.IGNORECASE,
)

MAX_LINE = 120
MEASURED = ("docs/conformance.md", "docs/errors.md")  # pages that tools write, with messages of any length
MAX_WORDS = 30  # in a sentence of a page; 25 is the aim

# Messages begin in lower case, but for names.
PROPER = {"AppArmor", "Linux", "Python", "Docker", "Podman", "Intel", "Unix", "Debian"}
WRONG_BEGINNING = re.compile(
    r"(?:can't|can not|could not|couldn't|failed to|failure to|unable to|error:|sorry)\b", re.IGNORECASE
)

GENERATED = (
    "pyoci/config/_validator.py",
    "pyoci/config/_platforms.py",
    "pyoci/config/_schemas.py",
    "pyoci/types.py",
    "pyoci/compiler/_syscalls.py",
    "pyoci/_native.c",
    "pyoci/_native.h",
    "pyoci/types.py",
)
PATTERNS = (
    "*.md", "demo", "test", ".ci/*", "contrib/**/*.md", "docs/**/*.md", "pyoci/**/*.py", "pyoci/**/*.py[xi]", "pyoci/**/*.px[id]",
    "pyoci/**/*.[ch]", "tests/**/*.py", "tests/**/*.[ch]", "conformance/**/*.py", "conformance/**/*.[ch]", "conformance/*.md",
    "tests/vm/*", "tools/*", "tools/hooks/*", "bench/*", "setup.py",
)  # fmt: skip


class Piece(NamedTuple):
    """A piece of prose in a file."""

    line: int
    kind: str  # comment, docstring, string, name or page
    text: str


class Finding(NamedTuple):
    """Something to write otherwise."""

    path: str
    line: int
    kind: str  # word, message, line, sentence or mention
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def files() -> list[Path]:
    """Every file that a person reads, without those that are generated from data."""
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern) if path.is_file()}
    kept = (path for path in found if "__pycache__" not in path.parts and name(path) not in GENERATED)
    return sorted(path for path in kept if path.suffix not in (".so", ".json", ".pyc"))


def name(path: Path) -> str:
    """Its path in the project, or the one that was given."""
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def pieces(path: Path, text: str) -> list[Piece]:
    """The prose of a file."""
    if path.suffix in (".py", ".pyi", ".pyx", ".pxi", ".pxd") or text.startswith(
        ("#!/usr/bin/env python", "#!/usr/bin/python")
    ):
        try:
            return list(of_python(text))
        except (tokenize.TokenError, IndentationError):
            pass
    if path.suffix in (".c", ".h"):
        return list(of_c(text))
    if path.suffix == ".sh" or re.match("#!/bin/(?:ba|busybox )?sh", text):
        return list(of_shell(text))
    return [Piece(1, "page", text)]


def of_python(text: str) -> Iterator[Piece]:
    """Comments (joined over successive lines), docstrings, other strings, and names of functions and classes."""
    before, begins, comment = "", True, Piece(0, "", "")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line, alone = token.start[0], not token.line[: token.start[1]].strip()
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("#!: ")
            if comment.text and alone and line == comment.line + comment.text.count("\n") + 1:
                comment = comment._replace(text=f"{comment.text}\n{words}")
                continue
            if comment.text:
                yield comment
            comment = Piece(line, "comment", words)
            continue
        if token.type == tokenize.STRING:
            prefix = token.string[: re.search("['\"]", token.string).start()].lower()  # type: ignore[union-attr]
            string = token.string if "r" in prefix else re.sub(r"\{[^{}\n]*\}", "…", token.string)
            kind = "docstring" if begins and token.string.endswith('"""') else "string"
            if kind == "docstring" or " " in string:  # a single word is a name
                yield Piece(line, kind, string)
        if token.type == tokenize.NAME and before in ("def", "class") and "_" in token.string:
            yield Piece(line, "name", token.string.replace("_", " "))
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            begins = True
        elif token.type != tokenize.NL:
            begins = False
        before = token.string
    if comment.text:
        yield comment


def of_c(text: str) -> Iterator[Piece]:
    """Comments and strings."""
    for match in re.finditer(r'/\*.*?\*/|//[^\n]*(?:\n\s*//[^\n]*)*|"(?:\\.|[^"\\\n])*"', text, re.DOTALL):
        kind = "string" if match[0].startswith('"') else "comment"
        words = re.sub(r"(?m)^\s*(?:/\*+|\*+/|\*|//)", "", match[0]) if kind == "comment" else match[0]
        yield Piece(text.count("\n", 0, match.start()) + 1, kind, words)


def of_shell(text: str) -> Iterator[Piece]:
    """Comments and strings with more than one word, without variables."""
    for number, line in enumerate(text.split("\n"), 1):
        for match in re.finditer(r"""(?:^|\s)#.*|"(?:\\.|[^"\\])* (?:\\.|[^"\\])*"|'[^']* [^']*'""", line):
            kind = "comment" if match[0].lstrip().startswith("#") else "string"
            yield Piece(number, kind, re.sub(r"\$\{[^}]*\}|\$\w+", "…", match[0]))


def words(path: str, found: Iterable[Piece]) -> Iterator[Finding]:
    """Words of WORDS, with what to write instead."""
    for piece in found:
        for match in SEARCH.finditer(piece.text):
            around = piece.text[max(match.start() - 1, 0) : match.end() + 8]
            if any(re.search(where, path) and re.search(what, around) for where, what, _why in EXCEPTIONS):
                continue
            said = " ".join(match[0].split())
            yield Finding(
                path,
                piece.line + piece.text.count("\n", 0, match.start()),
                "word",
                f"`{said}`: {INSTEAD[str(match.lastgroup)]}",
            )


def mentions(path: str, found: Iterable[Piece]) -> Iterator[Finding]:
    """Yield the notes to do something, and the hashes of commits."""
    if re.search(r"^tools/prose\.py$|/test_prose\.py$", path):
        return
    for piece in found:
        for match in FOREIGN.finditer(piece.text):
            line = piece.line + piece.text.count("\n", 0, match.start())
            yield Finding(path, line, "mention", f"`{match[0]}`: do it, or say what it is about")


def lines(path: str, text: str, found: Iterable[Piece]) -> Iterator[Finding]:
    """Lines that are too long: all lines of the product; pages without tables, code and links; comments elsewhere."""
    if path in MEASURED:
        return
    if path.endswith(".md"):
        checked: Iterable[int] = outside_code(text)
    elif path.startswith("pyoci/"):
        checked = range(1, text.count("\n") + 1)
    else:
        prose = (piece for piece in found if piece.kind in ("comment", "docstring"))
        checked = {piece.line + more for piece in prose for more in range(piece.text.count("\n") + 1)}
    every = text.split("\n")
    for number in sorted(checked):
        line = every[number - 1]
        if (
            len(line) > MAX_LINE
            and "# fmt: skip" not in line
            and not re.match(r"\||\[[^]]*\]:|\s*\S*https?://\S*$", line)
        ):
            yield Finding(path, number, "line", f"{len(line)} characters, at most {MAX_LINE}")


def outside_code(text: str) -> Iterator[int]:
    """The lines of a page that are not code."""
    code = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not line.startswith("    "):
            yield number


def sentences(path: str, text: str) -> Iterator[Finding]:
    """Sentences of a page that are too long: tables and code apart."""
    if not path.endswith(".md") or path in MEASURED:
        return
    paragraph: list[str] = []
    begin = 0
    prose = set(outside_code(text))
    for number, line in enumerate([*text.split("\n"), ""], 1):
        new = not line.strip() or number not in prose or re.match(r"\s*(?:[-*|#>]|\d+\.|    )", line)
        if new and paragraph:
            for sentence in re.split(r"(?<=[.!?:;])[)\"*]*\s+(?=\S)", " ".join(paragraph)):
                count = len(sentence.split())
                if count > MAX_WORDS:
                    beginning = " ".join(sentence.split()[:6])
                    yield Finding(path, begin, "sentence", f"{count} words, at most {MAX_WORDS}: {beginning} …")
            paragraph = []
        if number in prose and line.strip() and not re.match(r"\s*\||    ", line):
            begin = begin if paragraph else number
            paragraph.append(line.strip().lstrip("-*#> "))


def messages(path: str, text: str) -> Iterator[Finding]:
    """Messages and hints of the product in another form than `cannot <verb> <object>: <reason>`."""
    if not path.startswith("pyoci/") or not path.endswith(".py"):
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        parts = [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
        if re.search(r"Error$|^Unsupported$", called):
            parts += [argument for argument in node.args[:2] if not isinstance(argument, ast.Name)]
        for part in parts:
            message = literal(part)
            if fault := fault_of(message):
                yield Finding(path, part.lineno, "message", f"{fault}: {message}")


def literal(node: ast.expr) -> str:
    """The text of a string or of an f-string, whose values become `…`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    return "…" if isinstance(node, ast.FormattedValue) else ""


def fault_of(message: str) -> str:
    """How the form of a message is wrong, or an empty string."""
    if not message.strip():
        return ""
    first = re.split(r"[\s:,'’]", message.lstrip(), maxsplit=1)[0]
    if re.fullmatch(r"[A-Z][a-z]*", first) and first not in PROPER:
        return "begins with a capital"
    if message.endswith((".", "!")) and not message.endswith("..."):
        return "ends with a full stop"
    if WRONG_BEGINNING.match(message):
        return "does not say `cannot <verb> <object>: <reason>`"
    if re.match(r"cannot (?![a-z…])", message):
        return "no verb after `cannot`"
    return ""


def check(path: Path) -> list[Finding]:
    """Everything in a file that breaks a rule."""
    text = path.read_text(errors="replace")
    known, found = name(path), pieces(path, text)
    return [
        *words(known, found),
        *mentions(known, found),
        *lines(known, text, found),
        *sentences(known, text),
        *messages(known, text),
    ]


def area(path: str) -> str:
    """The directory that a file is counted in: the first two levels of pyoci, tests and docs."""
    parts = path.split("/")[:-1]
    return "/".join(parts[:2]) or "."


def main() -> int:
    """The tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    checked = [path for path in options.files or files() if path.is_file()]
    findings = [finding for path in checked for finding in check(path)]
    if options.summary:
        counts = Counter((area(finding.path), finding.kind) for finding in findings)
        for (directory, kind), count in sorted(counts.items()):
            print(f"{directory:24} {kind:10} {count:5}")
        total = sum(path.read_text(errors="replace").count("\n") for path in checked)
        found = sum(finding.kind == "word" for finding in findings)
        print(f"{found} words in {total} lines: {1000 * found / max(total, 1):.2f} in 1,000")
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
