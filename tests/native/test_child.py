"""The child's code, as compiled: it runs no Python, and both sides use the same numbers and layouts.

After the clone the child is a copy of a process whose locks, heap and interpreter may be in any state. So no function
that it can reach may allocate, lock, format, or call into Python. The tests examine the object code.
"""

import re
import struct
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.block import HEADER, NULL, encode
from pyoci.compiler.decode import decode
from pyoci.compiler.verbs import numbers
from pyoci.parent import conversation, explain

PACKAGE = Path(__file__).resolve().parents[2] / "pyoci"
PREFIX = "__pyx_f_5pyoci_7_native_"
VARIABLE = "__pyx_v_5pyoci_7_native_"
POINTER = "(through a pointer)"

# System calls and pure functions of the C library. All of them are async-signal-safe or stateless.
ALLOWED = frozenset(
    """
    syscall __errno_location clone close open openat read write pread lseek ioctl fcntl dup2 pipe2 poll socket
    fstat fstatat fstatfs mkdirat mknodat symlinkat readlinkat fchownat fchown fchmod fchmodat fchdir chdir chroot umask
    setns unshare setsid setpgid sendmsg kill waitpid execve _exit prctl personality clock_gettime sigaction sigemptyset
    sigprocmask memset memcpy memmove memcmp strlen strchr strcmp strncmp getauxval
    gnu_dev_makedev gnu_dev_major gnu_dev_minor
    """.split()
)
HARDENING = frozenset(("__stack_chk_fail",))  # the compiler calls it; it ends the process


@pytest.fixture(scope="module")
def source() -> Path:
    """The C code of the extension."""
    path = PACKAGE / "_native.c"
    assert path.exists(), "there is no pyoci/_native.c: run tools/build"
    return path


