"""The executor, as compiled: nothing of Python runs in a container, and both sides speak of the same numbers.

After the clone the child is a copy of a process whose locks, heap and interpreter may be in any state. So what it can
reach must not allocate, lock, format, or call into Python. The object code is what is examined, function by function.
"""

import re
import struct
import subprocess
import sysconfig
from pathlib import Path

import pytest

from pyoci import _native
from pyoci.compiler import operations, verbs
from pyoci.parent import conversation, explain

PACKAGE = Path(__file__).resolve().parents[2] / "pyoci"
PREFIX = "__pyx_f_5pyoci_7_native_"

# Thin system calls and pure functions of the C library, all async-signal-safe or without any state.
ALLOWED = frozenset(
    """
    syscall __errno_location clone close open openat read write pread lseek ioctl fcntl dup2 pipe2 poll socket
    fstat fstatat fstatfs mkdirat mknodat symlinkat readlinkat fchownat fchown fchmod fchmodat fchdir chdir chroot umask
    setns unshare setsid setpgid sendmsg kill waitpid execve _exit prctl personality clock_gettime sigaction sigemptyset
    sigprocmask memset memcpy memmove memcmp strlen strchr strcmp strncmp getauxval gnu_dev_makedev gnu_dev_major gnu_dev_minor
    """.split()
)
HARDENING = frozenset(("__stack_chk_fail",))  # the compiler's own; it ends the process


@pytest.fixture(scope="module")
def source():
    """The C code that Cython made of the executor."""
    path = PACKAGE / "_native.c"
    assert path.exists(), "there is no pyoci/_native.c: run tools/build"
    return path


@pytest.fixture(scope="module")
def calls(source, tmp_path_factory):
    """Function → names of what it calls or whose address it takes, from the object code without any inlining."""
    return calls_in(compile_object(source, tmp_path_factory.mktemp("executor")))


def compile_object(source, folder):
    """The object file of a C source; not optimised, so that every call stands where it was written."""
    made = folder / "native.o"
    include = sysconfig.get_path("include")
    subprocess.run(["cc", "-O0", "-fno-inline", "-w", "-I", include, "-c", source, "-o", made], check=True)
    return made


def calls_in(made):
    """Function → what its instructions refer to: through the relocation that follows one, or within the object."""
    listing = subprocess.check_output(["objdump", "-dr", "--no-show-raw-insn", made], text=True)
    found = {}
    current = ""
    lines = listing.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if start := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            current = start[1]
            found[current] = set()
        elif relocation := re.search(r"\sR_\w+\s+([A-Za-z_][\w.]*)", line):
            found[current].add(re.sub("64$", "", relocation[1]))  # fstat64 is what fstat is called with large files
        elif "\tR_" in following or " R_" in following:
            continue  # the place that the instruction shows is a blank
        elif call := re.search(r"\t(?:call|jmp|bl|b)\s.*<([^+>]+)>", line):
            found[current].add(call[1])
        elif re.search(r"\t(?:call|jmp|blr|br)\s+\*?[%x]", line):
            found[current].add("(through a pointer)")
    return found


def reachable(calls, start):
    """Functions that are called, directly or not, and the names outside of the object that they need."""
    inside, outside, todo = set(), {}, [start]
    while todo:
        name = todo.pop()
        if name in inside:
            continue
        inside.add(name)
        for called in calls[name]:
            if called in calls:
                todo.append(called)
            elif not called.startswith(".rodata"):
                outside.setdefault(called, name)
    return inside, outside


def test_the_child_calls_nothing_but_the_kernel(calls):
    """From the child's entry only system calls and pure functions can be reached: no Python, no malloc, no stdio."""
    inside, outside = reachable(calls, f"{PREFIX}run_ops")
    assert {} == {name: caller for name, caller in outside.items() if name not in ALLOWED | HARDENING}
    assert {"pyoci_send_fd", "pyoci_hide_caller"} == {
        name for name in inside if not name.startswith((PREFIX, "gnu_dev"))
    }
    assert {f"{PREFIX}do_{verb}" for verb in ("mount", "exec", "run_hook", "open_console", "set_ids")} <= inside
    assert {"execve", "_exit", "syscall"} <= outside.keys()


def test_the_list_has_no_idle_names(calls):
    """What the executor does not need is not allowed."""
    _, outside = reachable(calls, f"{PREFIX}run_ops")
    header_only = {"gnu_dev_makedev", "gnu_dev_major", "gnu_dev_minor", "fstat", "fstatat"}  # inline, or not, by libc
    assert set() == ALLOWED - outside.keys() - header_only


def test_the_audit_can_fail(source, tmp_path):
    """An allocation or a Python call in a verb would be seen."""
    text = source.read_text()
    entry = re.search(rf"static void {PREFIX}run_ops\([^;{{]*\) \{{", text)
    for intruder in ("free(malloc(1));", "PyErr_Clear();", 'printf("x");'):
        changed = tmp_path / "changed.c"
        changed.write_text(text[: entry.end()] + intruder + text[entry.end() :])
        _, outside = reachable(calls_in(compile_object(changed, tmp_path)), f"{PREFIX}run_ops")
        assert outside.keys() - ALLOWED - HARDENING


