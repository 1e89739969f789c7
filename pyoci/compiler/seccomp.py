"""`linux.seccomp` → classic BPF.

The semantics are libseccomp's as runc uses it (docs/decisions/0002-seccomp-compiler.md):

- The filter always covers the host's own ABI, and others if `architectures` lists them. A call through any other ABI
  gets KILL.
- The first rule without `args` decides about its system calls. Rules with `args` then have no effect on them.
- System calls above the highest number in the profile get ENOSYS if the default action denies.
- The compiler skips names that no architecture has, and warns about them.
"""

from pyoci.compiler._syscalls import NAMES
from pyoci.compiler.bpf import IF_EQUAL, WORD, Assembler, Decisions
from pyoci.compiler.seccomp_rules import OPERATORS, RETURN_ENOSYS, Abi, Rules, Table
from pyoci.errors import PyociError
from pyoci.linux import SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_TSYNC_ESRCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyoci.compiler.bpf import Range
    from pyoci.compiler.seccomp_rules import Condition
    from pyoci.types import ArgumentCondition, Seccomp, SyscallRule

WHERE = "/linux/seccomp"

# SECCOMP_RET_* of linux/seccomp.h.
ACTIONS = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
# For a call through an ABI that the filter does not cover.
BAD_ABI = ACTIONS["SCMP_ACT_KILL"]
# The greatest errno of each action that has one. The kernel caps ERRNO at its MAX_ERRNO; a tracer gets 16 bits.
MAX_ERRNO = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}
EPERM = 1
# Default actions that allow an unlisted system call, or leave the decision to a tracer or an agent.
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0x20,
}

# Offsets in struct seccomp_data.
NR = 0
ARCH = 4
MAX_ARGUMENT_INDEX = 5
ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

X86_64 = Abi("SCMP_ARCH_X86_64", 0xC000_003E, wide=True)
X86 = Abi("SCMP_ARCH_X86", 0x4000_0003, multiplexed=True)
X32 = Abi("SCMP_ARCH_X32", 0xC000_003E, first=0x4000_0000)
AARCH64 = Abi("SCMP_ARCH_AARCH64", 0xC000_00B7, wide=True)
ARM = Abi("SCMP_ARCH_ARM", 0x4000_0028)
RISCV64 = Abi("SCMP_ARCH_RISCV64", 0xC000_00F3, wide=True)
PPC64LE = Abi("SCMP_ARCH_PPC64LE", 0xC000_0015, wide=True, multiplexed=True)
S390X = Abi("SCMP_ARCH_S390X", 0x8000_0016, wide=True, multiplexed=True, big_endian=True)
S390 = Abi("SCMP_ARCH_S390", 0x0000_0016, multiplexed=True, big_endian=True)
# The ABIs of each architecture (uname -m), its native one first. A host never sees those of other architectures.
MACHINES = {
    "x86_64": (X86_64, X32, X86),
    "aarch64": (AARCH64, ARM),
    "riscv64": (RISCV64,),
    "ppc64le": (PPC64LE,),
    "s390x": (S390X, S390),
}


# Profiles whose filters the build of the executable has compiled, by `shape` (known_filters.py). Otherwise empty.
KNOWN: "dict[str, list[tuple[Seccomp, Filter]]]" = {}


class Filter:
    """A checked `linux.seccomp`, which compiles its program on first use.

    `flags` are for seccomp(2), `warnings` for the log, each with its JSON pointer.
    """

    __slots__ = ("_compile", "_program", "flags", "warnings")

    def __init__(
        self,
        flags: int,
        warnings: "Sequence[str]" = (),
        *,
        program: bytes = b"",
        code: "Callable[[], bytes] | None" = None,
    ) -> None:
        self.flags = flags
        self.warnings = warnings
        self._program = program
        self._compile = code

    @property
    def is_compiled(self) -> bool:
        """Whether `program` is ready, so that reading it costs no time."""
        return bool(self._program)

    @property
    def program(self) -> bytes:
        """An array of struct sock_filter for seccomp(2).

        Raises PyociError if rules contradict each other, or if the program is too long for the kernel.
        """
        if not self._program and self._compile is not None:
            self._program = self._compile()
        return self._program

    @property
    def instructions(self) -> int:
        """The number of instructions in `program`."""
        return len(self.program) // 8

    @property
    def has_listener(self) -> bool:
        """Whether an agent decides about a system call. seccomp(2) then returns a listener."""
        return bool(self.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)