@pytest.fixture(scope="module")
def calls(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Each function with the names that it calls or whose address it takes, in object code without inlining."""
    return calls_in(compile_object(source, tmp_path_factory.mktemp("child")))


def compile_object(source: Path, directory: Path) -> Path:
    """Compile a C source without optimisation, which would move calls. Returns the object file."""
    made = directory / "native.o"
    include = sysconfig.get_path("include")
    subprocess.run(["cc", "-O0", "-fno-inline", "-w", "-I", include, "-c", source, "-o", made], check=True)
    return made


def calls_in(made: Path) -> dict[str, Any]:
    """Each function with the names that its instructions refer to: by a relocation, or within the object."""
    listing = subprocess.check_output(["objdump", "-dr", "--no-show-raw-insn", made], text=True)
    found = {}
    current = ""
    lines = listing.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if start := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            current = start[1]
            found[current] = set()
        elif relocation := re.search(r"\sR_\w+\s+([A-Za-z_][\w.]*)", line):
            found[current].add(re.sub("64$", "", relocation[1]))  # with large files, fstat is called fstat64
        elif "\tR_" in following or " R_" in following:
            continue  # the relocation on the next line has the name
        elif call := re.search(r"\t(?:call|jmp|bl|b)\s.*<([^+>]+)>", line):
            found[current].add(call[1])
        elif re.search(r"\t(?:call|jmp|blr|br)\s+\*?[%x]", line):
            found[current].add(POINTER)
    return found


def reachable(calls: dict[str, Any]) -> tuple[set[str], dict[str, str]]:
    """Functions that the child can reach, and names outside of the object that they need, each with a caller.

    The child begins in run_ops. It calls the functions of verbs through a table.
    """
    inside, outside = set(), {}
    todo = [f"{PREFIX}run_ops", *(f"{PREFIX}do_{verb.verb}" for verb in verbs.CHILD)]
    while todo:
        name = todo.pop()
        if name in inside:
            continue
        inside.add(name)
        for called in calls[name]:
            if called in calls:
                todo.append(called)
            elif called != POINTER and not called.startswith(".rodata"):
                outside.setdefault(called, name)
    return inside, outside


def test_child_calls_only_the_kernel(calls: dict[str, Any]) -> None:
    """The child can reach only system calls and pure functions: no Python, no malloc, no stdio."""
    inside, outside = reachable(calls)
    assert {} == {name: caller for name, caller in outside.items() if name not in ALLOWED | HARDENING}
    assert {"pyoci_send_fd", "pyoci_hide_caller"} == {
        name for name in inside if not name.startswith((PREFIX, "gnu_dev"))
    }
    assert {f"{PREFIX}{name}" for name in ("copy_up", "run_hook", "use_container_null", "check_interpreter")} <= inside
    assert {"execve", "_exit", "syscall"} <= outside.keys()


def test_table_holds_the_function_of_each_verb(calls: dict[str, Any], source: Path) -> None:
    """The code of a verb is the index of its function, and only the loop calls through a pointer."""
    entries = re.findall(rf"{VARIABLE}FUNCTIONS\[(\d+)\]\) = .*?{PREFIX}do_(\w+)\)", source.read_text())
    assert [(str(verb.code), verb.verb) for verb in verbs.CHILD] == entries
    inside, _ = reachable(calls)
    assert {f"{PREFIX}run_op"} == {name for name in inside if POINTER in calls[name]}


def test_list_of_allowed_names_has_no_unused_ones(calls: dict[str, Any]) -> None:
    """The child needs every name that the list allows."""
    _, outside = reachable(calls)
    header_only = {"gnu_dev_makedev", "gnu_dev_major", "gnu_dev_minor", "fstat", "fstatat"}  # libc may inline them
    assert set() == ALLOWED - outside.keys() - header_only


@pytest.mark.parametrize("function", ["run_ops", "do_mask_path"])
def test_audit_can_fail(source: Path, tmp_path: Path, function: str) -> None:
    """It finds an allocation or a Python call in the loop or in a verb."""
    text = source.read_text()
    entry = re.search(rf"static \w+ {PREFIX}{function}\([^;{{]*\) \{{", text)
    changed = tmp_path / "changed.c"
    intruders = 'free(malloc(1)); PyErr_Clear(); printf("%d", 1);'
    changed.write_text(text[: entry.end()] + intruders + text[entry.end() :])
    _, outside = reachable(calls_in(compile_object(changed, tmp_path)))
    assert {"malloc", "free", "PyErr_Clear", "printf"} <= outside.keys() - ALLOWED - HARDENING


def test_no_python_runs_between_the_clone_and_the_loop(source: Path) -> None:
    """The child goes straight from clone3 to run_ops."""
    text = source.read_text()
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    entry = f"{PREFIX}run_ops(__pyx_v_ctx)"
    assert 1 == code.count(entry)
    start = code.rindex("syscall(SYS_clone3", 0, code.index(entry))
    calls = re.findall(r"(\w+) ?\(", code[start : code.index(entry) + len(entry)])
    assert {"syscall", "sizeof", "if", "close", f"{PREFIX}run_ops"} == set(calls)


# --- the numbers of both sides


def child_source() -> str:
    """The text of all files of the child."""
    return "".join(path.read_text() for path in sorted((PACKAGE / "native/child").glob("*.pxi")))


def enums() -> dict[str, list[tuple[str, int]]]:
    """Every enum of the child's source, by its first name: [(name, value), …]."""
    text = re.sub(r"#.*", "", child_source())
    found = {}
    for body in re.findall(r"cdef enum: *\n((?:    .*\n|\n)+)", text):
        value = -1
        members = []
        for word in re.split(r"[,\n]", body):
            name, _, given = (part.strip() for part in word.partition("="))
            if name:
                value = eval(given) if given else value + 1
                members.append((name, value))
        found[members[0][0]] = members
    return found


def test_steps_are_all_used() -> None:
    """Every step is reported somewhere, and its name says it."""
    names = {"STEP_" + re.sub(r"\W+", "_", name).strip("_").upper() for name in numbers.STEPS if name}
    assert numbers.STEPS == _native.STEPS
    assert names == set(re.findall(r"\bSTEP_\w+", re.sub(r"#.*", "", child_source())))


def test_numbers_of_messages() -> None:
    """Both sides agree on the flag for a timeout, and on the size of a payload."""
    others = dict(enums()["UNIX98_PTY_FIRST"])
    assert others["HOOK_TIMED_OUT"] == explain.HOOK_TIMED_OUT
    assert others["MAX_PAYLOAD"] == conversation.MAX_PAYLOAD


def test_kinds() -> None:
    """Both sides agree on the kinds of records."""
    kinds = dict(enums()["RECORD_SYNC"])
    ours = (conversation.SYNC, conversation.FAILED, conversation.EXEC, conversation.CLONED, conversation.UNREADABLE)
    assert ours == tuple(kinds.values())


def test_record_is_what_python_unpacks(source: Path, tmp_path: Path) -> None:
    """The C struct has the fields of the runtime's format at the same places. test_verbs.py compares the operations."""
    tag = "struct __pyx_t_5pyoci_7_native_Record"
    declaration = re.search(rf"{tag} {{.*?}};", source.read_text(), re.DOTALL)[0]
    fields = "kind op step error length detail".split()
    words = "".join(f'printf("%zu ", offsetof({tag}, {field}));' for field in fields)
    program = tmp_path / "layout.c"
    program.write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{declaration}\n"
        f'int main(void) {{ {words} printf("%zu", sizeof({tag})); }}'
    )
    subprocess.run(["cc", program, "-o", tmp_path / "layout"], check=True)
    theirs = [int(word) for word in subprocess.check_output([tmp_path / "layout"]).split()]
    codes = conversation.RECORD.format.removeprefix("=")
    assert [struct.calcsize("=" + codes[:n]) for n in range(len(codes) + 1)] == theirs


