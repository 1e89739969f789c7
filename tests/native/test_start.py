"""The start of a static executable (pyoci/executable/start.c): as glibc's, but without CPUID."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyoci.executable import freeze, start

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests/support"
ARCHIVE = Path(freeze._located("libc.a"))
REASON = start.reason_against_start(freeze.COMPILER, ARCHIVE)
FIRST_STEPS = "10000"  # instructions; main begins within them

STARTS = ["own", "glibc"]

pytestmark = [
    pytest.mark.may_skip("only for x86-64 and known versions of glibc"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]


@pytest.fixture(scope="module", params=STARTS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static C program with pyoci's start. Everything holds with glibc's start, too."""
    temp = tmp_path_factory.mktemp(request.param)
    temp.chmod(0o755)
    objects = [freeze.compile_object(SUPPORT / "started.c", temp, ["-fno-builtin"])]
    objects.append(freeze.compile_object(freeze.HERE / "static.c", temp, []))
    if request.param == "own":
        objects.append(freeze.compile_object(freeze.HERE / "start.c", temp, []))
    output = temp / "started"
    linking = ["-static", "-no-pie", "-pthread", *freeze.UNWINDING, *freeze.LINKING, *objects, "-lm", "-o", output]
    subprocess.run([*freeze.COMPILER, *linking], check=True)
    return output


@pytest.fixture(scope="module")
def count_cpuid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tool that counts the CPUID instructions of a program."""
    output = tmp_path_factory.mktemp("cpuid") / "cpuid"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", SUPPORT / "cpuid.c", "-o", output], check=True)
    return output


def show(program: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, list[str]]:
    """What the program shows, by the first word of each line."""
    command = [program, "show", *arguments]
    lines = subprocess.run(command, env=env or {"A": "1"}, capture_output=True, text=True, check=True).stdout
    shown: dict[str, list[str]] = {}
    for line in lines.splitlines():
        kind, _, value = line.partition(" ")
        shown.setdefault(kind, []).append(value)
    return shown


def test_executes_no_cpuid(program: Path, count_cpuid: Path) -> None:
    """glibc's own start executes dozens."""
    output = subprocess.check_output([count_cpuid, FIRST_STEPS, program, "show"], env={}, text=True)
    found, of, steps = output.splitlines()[-1].split()
    assert ("of", True) == (of, int(steps) > 1000)
    assert found == "0" if program.parent.name.startswith("own") else int(found) > 8


@pytest.mark.skipif(not freeze.Libpython().allows_static, reason="there is no static library to link")
def test_executable_executes_no_cpuid(count_cpuid: Path, pyoci: str) -> None:
    """The executable is linked with this start."""
    output = subprocess.check_output([count_cpuid, FIRST_STEPS, pyoci, "--version"], env={}, text=True)
    assert f"0 of {FIRST_STEPS}\n" == output


