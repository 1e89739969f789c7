"""The command line: what reaches the container, what is printed, how errors are reported."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci import cli
from pyoci.cli import call, failure, table
from pyoci.cli.help import ABOUT
from pyoci.errors import ConfigError, ContainerNotFound, Problem, PyociError, StatusError
from pyoci.request import CreateRequest

STATES = [
    {
        "ociVersion": "1.3.0",
        "id": "web-1",
        "pid": 11,
        "status": "running",
        "bundle": "/b",
        "created": "t",
        "owner": "root",
    },
    {
        "ociVersion": "1.3.0",
        "id": "db",
        "pid": 0,
        "status": "stopped",
        "bundle": "/b\x1b[2J",
        "created": "t",
        "owner": "root",
    },
]


class FakeContainer:
    """Records what the command line asks of the package."""

    calls: list[tuple[object, ...]]
    error: BaseException | None

    def __init__(self, id: str) -> None:
        self.id = id
        self.warnings = (
            ["/hooks/poststop/0: error running poststop hook #0: cannot run /x: no such file or directory"]
            if id == "warns"
            else []
        )

    @classmethod
    def _record(cls, *call: Any) -> None:
        cls.calls.append(call)
        if cls.error:
            raise cls.error

    @classmethod
    def load(cls, id, *, root):
        cls._record("load", id, root)
        return cls(id)

    @classmethod
    def open(cls, id, *, root):
        cls._record("open", id, root)
        return cls(id)

    def state(self) -> dict[str, Any]:
        return STATES[0] | {"annotations": {}}


def options_of(request: CreateRequest) -> dict[str, object]:
    """What a request for create or run says, besides the id."""
    return {name: getattr(request, name) for name in CreateRequest.__slots__ if name != "id"}


@pytest.fixture(autouse=True)
def container(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Stand-ins for what commands call."""
    fake = type("Container", (FakeContainer,), {"calls": [], "error": None})

    def create(request) -> None:
        fake._record("create", request.id, options_of(request))

    def run(request, **options: Any):
        fake._record("run", request.id, options_of(request) | options)
        return 128 + 15

    monkeypatch.setattr("pyoci.create.create", create)
    monkeypatch.setattr("pyoci.run.run", run)
    monkeypatch.setattr("pyoci.start.start", lambda it: fake._record("start", it.id))
    monkeypatch.setattr("pyoci.kill.kill", lambda it, signal, **to: fake._record("kill", it.id, signal, to["all"]))
    monkeypatch.setattr("pyoci.delete.delete", lambda it, *, force: fake._record("delete", it.id, force))
    monkeypatch.setattr("pyoci.container.Container", fake)
    monkeypatch.setattr("pyoci.listing.list_all", lambda root, must_exist=False: (STATES, []))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(cli.posix, "environ", {})
    return fake


