"""The filter that libseccomp makes of `linux.seccomp` when runc drives it, through ctypes.

libseccomp (2.5.4 and 2.6.1) has faults of its own where several rules with conditions meet on one system call:
after a test of a low word it may take that word for a high one, it may leave out the load of the
number, and adding a MASKED_EQ rule may never end. Ask it only what it gets right (`usable`).
"""

import ctypes
import ctypes.util
import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import bpf_interpreter
import seccomp_model
from seccomp_model import NUMBERS

TOKENS = seccomp_model.AUDIT | {"x32": 0x4000003E}
# On POWER and s390, libseccomp lets a call through if it hides the operation of socketcall or ipc by higher bits, which
# the kernel ignores. And it can't make a filter for another byte order than this machine's beside its own one.
MACHINES = ("x86_64", "aarch64", "riscv64")
JUDGED = [abi for machine in MACHINES for abi in seccomp_model.MACHINES[machine]]
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# runc asks for a binary tree if a profile has more rules than this, one for each name.
FEW_RULES = 32
# enum scmp_filter_attr, and its value for a binary tree.
CTL_OPTIMIZE = 8
BINARY_TREE = 2


class RefusedError(Exception):
    """libseccomp does not take a rule."""


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def _load() -> ctypes.CDLL | None:
    name = os.environ.get("PYOCI_LIBSECCOMP") or ctypes.util.find_library("seccomp")
    if not name:
        return None
    try:
        library = ctypes.CDLL(name)
    except OSError:  # of the host's architecture, while an emulator runs this Python
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    return library


LIBRARY = _load()


def knows(name: str) -> bool:
    """Whether this libseccomp has the numbers that we have for a call; an older one may lack some."""
    assert LIBRARY
    for abi, number in zip(seccomp_model.COLUMNS, NUMBERS[name], strict=True):
        if abi not in JUDGED:
            continue
        theirs = LIBRARY.seccomp_syscall_resolve_name_arch(TOKENS[abi], name.encode())
        # On x86 an operation of socketcall or ipc resolves to that, not to a number of its own.
        if theirs == -1 or (theirs != number and not (theirs < 0 and (number == -1 or abi == "x86"))):
            return False
    return True


def usable(seccomp: Mapping[str, Any]) -> dict[str, Any]:
    """The profile without what libseccomp may get wrong: no call has two rules, no argument two conditions."""
    seen: set[str] = set()
    rules = []
    for rule in seccomp["syscalls"]:
        names = [name for name in rule["names"] if name in NUMBERS and name not in seen and knows(name)]
        seen.update(names)
        args = list({arg["index"]: arg for arg in rule.get("args", ())}.values())
        if names:
            rules.append({**rule, "names": names, "args": args})
    return {**seccomp, "syscalls": rules}


def compile_filter(seccomp: Mapping[str, Any], abis: Sequence[str]) -> list[bpf_interpreter.Instruction]:
    """The filter that runc has libseccomp make for these ABIs and the machine's own; the ENOSYS stub is runc's."""
    assert LIBRARY
    default = seccomp_model.action_of(seccomp, "defaultAction", "defaultErrnoRet")
    context = LIBRARY.seccomp_init(default)
    try:
        for abi in abis:
            assert LIBRARY.seccomp_arch_add(context, TOKENS[abi]) in (0, -errno.EEXIST)
        if sum(len(rule["names"]) for rule in seccomp.get("syscalls", ())) > FEW_RULES:
            assert LIBRARY.seccomp_attr_set(context, CTL_OPTIMIZE, BINARY_TREE) == 0
        for rule in seccomp.get("syscalls", ()):
            action = seccomp_model.action_of(rule, "action", "errnoRet")
            if action != default:
                for name in rule["names"]:
                    for args in seccomp_model.alternatives(rule.get("args") or []):
                        _add(context, action, name, args)
        with tempfile.TemporaryFile() as file:
            assert LIBRARY.seccomp_export_bpf(context, file.fileno()) == 0
            file.seek(0)
            return bpf_interpreter.decode(file.read())
    finally:
        LIBRARY.seccomp_release(context)


def _add(context: int, action: int, name: str, args: Sequence[Mapping[str, Any]]) -> None:
    assert LIBRARY
    comparisons = (_Comparison * max(1, len(args)))()
    for comparison, arg in zip(comparisons, args, strict=False):
        comparison.arg, comparison.op = arg["index"], OPERATORS[arg["op"]]
        comparison.datum_a, comparison.datum_b = arg["value"], arg.get("valueTwo", 0)
    number = LIBRARY.seccomp_syscall_resolve_name(name.encode())
    error = LIBRARY.seccomp_rule_add_array(context, action, number, len(args), comparisons)
    if error:
        raise RefusedError(name, os.strerror(-error))


def expected(
    seccomp: Mapping[str, Any],
    instructions: Sequence[bpf_interpreter.Instruction],
    abi: str,
    nr: int,
    args: Sequence[int],
) -> int:
    """What runc's filter returns for a call of an ABI: its stub of ENOSYS stands before libseccomp's filter."""
    if abi in ("x86_64", "x32"):
        abi = "x32" if nr & seccomp_model.X32_BIT else "x86_64"
    covered = abi in seccomp_model.OWN or seccomp_model.ARCHITECTURES[abi] in seccomp.get("architectures", ())
    if covered and seccomp["defaultAction"] not in seccomp_model.PERMISSIVE:
        last = seccomp_model.last_number(seccomp, abi)
        if last > 0 and nr > last:
            return seccomp_model.ENOSYS
    return bpf_interpreter.run(instructions, seccomp_model.AUDIT[abi], nr, args)