def test_encoding() -> None:
    """Strings, tables, option lists, vectors and masks arrive where the child looks for them."""
    ops = [
        verbs.Chdir("/process/cwd", path="/tmp", uid=1, gid=2),
        verbs.SetGroups(gids=b"12345678"),
        verbs.Mount(type="tmpfs", target="/x", options=["mode=1", "size=2"], attributes=0, tree=16, users=0),
        verbs.DropBounding(keep=(1 << 64) - 1),
        verbs.Exec(argv=["sh", "-c"], envp=["A=ä", "B=\udcff"]),
    ]
    block = encode(ops, 17)
    read = decode(block)
    unpacked = list(struct.iter_unpack("=HHIIIqqqq", block[HEADER.size :][: 48 * len(ops)]))
    pool, vectors = read.pool, read.vectors

    def text(offset: int) -> bytes:
        return pool[offset : pool.index(0, offset)]

    assert [op.code for op in ops] == [fields[0] for fields in unpacked]
    assert (b"/tmp", b"", 1, 2) == (text(unpacked[0][2]), text(unpacked[0][3]), unpacked[0][5], unpacked[0][6])
    assert (0, b"12345678") == (unpacked[1][2] % 8, text(unpacked[1][2]))
    assert b"\x0e\0\0\0mode=1\0size=2\0" == pool[unpacked[2][3] - 4 :][:18]
    assert (b"tmpfs", b"/x") == (text(unpacked[2][2]), text(unpacked[2][4]))
    assert -1 == unpacked[3][5]
    argv, envp = unpacked[4][5:7]
    assert [b"sh", b"-c", None] == [None if offset == NULL else text(offset) for offset in vectors[argv:envp]]
    assert [b"A=\xc3\xa4", b"B=\xff"] == [text(offset) for offset in vectors[envp : envp + 2]]
    assert [NULL] * 3 == vectors[envp + 2 :]  # the end, the place for HOME, and what aligns the pool