def test_nothing_of_python_runs_between_the_clone_and_the_entry(source):
    """In `launch` the child goes straight from clone3 to the executor."""
    text = source.read_text()
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    entry = f"{PREFIX}run_ops((&__pyx_v_ctx))"
    assert 1 == code.count(entry)
    start = code.rindex("syscall(SYS_clone3", 0, code.index(entry))
    calls = re.findall(r"(\w+) ?\(", code[start : code.index(entry) + len(entry)])
    assert {"syscall", "sizeof", "if", "close", f"{PREFIX}run_ops"} == set(calls)


# --- the numbers of both sides


def child_source() -> str:
    """The text of every file of the child."""
    return "".join(path.read_text() for path in sorted((PACKAGE / "native/child").glob("*.pxi")))


def enums():
    """Every enumerator of the executor's source, by its first name: [(name, value), …]."""
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


def test_every_verb_is_dispatched():
    """The loop knows each verb."""
    loop = child_source().partition("cdef int run_op(")[2].partition("\ncdef ")[0]
    assert {f"VERB_{verb.verb.upper()}" for verb in verbs.CHILD} == set(re.findall(r"VERB_\w+", loop))


def test_steps():
    """A step's name is its number's."""
    members = enums()["STEP_NONE"]
    assert len(_native.STEPS) == len(members)
    plain = {
        "fsconfig_create": "fsconfig(create)", "pipe": "pipe2", "statfs": "fstatfs", "getdents": "getdents64",
        "faccessat": "faccessat2", "unknown": "unknown-verb",
    }  # fmt: skip
    for (name, value), text in zip(members[1:], _native.STEPS[1:], strict=True):
        word = name.removeprefix("STEP_").lower()
        assert text == plain.get(word, word if "-" not in text else word.replace("_", "-")), name
        assert text == _native.STEPS[value]


def test_numbers_of_messages():
    """What the child puts into the detail of a record, and how much into its payload."""
    others = dict(enums()["UNIX98_PTY_FIRST"])
    assert others["HOOK_TIMED_OUT"] == explain.HOOK_TIMED_OUT
    assert others["HOOK_OUTPUT"] == conversation.LONGEST_PAYLOAD


def test_kinds():
    """Kinds of records."""
    kinds = dict(enums()["RECORD_SYNC"])
    ours = (conversation.SYNC, conversation.FAILED, conversation.EXEC, conversation.CLONED)
    assert ours == tuple(kinds.values())


@pytest.mark.parametrize(
    ("name", "ours", "fields"),
    [
        ("Record", conversation.RECORD, "kind op step error length detail"),
    ],
)
def test_layout(source, tmp_path, name, ours, fields):
    """What Python packs and unpacks is the C struct, to the byte."""
    declaration = re.search(rf"struct __pyx_t_5pyoci_7_native_{name} {{.*?}};", source.read_text(), re.DOTALL)[0]
    tag = f"struct __pyx_t_5pyoci_7_native_{name}"
    words = "".join(f'printf("%zu ", offsetof({tag}, {field}));' for field in fields.split())
    program = tmp_path / "layout.c"
    program.write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{declaration}\n"
        f'int main(void) {{ {words} printf("%zu", sizeof({tag})); }}'
    )
    subprocess.run(["cc", program, "-o", tmp_path / "layout"], check=True)
    theirs = [int(word) for word in subprocess.check_output([tmp_path / "layout"]).split()]
    codes = ours.format.removeprefix("=")
    assert [struct.calcsize("=" + codes[:n]) for n in range(len(codes) + 1)] == theirs


def test_encoding():
    """Strings, blobs, option lists, vectors and masks arrive where the executor looks for them."""
    ops = [
        verbs.Chdir("/process/cwd", path="/tmp", uid=-1, gid=(1 << 64) - 1),
        verbs.SetGroups(gids=b"12345678", count=2),
        verbs.Mount(type="tmpfs", target="/x", options=["mode=1", "size=2"], count=2, attributes=0, tree=16, users=0),
        verbs.Exec(argv=["sh", "-c"], envp=["A=ä", "B=\udcff"]),
    ]
    encoded, pool, vectors = operations.encode(ops)
    unpacked = list(struct.iter_unpack("=HHIIIqqqq", encoded))

    def text(offset):
        return pool[offset : pool.index(0, offset)]

    assert [op.code for op in ops] == [fields[0] for fields in unpacked]
    assert (b"/tmp", b"", -1, -1) == (text(unpacked[0][2]), text(unpacked[0][3]), unpacked[0][5], unpacked[0][6])
    assert (0, b"12345678") == (unpacked[1][2] % 8, text(unpacked[1][2]))
    assert b"mode=1\0size=2\0" == pool[unpacked[2][3] :][:14]
    assert (b"tmpfs", b"/x") == (text(unpacked[2][2]), text(unpacked[2][4]))
    argv, envp = unpacked[3][5:7]
    assert [b"sh", b"-c", None] == [offset and text(offset) for offset in vectors[argv:envp]]
    assert [b"A=\xc3\xa4", b"B=\xff", None, None] == [offset and text(offset) for offset in vectors[envp:]]
