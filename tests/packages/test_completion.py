"""Completion in the real shells, on a terminal: what the tab key makes of a line that a user has typed."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import installed, sleeper
from tests.support.daemon import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.deadline(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

# Each shell writes its line to the FIFO /tmp/line when it is ready, and when the keys Control-X and L are typed.
SHELLS = {
    "bash": (
        ["bash", "--rcfile", "/tmp/rc/bash", "-i"],
        """\
. /usr/share/bash-completion/bash_completion
bind -x '"\\C-xl": printf "%s\\n" "$READLINE_LINE" >/tmp/line'
PS1='> '
echo ready >/tmp/line
""",
    ),
    "zsh": (
        ["zsh", "-i"],
        """\
autoload -U compinit
compinit -u -d $HOME/dump
show() { print -r -- "$BUFFER" >/tmp/line }
zle -N show
bindkey '^Xl' show
PS1='> '
print ready >/tmp/line
""",
    ),
    "fish": (
        ["fish", "--init-command", "source /tmp/rc/fish"],
        """\
set -g fish_greeting
bind \\cxl 'commandline >/tmp/line'
function fish_prompt
    echo '> '
end
echo ready >/tmp/line
""",
    ),
}
DEVICE_ATTRIBUTES = re.compile(rb"\x1b\[0?c")  # fish waits for an answer
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<>=]*[A-Za-z]|[()][AB0]|\][^\x07]*\x07|[=>])|\r|\x0f")
WIDTH = 200


class Terminal:
    """A shell on a terminal in a system."""

    def __init__(self, root: installed.Root, shell: str, user: int = 0) -> None:
        self.fifo = f"{root.path}/tmp/line"
        command, _ = SHELLS[shell]
        home = f"/tmp/home-{user}"
        root.run("install", "-d", "-o", str(user), home)
        variables = {"HOME": home, "ZDOTDIR": "/tmp/rc", "TERM": "xterm", "LANG": "C.UTF-8"}
        variables["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        variables["XDG_DATA_DIRS"] = "/usr/local/share:/usr/share"  # where fish looks
        pid = root.path.parts[2]
        words = ["nsenter", f"--target={pid}", "--mount", "--root", f"--wd={root.path}/srv", "--"]
        words += ["setpriv", f"--reuid={user}", "--clear-groups", "--"] if user else []
        words += ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
        self._controller = controller
        self._output = b""
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *words], stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert "ready" == self._line()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._controller, 65536)
            except OSError:  # the shell has ended
                return
            self._output += part
            if DEVICE_ATTRIBUTES.search(part):
                os.write(self._controller, b"\x1b[?62c")

    def _line(self) -> str:
        """The next line that the shell writes to the FIFO."""
        return Path(self.fifo).read_text().rstrip("\n")

    @property
    def output(self) -> str:
        """Everything that the shell has printed, without escape sequences."""
        return ESCAPES.sub("", self._output.decode(errors="replace"))

    def complete(self, typed: str, tabs: int = 1) -> str:
        """Type a text and the tab key. Return the line that the shell then has."""
        os.write(self._controller, typed.encode() + b"\t" * tabs + b"\x18l")
        return self._line()

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._controller)


@pytest.fixture(scope="module")
def root(pyoci: str) -> Iterator[installed.Root]:
    """A Debian with the shells, pyoci in /usr/local, and containers of each status."""
    with installed.Root("trixie", "bash", "bash-completion", "zsh", "fish") as root:
        os.makedirs(f"{root.path}/tmp/rc")
        os.mkfifo(f"{root.path}/tmp/line")
        os.chmod(f"{root.path}/tmp/line", 0o666)
        for shell, (_, text) in SHELLS.items():
            name = ".zshrc" if shell == "zsh" else shell
            Path(f"{root.path}/tmp/rc/{name}").write_text(text)
        root.copy(Path(pyoci), directory="/usr/local/bin")
        subprocess.run([installed.CHECKOUT / "tools/share", f"{root.path}/usr/local/share"], check=True)
        sleeper.make_bundle(root, f"{installed.bundle(root)}/rootfs")
        containers = [("web-1",), ("web-2",), ("web-3",), ("old",), ("extra", "--root=/srv/other")]
        try:
            for container in containers:
                sleeper.create(root, *container)
            for name in ("web-1", "web-3"):
                root.run("pyoci", "start", name)
            root.run("pyoci", "pause", "web-3")
            root.run("pyoci", "kill", "old", "KILL")
            yield root
        finally:
            for name, *options in containers:
                root.run("pyoci", *options, "delete", "--force", name)


@pytest.fixture(params=SHELLS)
def shell(root: installed.Root, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A shell that has just started."""
    terminal = Terminal(root, request.param)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pyoci che", "pyoci checkpoint"),
        ("pyoci --log-l", "pyoci --log-level"),
        ("pyoci --log-format j", "pyoci --log-format json"),
        ("pyoci --log-format=j", "pyoci --log-format=json"),
        ("pyoci --debug --log x ki", "pyoci --debug --log x kill"),
        ("pyoci list --form", "pyoci list --format"),
        ("pyoci list --format t", "pyoci list --format table"),
        ("pyoci start w", "pyoci start web-2"),
        ("pyoci pause w", "pyoci pause web-1"),
        ("pyoci resume w", "pyoci resume web-3"),
        ("pyoci delete o", "pyoci delete old"),
        ("pyoci delete old --fo", "pyoci delete old --force"),
        ("pyoci kill --all web-1 KI", "pyoci kill --all web-1 KILL"),
        ("pyoci --root /srv/other start e", "pyoci --root /srv/other start extra"),
        ("pyoci --root=/srv/other start e", "pyoci --root=/srv/other start extra"),
        ("pyoci exec --cap CAP_BP", "pyoci exec --cap CAP_BPF"),
        ("pyoci exec web-1 --tt", "pyoci exec web-1 --tt"),
        ("pyoci create w", "pyoci create w"),
        ("pyoci run --bundle /srv/bu", "pyoci run --bundle /srv/bundle"),
        ("pyoci run --bundle=/srv/bu", "pyoci run --bundle=/srv/bundle"),
        ("pyoci validate /srv/bu", "pyoci validate /srv/bundle"),
        ("pyoci run --config bundle/conf", "pyoci run --config bundle/config.json"),
    ],
)
def test_tab_completes(shell: Terminal, typed: str, expected: str) -> None:
    """Commands, options, their values, ids of containers with a status that the command accepts, and files."""
    assert expected == shell.complete(typed).rstrip(" =/")


@pytest.mark.parametrize(("shell", "tabs"), [("bash", 2), ("zsh", 1), ("fish", 1)], indirect=["shell"])
def test_shells_show_the_status_of_containers(shell: Terminal, tabs: int) -> None:
    """Where several ids are possible. `kill` needs a container that lives."""
    assert "pyoci kill web-" == shell.complete("pyoci kill web-", tabs)
    for name, status in (("web-1", "running"), ("web-2", "created"), ("web-3", "paused")):
        until(lambda name=name, status=status: re.search(rf"{name}\s+\W*{status}", shell.output), f"{name} {status}")
    assert not re.search(r"\bold\b", shell.output)


@pytest.mark.parametrize("name", SHELLS)
def test_completion_is_silent_for_a_user_without_rights(root: installed.Root, name: str) -> None:
    """A user can't list root's containers."""
    shell = Terminal(root, name, user=65534)
    try:
        assert "pyoci start w" == shell.complete("pyoci start w")
        assert "cannot" not in shell.output
    finally:
        shell.close()
