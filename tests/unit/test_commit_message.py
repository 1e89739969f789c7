"""tools/hooks/commit-msg, and how `./test` installs it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOK = ROOT / "tools/hooks/commit-msg"
BODY = "\n\nThe user saw an error without a reason.\n"


def judge(tmp_path: Path, message: str) -> tuple[int, str]:
    """The hook's exit status and the first line that it prints."""
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message)
    done = subprocess.run([HOOK, file], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.partition("\n")[0]


@pytest.mark.parametrize(
    "message",
    [
        f"kill: reject containers that are still being created{BODY}",
        f"kill, ps: ignore processes of a cgroup's new owner{BODY}",
        f"docs/man: don't repeat the synopsis{BODY}",
        f"native: embed the image{BODY}",
        f"native: split the child's code{BODY}\n# a comment of git's\n# ------------------------ >8 ------------------------\nd\nd\n",
        "Merge branch 'topic'\n",
        "fixup! kill: reject containers\n",
        f"area: {'v' * 66}{BODY}",
        f"docs: write {'é' * 60}{BODY}",
        'Revert "kill: reject containers"\n\nThis reverts commit 0123456.\n',
        f"tests: quote output{BODY}\n    {'long ' * 40}\n",
    ],
)
def test_good_message_passes(tmp_path: Path, message: str) -> None:
    """A subject of at most 72 characters, an empty line, and a body; or one that git makes."""
    assert (0, "") == judge(tmp_path, message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("\n\nbody\n", "the first line is empty"),
        (f"area: {'v' * 67}{BODY}", "the subject has 73 characters, at most 72"),
        (f"fix the thing{BODY}", "the subject names no area"),
        (f"The Area: fix the thing{BODY}", "the subject names no area"),
        (f"kill: reject it.{BODY}", "the subject ends with a full stop"),
        (f"kill: reject it: it is new{BODY}", "the subject says more than one thing"),
        (f"kill: reject it; fix ps{BODY}", "the subject says more than one thing"),
        (f"kill: Reject it{BODY}", "`Reject` is not a verb in lower case"),
        (f"kill: a container is rejected{BODY}", "`a` is not a verb"),
        (f"kill: rejected it{BODY}", "`rejected` is not an imperative"),
        (f"kill: rejecting it{BODY}", "`rejecting` is not an imperative"),
        ("kill: reject it\nbody\n", "the second line is not empty"),
        ("kill: reject it\n", "the body is missing"),
        ("kill: reject it\n\n# a comment\n", "the body is missing"),
        (f"kill: reject it\n\n{'word ' * 30}\n", "a line of the body has 150 characters, at most 120"),
    ],
)
def test_bad_message_is_rejected(tmp_path: Path, message: str, reason: str) -> None:
    """With the reason and a hint."""
    status, line = judge(tmp_path, message)

    assert 1 == status
    assert line.startswith(f"cannot accept the commit message: {reason} (hint: ")


def install(checkout: Path, **environment: str) -> None:
    """What `./test` does, in another checkout."""
    script = f". '{ROOT}/tools/prepare.sh'; commit_hook"
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(checkout), "GIT_CONFIG_NOSYSTEM": "1", **environment}
    subprocess.run(["bash", "-euc", script], cwd=checkout, env=variables, check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the hook, without .git."""
    shutil.copytree(ROOT / "tools/hooks", tmp_path / "tools/hooks")
    return tmp_path


def git(checkout: Path, *arguments: str) -> None:
    """Run git in the checkout."""
    subprocess.run(["git", *arguments], cwd=checkout, check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(checkout)})


def test_tarball_stays_as_it_was(checkout: Path) -> None:
    """Without .git there is nothing to install, and no failure."""
    install(checkout)

    assert [checkout / "tools"] == list(checkout.iterdir())


@pytest.mark.may_skip("a tarball can be tested without git")
@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_hook_is_installed_once_and_replaces_no_other(checkout: Path) -> None:
    """It is a link, and leaves the user's own hook and `core.hooksPath` alone."""
    git(checkout, "init", "-q")
    hook = checkout / ".git/hooks/commit-msg"
    install(checkout, CI="true")
    assert not hook.exists()
    install(checkout)
    install(checkout)
    assert hook.samefile(checkout / "tools/hooks/commit-msg")

    hook.unlink()
    hook.write_text("the user's own\n")
    install(checkout)
    assert "the user's own\n" == hook.read_text()

    hook.unlink()
    git(checkout, "config", "core.hooksPath", "elsewhere")
    install(checkout)
    assert not hook.exists()


def test_test_command_installs_the_hook() -> None:
    """`./test` calls the function."""
    assert "commit_hook" in (ROOT / "test").read_text().split()
