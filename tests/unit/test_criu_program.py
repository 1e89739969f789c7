"""How pyoci finds criu and its configuration file, and what it rejects."""

import os
from pathlib import Path

import pytest

from pyoci.criu import installed, program
from pyoci.errors import PyociError
from pyoci.host import facts

ACTION = "checkpoint the container"


@pytest.fixture(autouse=True)
def privileged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The runtime is root of the host, and the host has no criu."""
    monkeypatch.setattr(program.posix, "geteuid", lambda: 0)
    monkeypatch.setattr(facts, "in_initial_user_namespace", lambda: True)
    monkeypatch.setattr(facts, "grantable_capabilities", lambda: (1 << 41) - 1)
    for module in (program, installed):
        monkeypatch.setattr(
            module, "SYSTEM_DIRECTORIES", tuple(str(tmp_path / name) for name in ("one", "two", "three", "four"))
        )
    monkeypatch.setattr(program, "CONFIG_ROOT", f"{tmp_path}/")
    monkeypatch.setattr(program, "CONFIG_FILES", tuple(str(tmp_path / name) for name in ("pyoci.conf", "runc.conf")))
    real = program.trust.check
    owner = os.getuid()
    monkeypatch.setattr(program.trust, "check", lambda path: real(path) if owner == 0 else None)


@pytest.fixture
def criu(tmp_path: Path) -> Path:
    """A criu in the second directory."""
    return write_criu(tmp_path / "two", "Version: 4.2.1")


def write_criu(directory: Path, output: str) -> Path:
    """A program that prints `output`."""
    directory.mkdir()
    path = directory / "criu"
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


def message(call: str, *arguments: object) -> str:
    """The error of a function of the module."""
    with pytest.raises(PyociError) as caught:
        getattr(program, call)(*arguments)
    return str(caught.value)


def test_find_ignores_path(criu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the fixed directories that has a criu counts."""
    other = write_criu(tmp_path / "elsewhere", "Version: 9.9")
    monkeypatch.setenv("PATH", str(other.parent))

    assert str(criu) == program.find(None, ACTION)
    assert str(other) == program.find(str(other), ACTION)


def test_find_reports_a_missing_criu(tmp_path: Path) -> None:
    """The error says where pyoci looks."""
    text = message("find", None, ACTION)

    assert text.startswith("cannot checkpoint the container: criu is not installed (hint: install the package criu, ")
    assert str(tmp_path / "one") in text
    assert f"cannot {ACTION}: cannot run /x/criu: no such file or directory" == message("find", "/x/criu", ACTION)


def test_find_rejects_what_is_not_a_program(criu: Path) -> None:
    """A directory, and a file without permission to execute it."""
    expected = f"cannot {ACTION}: cannot run %s: it is not an executable file"

    assert expected % criu.parent == message("find", str(criu.parent), ACTION)
    criu.chmod(0o644)
    assert expected % criu == message("find", None, ACTION)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own a file")
def test_find_rejects_a_program_that_others_can_change(criu: Path) -> None:
    """As root, also through the directory or by owning it."""
    criu.chmod(0o757)
    assert message("find", None, ACTION).startswith(
        f"cannot {ACTION}: cannot trust {criu}: {criu} can be written by others (hint: only root may "
    )

    criu.chmod(0o755)
    os.chown(criu.parent, 1234, -1)
    assert f": cannot trust {criu}: {criu.parent} belongs to user 1234 (" in message("find", str(criu), ACTION)