def compile_filter(seccomp: "Seccomp", arch: str) -> Filter:
    """Check `linux.seccomp` and return its filter for the architecture `arch` (uname -m, a key of MACHINES).

    The executable has the filters of the profiles that engines send by default. It compiles every other profile.

    Compiling takes half a millisecond, so the filter puts it off until the caller reads `program`. A profile with
    SCMP_ACT_NOTIFY is compiled here, because the flags depend on whether the program contains that action.

    Raises PyociError with a JSON pointer for mistakes that the schema does not cover, such as an errno for an action
    that has none.
    """
    if KNOWN:
        for profile, known in KNOWN.get(shape(seccomp, arch), ()):
            if profile == seccomp:
                return known
    if arch not in MACHINES:
        raise PyociError(f"cannot compile a seccomp filter: architecture {arch} is not supported", where=WHERE)
    if "listenerMetadata" in seccomp and not seccomp.get("listenerPath"):
        where = f"{WHERE}/listenerMetadata"
        raise PyociError("cannot use listenerMetadata: there is no listenerPath", where=where)
    default = _action(
        seccomp["defaultAction"], seccomp.get("defaultErrnoRet"), "defaultAction", "defaultErrnoRet", WHERE
    )
    stub = seccomp["defaultAction"] not in PERMISSIVE and default != RETURN_ENOSYS
    own, *others = MACHINES[arch]
    listed = seccomp.get("architectures", ())
    abis = [own, *(abi for abi in others if abi.name in listed)]
    warnings: list[str] = []
    syscalls = seccomp.get("syscalls", ())
    rules = _rules(syscalls, default, warnings)

    def code() -> bytes:
        return _assemble(abis, rules, default, stub=stub).bytes(big_endian=own.big_endian)

    notifies = "SCMP_ACT_NOTIFY"
    if seccomp["defaultAction"] != notifies and all(rule["action"] != notifies for rule in syscalls):
        return Filter(_flags(seccomp.get("flags"), warnings, notify=False), warnings, code=code)
    program = _assemble(abis, rules, default, stub=stub)
    notify = program.returns(ACTIONS[notifies])
    if notify and not seccomp.get("listenerPath"):
        raise PyociError("cannot use SCMP_ACT_NOTIFY: there is no listenerPath", where=WHERE)
    flags = _flags(seccomp.get("flags"), warnings, notify=notify)
    return Filter(flags, warnings, program=program.bytes(big_endian=own.big_endian))


def shape(seccomp: "Seccomp", arch: str) -> str:
    """Return a key for `KNOWN`: the architecture, and each rule's first name and action. Few profiles share it."""
    rules = seccomp.get("syscalls", ())
    return " ".join([arch, *[word for rule in rules for word in (rule["names"][0], rule["action"])]])


def _assemble(abis: "Sequence[Abi]", rules: Rules, default: int, *, stub: bool) -> Assembler:
    own = abis[0]
    decisions = Decisions()
    tables = [Table(abi, rules, default, decisions, stub=stub) for abi in abis]
    program = Assembler(decisions)
    program.trees([target for table in tables for target in table.targets.values() if target < 0])
    searches: dict[int, list[Range]] = {}
    for table in tables:
        searches.setdefault(table.abi.audit, []).extend(table.ranges())
    if own is X86_64 and X32 not in abis:
        # The number -1 also has the x32 bit. It gets the default action, because a tracer sets it to skip a call.
        searches[X86_64.audit].append((X32.first, BAD_ABI, [(WORD, default)]))
    _dispatch(program, searches)

    instructions = len(program.code)
    if instructions > MAX_INSTRUCTIONS:
        reason = f"it has {instructions} instructions, and the kernel accepts {MAX_INSTRUCTIONS}"
        raise PyociError(f"cannot compile the seccomp filter: {reason}", where=f"{WHERE}/syscalls")
    return program


def _dispatch(program: Assembler, searches: "Mapping[int, Sequence[Range]]") -> None:
    # The assembler writes backwards. In reverse order, the host's own ABI follows right after the test for it.
    entries = []
    for audit, ranges in reversed(list(searches.items())):
        entry = program.search(ranges, 0, len(ranges))
        # An ABI with one target for every number does not need the number loaded.
        entries.append((audit, entry if len(ranges) == 1 and not ranges[0][2] else program.load(NR)))
    position = program.at(BAD_ABI)
    for audit, entry in entries:
        position = program.jump(IF_EQUAL, audit, entry, position)
    program.load(ARCH)


