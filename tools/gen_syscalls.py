"""Write pyoci/compiler/_syscalls.py: the system call numbers of every architecture that a filter can cover.

    python3 tools/gen_syscalls.py [libseccomp.so.2] > pyoci/compiler/_syscalls.py

The numbers come from a libseccomp, the newer the better: its tables are made from the kernel's own. It has
no call that lists the names it knows, so all numbers that can have a name are asked for, negative ones too:
they stand for calls that an architecture lacks, and for the operations of socketcall(2) and ipc(2) on x86.
"""

import ctypes
import sys
import textwrap

# libseccomp's tokens: AUDIT_ARCH_*, and one of its own for x32.
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
X32_BIT = 0x4000_0000
DIRECT = (*range(2000), *range(0x0F_0000, 0x0F_0020), *range(X32_BIT, X32_BIT + 2000))
MISSING = range(-12000, -9999)
# libseccomp's numbers for operation n of socketcall(2) are -100-n, of ipc(2) -200-n.
MULTIPLEXERS = {"socketcall": -100, "ipc": -200}
OPERATIONS = range(1, 100)

WIDTH = 110
MARGIN = " " * 8

HEADER = '''\
"""System call numbers by name, from libseccomp {version}. Made by tools/gen_syscalls.py: do not edit.

Names and columns of numbers, and not a dictionary of rows, because that loads in half the time.
"""
# fmt: off

NAMES = """\
{names}
""".split()

# In the order of NAMES; -1 where the architecture lacks the call.
COLUMNS: dict[str, tuple[int, ...]] = {{
{columns}
}}

# Calls that are an operation of socketcall or ipc on x86: name: (that call, its first argument)
MULTIPLEXED: dict[str, tuple[str, int]] = {{
{multiplexed}
}}'''


class Version(ctypes.Structure):
    """struct scmp_version of seccomp.h."""

    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


class Libseccomp:
    """The three calls we need of libseccomp."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.seccomp_version.restype = ctypes.POINTER(Version)
        self._library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
        self._library.seccomp_syscall_resolve_num_arch.argtypes = [ctypes.c_uint32, ctypes.c_int]
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [ctypes.c_void_p]

    def version(self) -> str:
        """The library's version, as in 2.6.0."""
        version = self._library.seccomp_version().contents
        return f"{version.major}.{version.minor}.{version.micro}"

    def name(self, architecture: int, number: int) -> str | None:
        """The name of a system call, None when the number has none."""
        address = self._library.seccomp_syscall_resolve_num_arch(architecture, number)
        if not address:
            return None
        text = ctypes.string_at(address).decode("ascii")
        self._libc.free(address)
        return text


def direct_numbers(library: Libseccomp, architecture: str) -> dict[str, int]:
    """Name to the number that the kernel takes in its system call register."""
    token = ARCHITECTURES[architecture]
    found: dict[str, int] = {}
    for number in DIRECT:
        if (number >= X32_BIT) == (architecture == "SCMP_ARCH_X32") and (name := library.name(token, number)):
            found.setdefault(name, number)
    return found


def missing_names(library: Libseccomp) -> set[str]:
    """Names that some architecture lacks and another has."""
    found = (library.name(token, number) for token in ARCHITECTURES.values() for number in MISSING)
    return {name for name in found if name}


def multiplexed(library: Libseccomp, base: int) -> dict[str, int]:
    """Name to its operation of one multiplexing call of x86."""
    found = {library.name(ARCHITECTURES["SCMP_ARCH_X86"], base - n): n for n in OPERATIONS}
    return {name: n for name, n in found.items() if name}


def main() -> None:
    """Print the module."""
    library = Libseccomp(sys.argv[1] if len(sys.argv) > 1 else "libseccomp.so.2")
    numbers = [direct_numbers(library, architecture) for architecture in ARCHITECTURES]
    operations = {
        name: (multiplexer, operation)
        for multiplexer, base in MULTIPLEXERS.items()
        for name, operation in multiplexed(library, base).items()
    }
    names = sorted(missing_names(library).union(operations, *numbers))
    columns = []
    for architecture, column in zip(ARCHITECTURES, numbers, strict=True):
        row = ", ".join(str(column.get(name, -1)) for name in names)
        row = textwrap.indent(textwrap.fill(row, WIDTH - len(MARGIN)), MARGIN)
        columns.append(f'    "{architecture}": (\n{row},\n    ),')
    behind = [f'    "{name}": ("{call}", {operation}),' for name, (call, operation) in sorted(operations.items())]
    print(
        HEADER.format(
            version=library.version(),
            names=textwrap.fill(" ".join(names), WIDTH),
            columns="\n".join(columns),
            multiplexed="\n".join(behind),
        )
    )


if __name__ == "__main__":
    main()