@pytest.mark.parametrize("lacks", ["root", "host", "capability"])
def test_find_needs_privileges(lacks: str, criu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for a user, for root of a user namespace, and for root without the capability."""
    if lacks == "root":
        monkeypatch.setattr(program.posix, "geteuid", lambda: 1000)
    elif lacks == "host":
        monkeypatch.setattr(facts, "in_initial_user_namespace", lambda: False)
    else:
        monkeypatch.setattr(facts, "grantable_capabilities", lambda: 0)

    assert (
        f"cannot {ACTION}: CRIU needs CAP_SYS_ADMIN in the initial user namespace (hint: call pyoci as root of the host)"
        == message("find", str(criu), ACTION)
    )


def test_is_available(criu: Path, tmp_path: Path) -> None:
    """A program in one of the directories, or the given one."""
    assert installed.is_available()
    assert installed.is_available(str(criu))
    assert not installed.is_available(str(tmp_path / "missing"))

    criu.chmod(0o644)
    assert not installed.is_available()


def printed(path: str, *, no_new_privs: bool = False) -> tuple[int, ...]:
    """The version that a program has printed, which is late enough."""
    with program.Version(path, ACTION, no_new_privs=no_new_privs) as version:
        pass
    return version.read()


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Version: 4.2.1", (4, 2, 1)),
        ("Version: 3.17\nGitID: v3.17", (3, 17)),
        ("Warn: something\nVersion: 4.0", (4, 0)),
    ],
)
def test_version(output: str, version: tuple[int, ...], tmp_path: Path) -> None:
    """The numbers in the line of the version, whatever else criu prints."""
    path = str(write_criu(tmp_path / "one", output))

    assert version == printed(path)


def test_an_old_criu_is_rejected(tmp_path: Path) -> None:
    """With both versions."""
    path = write_criu(tmp_path / "one", "Version: 3.9")

    with pytest.raises(PyociError, match=rf"cannot {ACTION}: {path} is version 3\.9; pyoci needs 3\.17"):
        printed(str(path))


def test_a_criu_that_loses_no_new_privs_is_rejected(tmp_path: Path) -> None:
    """The container would be gone, and `restore` would reject its images."""
    path = str(write_criu(tmp_path / "one", "Version: 3.18"))

    assert (3, 18) == printed(path)
    with pytest.raises(PyociError, match=r"is version 3\.18; pyoci needs 3\.19 to save noNewPrivileges"):
        printed(path, no_new_privs=True)


@pytest.mark.parametrize("output", ["", "hello", "Version: four"])
def test_a_program_that_is_not_criu_is_rejected(output: str, tmp_path: Path) -> None:
    """What it printed helps to find out what it is."""
    path = write_criu(tmp_path / "one", output)

    with pytest.raises(PyociError, match=f"cannot read the version of {path}: it printed `{output}`"):
        printed(str(path))


def test_a_criu_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime waits for a bounded time."""
    monkeypatch.setattr(program, "TIMEOUT", 0.2)
    path = write_criu(tmp_path / "one", "")
    path.write_text("#!/bin/sh\nexec sleep 60\n")

    with pytest.raises(PyociError, match=rf"cannot run {path}: it has not ended within 0\.2 seconds"):
        printed(str(path))


def test_criu_gets_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$CRIU_CONFIG_FILE and $HOME would name files with options."""
    monkeypatch.setenv("CRIU_CONFIG_FILE", "/tmp/evil")
    path = write_criu(tmp_path / "one", "")
    path.write_text('#!/bin/sh\necho "Version: 4.$(env | grep -c CRIU)"\n')

    assert (4, 0) == printed(str(path))


def test_config_file_of_the_host(tmp_path: Path) -> None:
    """pyoci's own comes before runc's, whose options fit, too."""
    assert program.config_file({}) is None

    (tmp_path / "runc.conf").touch()
    assert str(tmp_path / "runc.conf") == program.config_file({"other": "/x"})
    (tmp_path / "pyoci.conf").touch()
    assert str(tmp_path / "pyoci.conf") == program.config_file({})


def test_config_file_of_the_container(tmp_path: Path) -> None:
    """The annotation replaces the host's file; an empty one asks for no file."""
    (tmp_path / "pyoci.conf").touch()
    (tmp_path / "own.conf").touch()

    assert str(tmp_path / "own.conf") == program.config_file({"org.criu.config": str(tmp_path / "own.conf")})
    assert program.config_file({"org.criu.config": ""}) is None


@pytest.mark.parametrize("path", ["own.conf", "/var/lib/layer/evil.conf", "%s/../evil.conf", "%s//own.conf", "/etc"])
def test_config_file_must_be_the_administrators(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may set the annotation, and its files are root's, too."""
    monkeypatch.setattr(program, "CONFIG_ROOT", f"{tmp_path}/etc/")
    path = path.replace("%s", f"{tmp_path}/etc")
    where = "/annotations/org.criu.config: cannot use CRIU's configuration"

    assert f"{where} `{path}`: expected a file below {tmp_path}/etc/" == message(
        "config_file", {"org.criu.config": path}
    )


def test_config_file_rejects_other_files(tmp_path: Path) -> None:
    """The error points to the annotation."""
    where = "/annotations/org.criu.config: cannot use CRIU's configuration"
    missing = tmp_path / "missing"

    text = message("config_file", {"org.criu.config": str(missing)})
    assert f"{where} {missing}: no such file or directory" == text
    (tmp_path / "directory").mkdir()
    text = message("config_file", {"org.criu.config": f"{tmp_path}/directory"})
    assert f"{where} {tmp_path}/directory: it is not a regular file" == text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own a file")
def test_config_file_rejects_files_that_others_can_change(tmp_path: Path) -> None:
    """CRIU runs programs that it names."""
    file = tmp_path / "pyoci.conf"
    file.touch()
    file.chmod(0o666)

    text = message("config_file", {})
    assert text.startswith(f"cannot use CRIU's configuration {file}: {file} can be written by others (hint: only root")