@pytest.fixture
def pyoci(capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line: (exit status, standard output, standard error)."""

    def run(*argv: Any):
        status = cli.main([str(word) for word in argv])
        out, err = capfd.readouterr()
        return status, out, err

    return run


# Creating


def test_create_as_containerd_calls_it(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """The shim's command line, to the letter."""
    result = pyoci(
        *"--root /run/containerd/runc/k8s.io --log /dev/null --log-format json create".split(),
        *"--bundle /b --pid-file /b/init.pid --console-socket /s --no-pivot --no-new-keyring abc".split(),
    )

    assert (0, "", "") == result
    ((verb, name, options),) = container.calls
    log = options.pop("log")
    assert ("create", "abc") == (verb, name)
    assert hasattr(log, "warning")
    assert hasattr(log, "debug")
    assert {
        "root": "/run/containerd/runc/k8s.io",
        "bundle": "/b",
        "config_file": None,
        "console_socket": "/s",
        "pidfd_socket": None,
        "pid_file": "/b/init.pid",
        "no_pivot": True,
        "no_new_keyring": True,
        "preserve_fds": 0,
        "cgroup_manager": "cgroupfs",
    } == options


def test_create_as_conmon_calls_it(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """conmon puts --systemd-cgroup first, and the engine's own arguments after it."""
    assert (0, "", "") == pyoci(
        *"--systemd-cgroup --log-format=json --log /dev/null create -b /b --pid-file /p --preserve-fds 3 x".split()
    )
    options = container.calls[0][2]

    assert ("systemd", 3) == (options["cgroup_manager"], options["preserve_fds"])


def test_create_as_conmon_rs_calls_it(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """conmon-rs passes global options twice."""
    assert 0 == pyoci(*"--root=/r --systemd-cgroup --root=/r --systemd-cgroup create --bundle /b x".split())[0]
    assert "/r" == container.calls[0][2]["root"]


def test_paths_are_made_absolute(
    pyoci: Callable[..., Any], container: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later readers of the state have another working directory."""
    monkeypatch.chdir(tmp_path)
    pyoci("--root", "r", "create", "-b", "b", "--pid-file", "p", "--console-socket", "s", "--config", "c", "x")
    options = container.calls[0][2]

    assert [f"{tmp_path}/{name}" for name in "rbpsc"] == [
        options[key] for key in ("root", "bundle", "pid_file", "console_socket", "config_file")
    ]


def test_the_bundle_defaults_to_the_current_directory(
    pyoci: Callable[..., Any], container: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with runc and crun."""
    monkeypatch.chdir(tmp_path)
    pyoci("create", "x")

    assert str(tmp_path) == container.calls[0][2]["bundle"]


def test_config_json_is_the_bundles(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """crun's --config is relative to the current directory, except for the usual name."""
    pyoci("create", "-f", "config.json", "-b", "/b", "x")

    assert container.calls[0][2]["config_file"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "cgroupfs"),
        ("--systemd-cgroup", "systemd"),
        ("--systemd-cgroup=false", "cgroupfs"),
        ("--cgroup-manager disabled", "disabled"),
        ("--systemd-cgroup --cgroup-manager cgroupfs", "cgroupfs"),
    ],
)
def test_cgroup_manager(words: str, expected: str, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Podman appends --cgroup-manager to what conmon passes."""
    pyoci(*words.split(), "create", "x")

    assert expected == container.calls[0][2]["cgroup_manager"]


def test_run_returns_the_programs_status(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Foreground: whatever the program's status is."""
    assert (143, "", "") == pyoci("run", "--bundle", "/b", "--keep", "x")
    options = container.calls[0][2]

    assert (False, True, False) == (options["detach"], options["keep"], options["no_subreaper"])


def test_run_detached(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """-d and --no-subreaper reach the container."""
    pyoci("run", "-d", "-no-subreaper", "x")
    options = container.calls[0][2]

    assert (True, False, True) == (options["detach"], options["keep"], options["no_subreaper"])


@pytest.mark.parametrize(
    "words", ["--rootless=true", "--rootless auto", "--criu /usr/sbin/criu", "--debug", "--log-level debug"]
)
def test_what_go_runc_may_pass(words: str, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Global options of runc and crun that need nothing from us are accepted."""
    assert (0, "", "") == pyoci(*words.split(), "start", "x")


# The other commands of the lifecycle


def test_start(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Nothing is printed on success: Podman's own output would be spoilt."""
    assert (0, "", "") == pyoci("--root", "/r", "start", "x")
    assert [("open", "x", "/r"), ("start", "x")] == container.calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("x", ("kill", "x", 15, False)),
        ("x 9", ("kill", "x", 9, False)),
        ("x KILL", ("kill", "x", 9, False)),
        ("--all x 9", ("kill", "x", 9, True)),
        ("-a x 37", ("kill", "x", 37, True)),
    ],
)
def test_kill(
    words: str, expected: tuple[str, str, int, bool], pyoci: Callable[..., Any], container: type[Any]
) -> None:
    """As the shim, CRI-O and buildah call it."""
    assert (0, "", "") == pyoci("kill", *words.split())
    assert expected == container.calls[-1]


def test_kill_takes_no_options_after_the_id(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Options are parsed before the id only."""
    status, out, err = pyoci("kill", "x", "--all")

    assert (1, "", []) == (status, out, container.calls)
    assert "unknown signal" in err


@pytest.mark.parametrize(
    ("words", "force"),
    [("x", False), ("--force x", True), ("-f x", True), ("x --force", True), ("--force=true x", True)],
)
def test_delete(words: str, force: bool, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """--force may stand anywhere."""
    assert (0, "", "") == pyoci("delete", *words.split())
    assert ("delete", "x", force) == container.calls[-1]


@pytest.mark.parametrize("verb", ["start", "delete"])
def test_warnings_are_printed(verb: str, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """A failing poststop hook is a warning."""
    expected = "warning: /hooks/poststop/0: error running poststop hook #0: cannot run /x: no such file or directory\n"

    assert (0, "", expected) == pyoci(verb, "warns")


def test_warnings_come_before_the_error(pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error stays the last line."""

    def fail(container) -> None:
        raise StatusError("cannot start")

    monkeypatch.setattr("pyoci.start.start", fail)

    assert ["warning: /hooks", "cannot start"] == [line[:15] for line in pyoci("start", "warns")[2].splitlines()]


def test_delete_of_an_unknown_id(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Engines repeat `delete --force`; without --force they look for `does not exist`."""
    container.error = ContainerNotFound("cannot load container x: it does not exist")

    assert (0, "", "") == pyoci("delete", "--force", "x")
    assert (1, "", "cannot load container x: it does not exist\n") == pyoci("delete", "x")


def test_delete_force_hides_no_other_error(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """Only an unknown container is not an error."""
    container.error = StatusError("cannot delete container x: it is running")

    assert 1 == pyoci("delete", "--force", "x")[0]


def test_regex(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """crun's --regex: every container whose id matches, anywhere in it."""
    assert (0, "", "") == pyoci("kill", "--regex", "^web-[0-9]|b$", "KILL")
    assert [("kill", "web-1", 9, False), ("kill", "db", 9, False)] == [c for c in container.calls if c[0] == "kill"]


def test_regex_goes_on_after_a_failure(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """It tries every container, and reports every failure."""
    container.error = StatusError("cannot delete: it is running")

    assert (
        1,
        "",
        "web-1: cannot delete: it is running; db: cannot delete: it is running\n",
    ) == pyoci("delete", "-r", ".")


def test_a_bad_regex_is_a_usage_error(pyoci: Callable[..., Any]) -> None:
    """Not an internal one."""
    assert "cannot use regular expression `(`" in pyoci("kill", "--regex", "(")[2]


# What is printed


def test_state(pyoci: Callable[..., Any]) -> None:
    """Indented JSON, nothing else, on both streams together."""
    status, out, err = pyoci("state", "web-1")

    assert (0, "") == (status, err)
    assert STATES[0] | {"annotations": {}} == json.loads(out)
    assert out.startswith('{\n  "ociVersion": "1.3.0",\n')
    assert out.endswith("\n}\n")


def test_state_is_quiet(pyoci: Callable[..., Any], container: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even --debug mixes anything into the document."""
    seen = []
    monkeypatch.setattr(call, "Log", lambda *args, **options: seen.append(options) or FakeLog())
    pyoci("--debug", "state", "x")

    assert [True] == [options["quiet"] for options in seen]


class FakeLog:
    """A log that swallows everything."""

    def close(self) -> None:
        """Nothing to close."""


def test_list_as_a_table(pyoci: Callable[..., Any]) -> None:
    """runc's columns; a hostile bundle path can't speak to the terminal."""
    assert (
        0,
        (
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
            "web-1       11          running     /b          t           root\n"
            "db          0           stopped     /b\\x1b[2J   t           root\n"
        ),
        "",
    ) == pyoci("list")


@pytest.mark.parametrize("words", ["--format json", "-f json", "--format=json"])
def test_list_as_json(words: str, pyoci: Callable[..., Any]) -> None:
    """The whole of each state, as one array."""
    assert STATES == json.loads(pyoci("list", *words.split())[1])


def test_list_of_ids(pyoci: Callable[..., Any]) -> None:
    """-q prints ids alone."""
    assert (0, "web-1\ndb\n", "") == pyoci("list", "-q")


def test_list_of_nothing(pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table has its header, JSON is an empty array."""
    monkeypatch.setattr("pyoci.listing.list_all", lambda root, must_exist: ([], []))

    assert "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n" == pyoci("list")[1]
    assert "[]\n" == pyoci("list", "-f", "json")[1]
    assert "" == pyoci("list", "-q")[1]


def test_version(pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """dockerd takes the last line with `version` in it, and what starts with `commit:`."""
    monkeypatch.setattr("pyoci.criu.installed.SYSTEM_DIRECTORIES", ())
    status, out, err = pyoci("--version")
    lines = out.splitlines()

    assert (0, "") == (status, err)
    assert "pyoci version 0.1.0" == lines[0]
    assert "spec: 1.3.0" == lines[-1]
    assert [0] == [number for number, line in enumerate(lines) if "version" in line]


def test_version_shows_that_criu_is_there(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """In crun's words, in the last line."""
    (tmp_path / "criu").touch(mode=0o755)

    assert pyoci("--criu", tmp_path / "criu", "--version")[1].endswith("\nspec: 1.3.0\n+CRIU\n")
    assert pyoci("--criu", tmp_path / "missing", "--version")[1].endswith("\nspec: 1.3.0\n")


@pytest.mark.parametrize("words", ["-v", "-V", "--version", "--root /r --version", "--version create"])
def test_spellings_of_version(words: str, pyoci: Callable[..., Any]) -> None:
    """Those of runc and of crun."""
    assert pyoci("--version") == pyoci(*words.split())


@pytest.mark.parametrize("words", ["", "--help", "-h", "-?", "help", "-help"])
def test_help(words: str, pyoci: Callable[..., Any]) -> None:
    """It names every command and every option that is not hidden, on standard output."""
    status, out, err = pyoci(*words.split())

    assert (0, "") == (status, err)
    assert set(table.COMMANDS) <= set(out.split())
    for option in table.GLOBAL_OPTIONS:
        assert option.hidden == (f"--{option.names[0]}" not in out)


def test_internal_commands_are_not_listed(pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyoci runs of itself is in no help, and says to a person what it is for."""
    monkeypatch.setattr("pyoci.host.netlink._read_all", lambda fd: b"")
    for name in table.INTERNAL:
        assert name not in pyoci("--help")[1]
        status, out, err = pyoci(name)
        assert (1, "") == (status, out)
        assert "only pyoci itself runs this command" in err


@pytest.mark.parametrize("verb", list(table.COMMANDS))
@pytest.mark.parametrize("flag", ["--help", "-h", "-?"])
def test_help_of_a_command(verb: str, flag: str, pyoci: Callable[..., Any]) -> None:
    """Engines probe for a command with --help; it needs no operands and does nothing."""
    status, out, err = pyoci(verb, flag)

    assert (0, "") == (status, err)
    assert out.startswith(f"usage: pyoci {verb}")
    for option in table.COMMANDS[verb].options:
        assert option.hidden == (f"--{option.names[0]}" not in out)
    assert (0, out, "") == pyoci("help", verb)


@pytest.mark.parametrize("verb", list(table.COMMANDS))
def test_usage_of_a_command(verb: str, pyoci: Callable[..., Any]) -> None:
    """crun's --usage is the first line of the help."""
    assert pyoci(verb, "--help")[1].splitlines()[:1] == pyoci(verb, "--usage")[1].splitlines()


def test_every_command_is_explained() -> None:
    """The explanations are those of the commands, no more and no fewer."""
    assert set(table.COMMANDS) == set(ABOUT)


def test_help_fits_a_terminal(pyoci: Callable[..., Any]) -> None:
    """No line of any help is longer than 112 characters."""
    texts = [pyoci("--help")[1], *(pyoci(verb, "--help")[1] for verb in table.COMMANDS)]

    assert [] == [line for text in texts for line in text.splitlines() if len(line) > 112]


# The default root


@pytest.mark.parametrize(
    ("environment", "euid", "user_namespace", "expected"),
    [
        ({}, 0, False, "/run/pyoci"),
        ({b"XDG_RUNTIME_DIR": b""}, 0, False, "/run/pyoci"),
        ({b"XDG_RUNTIME_DIR": b"/run/user/0"}, 0, False, "/run/pyoci"),
        ({b"XDG_RUNTIME_DIR": b"/run/user/5"}, 0, True, "/run/user/5/pyoci"),
        ({b"XDG_RUNTIME_DIR": b"/run/user/5"}, 5, False, "/run/user/5/pyoci"),
        ({b"XDG_RUNTIME_DIR": b""}, 5, True, "/run/pyoci"),
        ({}, 5, False, "/run/pyoci"),
    ],
)
def test_default_root(
    environment: dict[bytes, bytes],
    euid: int,
    user_namespace: bool,
    expected: str,
    pyoci: Callable[..., Any],
    container: type[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XDG_RUNTIME_DIR counts when it is not empty and we are not the real root."""
    monkeypatch.setattr(cli.posix, "environ", environment)
    monkeypatch.setattr(cli.posix, "geteuid", lambda: euid)
    monkeypatch.setattr(call, "in_user_namespace", lambda: user_namespace)
    pyoci("start", "x")

    assert expected == container.calls[0][2]


def test_given_root_wins(pyoci: Callable[..., Any], container: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says."""
    monkeypatch.setattr(cli.posix, "environ", {b"XDG_RUNTIME_DIR": b"/x"})
    pyoci("--root=/r", "start", "x")

    assert "/r" == container.calls[0][2]


# Errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--bogus start x", "flag provided but not defined: --bogus"),
        ("frobnicate x", "cannot run command `frobnicate`: there is no such command (hint: see `pyoci --help`)"),
        ("help frobnicate", "cannot run command `frobnicate`: there is no such command (hint: see `pyoci --help`)"),
        ("crate x", "cannot run command `crate`: there is no such command (hint: did you mean `create`?)"),
        ("strat x", "cannot run command `strat`: there is no such command (hint: did you mean `start`?)"),
        ("help exce", "cannot run command `exce`: there is no such command (hint: did you mean `exec`?)"),
        ("xs x", "cannot run command `xs`: there is no such command (hint: did you mean `ps`?)"),
        ("start", "start: needs ID (hint: see `pyoci start --help`)"),
        ("state x y", "state: cannot use `y`: one argument too many (hint: see `pyoci state --help`)"),
        ("kill", "kill: needs ID (hint: see `pyoci kill --help`)"),
        ("kill x 9 y", "kill: cannot use `y`: one argument too many (hint: see `pyoci kill --help`)"),
        ("kill x BOGUS", "cannot use signal `BOGUS`: unknown signal"),
        ("kill x SIGTREM", "cannot use signal `SIGTREM`: unknown signal (hint: did you mean `TERM`?)"),
        ("kill x 65", "cannot use signal `65`: unknown signal"),
        ("create --bogus x", "create: flag provided but not defined: --bogus (hint: see `pyoci create --help`)"),
        ("create x --bundle", "create: flag needs an argument: --bundle (hint: see `pyoci create --help`)"),
        ("create --preserve-fds=-1 x", "cannot use `-1` for --preserve-fds: expected a count"),
        ("list --format xml", "cannot use format `xml`: expected table or json"),
        ("--log-format xml start x", "cannot use log format `xml`: expected one of text, json"),
        ("--cgroup-manager x start x", "cannot use cgroup manager `x`: expected cgroupfs, systemd or disabled"),
        ("--log", "flag needs an argument: --log"),
        ("mounts add x", "cannot change the mounts of a container: pyoci does not support it"),
        ("create --bundel /b x", "create: flag provided but not defined: --bundel (hint: did you mean `--bundle`?)"),
        ("create -bundel=/b x", "create: flag provided but not defined: -bundel (hint: did you mean `--bundle`?)"),
        ("create --criu x", "create: flag provided but not defined: --criu (hint: write it before `create`)"),
        ("start --root /r x", "start: flag provided but not defined: --root (hint: write it before `start`)"),
        ("--rot /r start x", "flag provided but not defined: --rot (hint: did you mean `--root`?)"),
        ("--bundle /b create x", "flag provided but not defined: --bundle (hint: write it after the command)"),
    ],
)
def test_usage_errors(words: str, expected: str, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """One line on standard error, status 1, and nothing done."""
    assert (1, "", expected + "\n") == pyoci(*words.split())
    assert [] == container.calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("exec x", "exec: needs a program, or --process"),
        ("exec --user bob x sh", "cannot use `bob` for --user"),
        ("exec --additional-gids staff x sh", "cannot use `staff` for --additional-gids"),
    ],
)
def test_exec_checks_its_options_before_the_container(
    words: str, expected: str, pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faulty command line is reported as such, whether or not the container exists."""

    def load(id: str, *, root: str) -> None:
        raise ContainerNotFound(id)

    monkeypatch.setattr("pyoci.container.Container.load", load)
    status, out, err = pyoci(*words.split())

    assert (255, "") == (status, out)
    assert expected in err


def test_an_error_goes_to_the_log_and_to_stderr(
    pyoci: Callable[..., Any], container: type[Any], tmp_path: Path
) -> None:
    """The same text on standard error and, as a JSON line, in the log."""
    container.error = PyociError("cannot do it", where="/process/cwd", hint="do that")
    log = tmp_path / "log.json"
    result = pyoci("--log", log, "--log-format", "json", "start", "x")

    assert (1, "", "/process/cwd: cannot do it (hint: do that)\n") == result
    assert "/process/cwd: cannot do it (hint: do that)" == json.loads(log.read_text())["msg"]


def test_a_usage_error_reaches_the_log(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """Also when it comes after the log on the command line."""
    log = tmp_path / "log.json"
    pyoci("--log", log, "--log-format", "json", "create", "--bogus", "x")
    assert "create: flag provided" in json.loads(log.read_text())["msg"]

    pyoci("--log", log, "--log-format", "json", "--bogus")
    assert "flag provided but not defined: --bogus" == json.loads(log.read_text().splitlines()[1])["msg"]


def test_podman_finds_exactly_one_line(pyoci: Callable[..., Any], container: type[Any], tmp_path: Path) -> None:
    """Podman decodes the whole log as one object, unless --debug was given."""
    container.error = PyociError("cannot do it")
    log = tmp_path / "log.json"
    pyoci("--log", log, "--log-format", "json", "start", "x")

    assert 1 == log.read_text().count("\n")


def test_many_problems_are_one_line(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """The first problem, and how many more there are."""
    container.error = ConfigError([Problem("/a", "expected a string", 3, 4), Problem("/b", "x"), Problem("/c", "y")])

    assert (1, "", "config.json:3:4: /a: expected a string (and 2 more: see `pyoci validate`)\n") == pyoci(
        "create", "x"
    )


def test_a_log_that_cannot_be_opened(pyoci: Callable[..., Any], container: type[Any], tmp_path: Path) -> None:
    """It is an error before anything is done."""
    expected = f"cannot open log {tmp_path}/none/log: no such file or directory\n"

    assert (1, "", expected) == pyoci("--log", tmp_path / "none/log", "start", "x")
    assert [] == container.calls


def test_a_log_that_is_a_link(pyoci: Callable[..., Any], container: type[Any], tmp_path: Path) -> None:
    """The link's target stays as it is."""
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    status, _, err = pyoci("--log", tmp_path / "log", "start", "x")

    assert (1, []) == (status, container.calls)
    assert "too many levels of symbolic links" in err
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("division by zero"), SystemExit(7), SystemError("bad call"), RecursionError("deep")]
)
def test_an_internal_error_is_one_line(error: Any, pyoci: Callable[..., Any], container: type[Any]) -> None:
    """No traceback, status 1, whatever went wrong."""
    container.error = error
    status, out, err = pyoci("start", "x")

    assert (1, "", 1) == (status, out, err.count("\n"))
    assert err.startswith(f"internal error: {type(error).__name__}")


@pytest.mark.parametrize(
    ("words", "expected"), [("start x", (1, "", "cannot start: out of memory\n")), ("state x", (1, "", "cannot state: out of memory\n"))]
)  # fmt: skip
def test_lack_of_memory_fails_with_one_line(
    words: str,
    expected: tuple[int, str, str],
    pyoci: Callable[..., Any],
    container: type[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line names the command, which ends with its own status."""
    container.error = MemoryError()
    assert expected == pyoci(*words.split())

    container.error = SystemError("<class 'ImportError'> returned a result with an exception set")
    container.error.__cause__ = MemoryError()
    assert expected == pyoci(*words.split())

    monkeypatch.setattr(failure, "_SPARE", 1 << 62)
    container.error = SystemError("error return without exception set")
    assert expected == pyoci(*words.split())


@pytest.mark.parametrize("name", ["_dispatch", "_fail"])
def test_lack_of_memory_anywhere_else_fails_with_one_line(
    name: str, pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the command, and while pyoci writes its error."""

    def lack(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, name, lack)

    assert 1 == cli.main(["--bogus"])
    assert ("", "cannot run the command: out of memory\n") == capfd.readouterr()


def test_an_operating_system_error_reads_like_the_kernels(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """No [Errno 13], and the reason in lower case."""
    container.error = PermissionError(13, "Permission denied", "/x")

    assert (1, "", "cannot start: /x: permission denied\n") == pyoci("start", "x")


def test_debug_tells_where_an_internal_error_came_from(
    pyoci: Callable[..., Any], container: type[Any], tmp_path: Path
) -> None:
    """In the log, before the error, which stays the last line."""
    container.error = ZeroDivisionError("division by zero")
    log = tmp_path / "log.json"
    status, _, err = pyoci("--debug", "--log", log, "--log-format", "json", "start", "x")
    entries = [json.loads(line) for line in log.read_text().splitlines()]

    assert ["debug", "error"] == [entry["level"] for entry in entries]
    assert "cli/commands.py:" in entries[0]["msg"]
    assert "in start" in entries[0]["msg"]
    assert (1, "internal error: ZeroDivisionError: division by zero\n") == (status, err)


def test_interrupted(pyoci: Callable[..., Any], container: type[Any]) -> None:
    """^C is the status that a shell expects, and no traceback."""
    container.error = KeyboardInterrupt()

    assert (130, "", "") == pyoci("start", "x")


def test_a_hostile_error_is_one_line(pyoci: Callable[..., Any], container: type[Any], tmp_path: Path) -> None:
    """Names and hook output with newlines and escapes can't forge log lines."""
    container.error = PyociError('hook said: \x1b[2J\n{"level":"error","msg":"forged"}')
    log = tmp_path / "log.json"
    status, _, err = pyoci("--log", log, "--log-format", "json", "start", "x")

    assert (1, 1, 1) == (status, err.count("\n"), log.read_text().count("\n"))
    assert "\x1b" not in err + log.read_text()


def test_no_descriptor_is_left_open(pyoci: Callable[..., Any], container: type[Any], tmp_path: Path) -> None:
    """For those who call main() as a function."""
    before = len(os.listdir("/proc/self/fd"))
    container.error = PyociError("x")
    for _ in range(3):
        pyoci("--log", tmp_path / "log", "start", "x")
        pyoci("--log", tmp_path / "log", "state", "x")
        pyoci("--log", tmp_path / "log", "--bogus")

    assert before == len(os.listdir("/proc/self/fd"))


def test_closed_standard_output(pyoci: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who went away is an error, not a traceback."""
    real = os.write

    def write(fd, data):
        if fd == 1:
            raise BrokenPipeError(32, "Broken pipe")
        return real(fd, data)

    monkeypatch.setattr("pyoci.host.files.posix.write", write)

    assert (1, "", "cannot write to standard output: broken pipe\n") == pyoci("--version")


# validate


@pytest.fixture
def bad_bundle(tmp_path: Path) -> Path:
    """A bundle with two faults."""
    (tmp_path / "config.json").write_text(
        '{\n  "ociVersion": "1.3.0",\n  "root": {"path": 5},\n  "hostname": true\n}\n'
    )
    return tmp_path


@pytest.mark.parametrize("arguments", [["BUNDLE"], ["--bundle", "BUNDLE"], ["--config", "BUNDLE/config.json"], []])
def test_validate_reports_every_fault(
    arguments: list[str], pyoci: Callable[..., Any], bad_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each, with its place, on standard output; status 1."""
    monkeypatch.chdir(bad_bundle)
    status, out, err = pyoci("validate", *(word.replace("BUNDLE", str(bad_bundle)) for word in arguments))

    assert (1, "") == (status, err)
    assert ["config.json:3:20: /root/path", "config.json:4:15: /hostname"] == [
        line.rpartition(": ")[0] for line in out.splitlines()
    ]


def test_validate_as_json(pyoci: Callable[..., Any], bad_bundle: Path) -> None:
    """The same for programs."""
    status, out, err = pyoci("validate", "--json", bad_bundle)
    problems = json.loads(out)

    assert (1, "") == (status, err)
    assert [("/root/path", 3, 20), ("/hostname", 4, 15)] == [(p["where"], p["line"], p["column"]) for p in problems]
    assert all(problem["message"] for problem in problems)


def test_validate_accepts_what_spec_writes(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """No fault, nothing printed, status 0."""
    assert (0, "", "") == pyoci("spec", "--bundle", tmp_path)
    assert (0, "", "") == pyoci("validate", tmp_path)
    assert (0, "[]\n", "") == pyoci("validate", "--json", tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"ociVersion": ', b"\xef\xbb\xbf{}", '{"ociVersion": "1.0.0"}'.encode("utf-16"), b"[" * 100_000],
)
def test_validate_explains_why_a_file_is_not_a_config(data: bytes, pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """Empty, truncated, in another encoding, absurdly nested: a report, never a crash."""
    (tmp_path / "config.json").write_bytes(data)
    status, out, err = pyoci("validate", tmp_path)

    assert (1, "") == (status, err)
    assert out.startswith("config.json:")


def test_validate_of_a_missing_file(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """An error like any other."""
    status, out, err = pyoci("validate", tmp_path)

    assert (1, "") == (status, out)
    assert "there is no such file" in err


def test_a_hostile_config_cannot_speak_to_the_terminal(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """Values are shown with their control characters escaped."""
    (tmp_path / "config.json").write_text(json.dumps({"ociVersion": "\x1b[2J\n", "\x1b]0;x": 1, "hostname": ["\x1b"]}))
    _, out, err = pyoci("validate", tmp_path)

    assert "\x1b" not in out + err


# plan


def test_plan_prints_what_create_would_do(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """The operations for what `spec` writes, with their places; nothing is made."""
    pyoci("spec", "--bundle", tmp_path)
    status, out, err = pyoci("plan", tmp_path)

    assert (0, "") == (status, err)
    assert re.search(r"^ *\d+ +mount +proc → /proc .*/mounts/0$", out, re.MULTILINE)
    assert re.search(r"^ *\d+ +exec +sh +/process/args$", out, re.MULTILINE)
    assert ["config.json"] == [path.name for path in tmp_path.iterdir()]


def test_plan_as_json(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """The same for programs."""
    pyoci("spec", "--bundle", tmp_path)
    status, out, err = pyoci("plan", "--json", "--bundle", tmp_path)
    places = re.findall(r'"where": ?"([^"]*)"', out)

    assert (0, "") == (status, err)
    assert isinstance(json.loads(out), dict)
    assert {"/mounts/0", "/process/args", "/root/path"} <= set(places)


def test_plan_heeds_the_options_of_create(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """--no-pivot, --no-new-keyring, --preserve-fds, --cgroup-manager change the plan."""
    pyoci("spec", "--bundle", tmp_path)
    usual = pyoci("plan", tmp_path)[1]
    other = pyoci(*"--cgroup-manager disabled plan --no-pivot --no-new-keyring --preserve-fds 2".split(), tmp_path)[1]

    for verb in ("pivot_root", "join_keyring", "make_cgroup"):
        assert verb in usual
        assert verb not in other
    assert re.search(r"close_fds +from 3$", usual, re.MULTILINE)
    assert re.search(r"close_fds +from 5$", other, re.MULTILINE)


def test_plan_shows_the_bundle_path_of_create(
    pyoci: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `.` and `..`, which create removes before it compiles the config."""
    pyoci("spec", "--bundle", tmp_path)
    monkeypatch.chdir(tmp_path)

    for bundle in (".", f"../{tmp_path.name}"):
        assert f" {tmp_path}/rootfs " in pyoci("plan", "--bundle", bundle)[1]


def test_plan_of_a_config_with_faults(pyoci: Callable[..., Any], bad_bundle: Path) -> None:
    """An error like any other: the first fault, and how to see the rest."""
    status, out, err = pyoci("plan", bad_bundle)

    assert (1, "", 1) == (status, out, err.count("\n"))
    assert "and 1 more: see `pyoci validate`" in err


def test_a_hostile_plan_cannot_speak_to_the_terminal(pyoci: Callable[..., Any], tmp_path: Path) -> None:
    """What the config says is shown with its control characters escaped."""
    pyoci("spec", "--bundle", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"]["args"] = ["\x1b[2J", "\x07"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = pyoci("plan", tmp_path)[1]

    assert "exec" in out
    assert not set("\x1b\x07") & set(out)