def _action(name: str, errno: int | None, key: str, errno_key: str, where: str) -> int:
    if name not in ACTIONS:
        raise PyociError(f"cannot use seccomp action {name}: unknown action", where=f"{where}/{key}")
    where = f"{where}/{errno_key}"
    if name not in MAX_ERRNO:
        if errno is not None:
            raise PyociError(f"cannot use {errno_key}: {name} has no errno", where=where)
        return ACTIONS[name]
    if errno is None:
        errno = EPERM
    if not 0 <= errno <= MAX_ERRNO[name]:
        raise PyociError(f"cannot use errno {errno}: {name} takes 0 to {MAX_ERRNO[name]}", where=where)
    return ACTIONS[name] | errno


def _flags(names: "Sequence[str] | None", warnings: list[str], *, notify: bool) -> int:
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER if notify else 0
    # As runc and crun do. The kernel then adds no speculation mitigations because of the filter.
    if names is None:
        return flags | FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    for i, name in enumerate(names):
        where = f"{WHERE}/flags/{i}"
        if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" and not notify:
            warnings.append(f"{where}: ignored: {name} needs a listener, and the filter has no SCMP_ACT_NOTIFY")
            continue
        if name not in FLAGS:
            raise PyociError(f"cannot use seccomp flag {name}: unknown flag", where=where)
        flags |= FLAGS[name]
    if notify and flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
        # seccomp(2) can't return both a listener and the id of a failing thread
        flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    return flags


def _rules(syscalls: "Iterable[SyscallRule]", default: int, warnings: list[str]) -> Rules:
    rules = Rules()
    known = set(NAMES)
    unknown: set[str] = set()
    for i, rule in enumerate(syscalls):
        where = f"{WHERE}/syscalls/{i}"
        action = _action(rule["action"], rule.get("errnoRet"), "action", "errnoRet", where)
        alternatives = _alternatives(rule.get("args"), where, warnings)
        given = dict.fromkeys(rule["names"])
        names = [name for name in given if name in known]
        if len(names) < len(given):
            unknown.update(name for name in given if name not in known)
        if action == default:
            rules.idle.update(names)
        else:
            rules.add(i, names, action, alternatives)
    if unknown:
        listed = ", ".join(sorted(unknown))
        warnings.append(f"{WHERE}/syscalls: skipped unknown system calls: {listed}")
    return rules


def _alternatives(
    args: "Sequence[ArgumentCondition] | None", where: str, warnings: list[str]
) -> "list[list[Condition]]":
    # All conditions of a rule must hold. If two of them test the same argument, any one is enough.
    if not args:
        return [[]]
    conditions = [_condition(arg, f"{where}/args/{i}", warnings) for i, arg in enumerate(args)]
    if len({condition[0] for condition in conditions}) < len(conditions):
        return [_drop_empty_masks([condition]) for condition in conditions]
    return [_drop_empty_masks(sorted(conditions))]


def _drop_empty_masks(conditions: "list[Condition]") -> "list[Condition]":
    # A mask of 0 matches every value.
    return [condition for condition in conditions if condition[3]]


def _condition(arg: "ArgumentCondition", where: str, warnings: list[str]) -> "Condition":
    index, operator, value, value_two = arg["index"], arg["op"], arg["value"], arg.get("valueTwo", 0)
    if not 0 <= index <= MAX_ARGUMENT_INDEX:
        reason = f"a system call has 0 to {MAX_ARGUMENT_INDEX}"
        raise PyociError(f"cannot compare argument {index}: {reason}", where=f"{where}/index")
    if operator not in OPERATORS:
        raise PyociError(f"cannot use seccomp operator {operator}: unknown operator", where=f"{where}/op")
    if operator == "SCMP_CMP_MASKED_EQ":
        if value_two & ~value:
            warnings.append(f"{where}/valueTwo: ignored the bits outside the mask in `value`")
        return index, operator, value_two & value, value
    if value_two:
        warnings.append(f"{where}/valueTwo: ignored: {operator} takes one value")
    return index, operator, value, ALL_BITS