def check(program: Path, **variables: str) -> None:
    """Run the program's checks."""
    done = subprocess.run([program, "check"], env=variables, capture_output=True, text=True, timeout=120)
    assert ("destructor\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_program_finds_what_it_expects(program: Path) -> None:
    """Copies around each threshold, strings, numbers, threads, signals."""
    check(program)


@pytest.mark.parametrize("program", ["own"], indirect=True)
@pytest.mark.parametrize(
    "tunables", ["glibc.cpu.x86_non_temporal_threshold=0x4041:glibc.cpu.hwcaps=-SSE2", "a=b=c:" * 1000]
)
def test_program_ignores_tunables(program: Path, tunables: str) -> None:
    """It does not read GLIBC_TUNABLES, and prints no warning about it."""
    check(program, GLIBC_TUNABLES=tunables)


def test_program_gets_arguments_and_environment(program: Path) -> None:
    """Also the constructors get them."""
    shown = show(program, "", "b c", env={"HOME": "/x", "EMPTY": ""})

    assert [str(program), "show", "", "b c"] == shown["argument"]
    assert ["HOME=/x", "EMPTY="] == shown["variable"]
    assert [f"4 {program} HOME=/x"] == shown["constructor"]
    assert ["started"] == shown["name"]
    assert ["0 0"] == shown["secure"]
    assert "destructor" in shown


def test_each_process_has_its_own_guards(program: Path) -> None:
    """The stack protector's value ends with a NUL, and the guard of stored addresses is another value."""
    guards = [tuple(int(word, 16) for word in show(program)["guards"][0].split()) for _ in range(4)]

    canaries, pointers = zip(*guards, strict=True)
    assert [0] * 4 == [canary & 0xFF for canary in canaries]
    assert 8 == len({*canaries, *pointers})
    assert all(value.bit_length() > 32 for value in (*canaries, *pointers))


def test_overwritten_stack_ends_the_process(program: Path) -> None:
    """The stack protector works."""
    done = subprocess.run([program, "smash"], capture_output=True, text=True, env={})

    assert (-6, True) == (done.returncode, "stack smashing detected" in done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a setuid program")
def test_setuid_program_ignores_dangerous_variables(program: Path, tmp_path: Path) -> None:
    """The kernel marks such a process (AT_SECURE), and glibc removes these variables."""
    copy = Path(shutil.copy(program, tmp_path / "started"))
    for directory in (tmp_path, tmp_path.parent):
        directory.chmod(0o755)
    os.chown(copy, 65534, 65534)
    copy.chmod(0o4755)

    shown = show(copy, env={"HOME": "/x", "LD_LIBRARY_PATH": "/evil", "LD_PRELOAD": "/evil.so"})

    assert ["1 1"] == shown["secure"]
    assert ["HOME=/x"] == shown["variable"]


def test_table_of_addresses_is_read_only(program: Path) -> None:
    """No memory is both writable and executable, and a part of the data is read-only after the start."""
    command = ["strace", "-e", "trace=mprotect", program, "show"]
    calls = subprocess.run(command, env={"A": "1"}, capture_output=True, text=True, check=True).stderr
    assert re.search(r"mprotect\(0x4\w+, \d+, PROT_READ\)\s+= 0", calls)


@pytest.mark.parametrize(
    ("version", "expected"), [("2.99", "glibc 2.99 is unknown"), ("", "the C library is not glibc")]
)
def test_unknown_library_keeps_its_start(monkeypatch: pytest.MonkeyPatch, version: str, expected: str) -> None:
    """The build uses start.c only with a version that it was compared with."""
    monkeypatch.setattr(start, "_version", lambda compiler: version)
    assert expected == start.reason_against_start(freeze.COMPILER, ARCHIVE)


def test_different_build_of_glibc_keeps_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution's glibc whose start does more, or less, is unknown as well."""
    symbols = start._symbols(freeze.COMPILER, ARCHIVE)
    changed = {*symbols, "_dl_cet_setup_features"} - {"__tunables_init"}
    monkeypatch.setattr(start, "_symbols", lambda compiler, archive: changed)

    reason = start.reason_against_start(freeze.COMPILER, ARCHIVE)

    assert reason.endswith("differs: __tunables_init _dl_cet_setup_features")


def test_other_processors_keep_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """aarch64 has no CPUID."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "start.c is for x86-64 only" == start.reason_against_start(freeze.COMPILER, ARCHIVE)


def test_link_fails_if_the_library_brings_its_own_start(tmp_path: Path) -> None:
    """A symbol of glibc's start that start.c does not define would bring in a second start."""
    source = tmp_path / "start.c"
    text = (freeze.HERE / "start.c").read_text().replace("../native", str(ROOT / "pyoci/native"))
    source.write_text(text.replace("__x86_string_control", "renamed"))
    (tmp_path / "main.c").write_text(
        "#include <string.h>\nint main(int n, char **a) { return memmove(a[0], a[n], n) == a; }\n"
    )
    objects = [freeze.compile_object(tmp_path / name, tmp_path, ["-fno-builtin"]) for name in ("main.c", "start.c")]
    command = [*freeze.COMPILER, "-static", "-no-pie", *objects, "-o", tmp_path / "linked"]

    linked = subprocess.run(command, capture_output=True, text=True)

    assert linked.returncode != 0
    assert "multiple definition of `__libc_start_main'" in linked.stderr


@pytest.mark.skipif(not freeze.Libpython().allows_static, reason="there is no static library to link")
@pytest.mark.parametrize("known", [True, False])
def test_build_says_how_the_executable_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """It links start.c or prints why not. (Here nothing is compiled.)"""
    commands: list[list[str]] = []

    def run(*command: object, stdout: object = None) -> None:
        commands.append([str(word) for word in command])
        Path(commands[-1][commands[-1].index("-o") + 1]).touch()

    monkeypatch.setattr(freeze, "_run", run)
    monkeypatch.setattr(freeze, "put_image", lambda executable: None)
    if not known:
        monkeypatch.setattr(start, "KNOWN", {})

    line = freeze.build(tmp_path / "pyoci", tmp_path / "temp", native=ROOT / "build/executable/_native.o")

    expected = "a start of its own" if known else r"the C library's start: glibc 2\.\d+ is unknown"
    assert re.search(rf", linked statically, with {expected}$", line)
    assert known == (str(tmp_path / "temp/start.o") in commands[-1])


def test_helper_has_no_cpuid() -> None:
    """Its own start (native/helper/libc.c) needs none."""
    listing = subprocess.check_output(["objdump", "-d", freeze.HELPER], text=True)
    assert "\tsyscall" in listing
    assert "\tcpuid" not in listing
