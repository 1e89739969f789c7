"""Turn the rules of a seccomp profile into a target (`pyoci.compiler.bpf`) for each system call of an ABI.

The semantics are libseccomp's, with runc's additions. docs/decisions/0002-seccomp-compiler.md lists them.
"""

from pyoci.compiler._syscalls import COLUMNS, MULTIPLEXED, NAMES
from pyoci.compiler.bpf import IF_ANY_BIT, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, WORD, Decisions, outcome
from pyoci.errors import PyociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.compiler.bpf import Fact, Range, Test

    # (index, operator, value, mask): an entry of `args`. Only SCMP_CMP_MASKED_EQ uses the mask.
    Condition = tuple[int, str, int, int]
    # (index in `syscalls`, action, conditions that must all hold)
    Rule = tuple[int, int, list[Condition]]
    # A test, what follows if it holds, and what follows if it fails. True and False end a comparison.
    Comparison = bool | tuple[Test, "Comparison", "Comparison"]

WHERE = "/linux/seccomp/syscalls"

# SECCOMP_RET_ERRNO with ENOSYS, the errno for a missing system call.
RETURN_ENOSYS = 0x0005_0000 | 38

# Each operator's test of a word, the condition's value if that test holds, and its rank among competing rules.
EQUALITY, BELOW, ABOVE = 3, 2, 1
OPERATORS = {
    "SCMP_CMP_EQ": (IF_EQUAL, True, EQUALITY),
    "SCMP_CMP_NE": (IF_EQUAL, False, EQUALITY),
    "SCMP_CMP_MASKED_EQ": (IF_EQUAL, True, EQUALITY),
    "SCMP_CMP_LE": (IF_GREATER, False, BELOW),
    "SCMP_CMP_LT": (IF_GREATER_OR_EQUAL, False, BELOW),
    "SCMP_CMP_GE": (IF_GREATER_OR_EQUAL, True, ABOVE),
    "SCMP_CMP_GT": (IF_GREATER, True, ABOVE),
}

# More than the kernel's 4096 instructions, because calls with equal conditions share code.
MAX_RULES = 65536

# Offset of the arguments in struct seccomp_data, 64 bits each in the machine's byte order.
ARGS = 16
# Numbers in a range that differ from it, each with a test. From the fourth on, the binary search is cheaper.
MAX_HOLES = 3


class Abi:
    """A set of system call numbers that the kernel accepts.

    `name`         its SCMP_ARCH_ name
    `audit`        its AUDIT_ARCH_ number; x32 shares that of x86_64
    `wide`         whether conditions compare 64 bits of an argument, instead of 32
    `first`        its lowest number
    `multiplexed`  whether it has socketcall(2) and ipc(2)
    `big_endian`   whether the high word of an argument comes first
    """

    __slots__ = ("audit", "big_endian", "first", "multiplexed", "name", "wide")

    def __init__(
        self,
        name: str,
        audit: int,
        *,
        wide: bool = False,
        first: int = 0,
        multiplexed: bool = False,
        big_endian: bool = False,
    ) -> None:
        self.name = name
        self.audit = audit
        self.wide = wide
        self.first = first
        self.multiplexed = multiplexed
        self.big_endian = big_endian


class Rules:
    """The rules of a profile by the name of the system call.

    `always`       the first rule without conditions of each call
    `conditional`  the rules with conditions that precede it
    `idle`         names in rules whose action is the default
    """

    __slots__ = ("_count", "always", "conditional", "idle")

    def __init__(self) -> None:
        self._count = 0  # of rules with conditions
        self.always: dict[str, Rule] = {}
        self.conditional: dict[str, list[Rule]] = {}
        self.idle: set[str] = set()

    def add(self, rule: int, names: "Sequence[str]", action: int, alternatives: "list[list[Condition]]") -> None:
        """Add `rule`, an index in `syscalls`: it applies to these names if all conditions of an alternative hold."""
        if [] not in alternatives:
            rules = [(rule, action, conditions) for conditions in alternatives]
            self._count_rules(rule, len(names) * len(rules))
            for name in names:
                if name not in self.always:
                    self.conditional.setdefault(name, []).extend(rules)
        elif len(names) < len(self.always):
            for name in names:
                self.always.setdefault(name, (rule, action, []))
        else:
            self.always = {**dict.fromkeys(names, (rule, action, [])), **self.always}

    def _count_rules(self, rule: int, more: int) -> None:
        """Raise PyociError for too many rules. A few megabytes of names and conditions could make a trillion."""
        self._count += more
        if self._count > MAX_RULES:
            reason = f"there are more than {MAX_RULES} pairs of a system call and its conditions"
            raise PyociError(f"cannot compile the seccomp filter: {reason}", where=f"{WHERE}/{rule}")

    def with_multiplexed(self) -> "dict[str, list[Rule]]":
        """Return the rules with conditions, plus rules for the operations of socketcall(2) and ipc(2).

        The first argument there is the operation, so those rules drop conditions on the call's own first argument. The
        kernel ignores the high word of the operation.
        """
        conditional = self.conditional.copy()
        for name, (multiplexer, operation) in MULTIPLEXED.items():
            if multiplexer not in self.always:
                first = (0, "SCMP_CMP_EQ", operation, WORD)
                rules = [self.always[name]] if name in self.always else self.conditional.get(name, [])
                behind = [
                    (rule, action, [first, *(condition for condition in conditions if condition[0])])
                    for rule, action, conditions in rules
                ]
                if behind:
                    conditional[multiplexer] = conditional.get(multiplexer, []) + behind
        return conditional


class Table:
    """The target of each system call of one ABI.

    If `stub` is set, numbers above the highest one that the profile mentions get ENOSYS.
    """

    __slots__ = ("_default", "_last", "abi", "targets")

    def __init__(self, abi: Abi, rules: Rules, default: int, decisions: Decisions, *, stub: bool) -> None:
        self.abi = abi
        self._default = default
        # -1 stands for a call that the ABI lacks.
        numbers = dict(zip(NAMES, COLUMNS[abi.name], strict=True))
        actions = [action for _, action, _ in rules.always.values()]
        self.targets = dict(zip([numbers[name] for name in rules.always], actions, strict=True))
        conditional = rules.with_multiplexed() if abi.multiplexed else rules.conditional
        for name, its_rules in conditional.items():
            self._add(numbers[name], its_rules, decisions)
        self.targets.pop(-1, None)
        mentioned = [0, *self.targets, *[numbers[name] for name in rules.idle]]
        self._last = max(mentioned) if stub else 0

    def _add(self, number: int, rules: "list[Rule]", decisions: Decisions) -> None:
        if not self.abi.wide:
            rules = [(rule, action, _low_words(conditions)) for rule, action, conditions in rules]
            always = [action for _, action, conditions in rules if not conditions]
            if always:
                self.targets[number] = always[0]
        if number not in self.targets and number != -1:
            self.targets[number] = _tree(decisions, rules, self._default, self.abi)

    def ranges(self) -> "list[Range]":
        """Return ranges that cover every number of this ABI, including those without a rule."""
        default = self._default
        targets = self.targets
        edges = []
        current = None
        expected = self.abi.first
        for number in sorted(targets):
            target = targets[number]
            if number != expected and current != default:
                edges.append((expected, default))
                current = default
            if target != current:
                edges.append((number, target))
                current = target
            expected = number + 1
        if current != default and (not self._last or expected <= self._last):
            edges.append((expected, default))
        if self._last:
            edges.append((self._last + 1, RETURN_ENOSYS))
        return _fold(edges)


def _fold(edges: "list[tuple[int, int]]") -> "list[Range]":
    """Turn edges, each a number and the target from there on, into ranges in which single numbers may differ."""
    ranges: list[Range] = []
    i = 0
    while i < len(edges):
        start, target = edges[i]
        holes: list[tuple[int, int]] = []
        i += 1
        while i + 1 < len(edges) and edges[i + 1] == (edges[i][0] + 1, target):
            if len(holes) == MAX_HOLES:
                # The next range begins after the last hole.
                i -= 1
                break
            holes.append(edges[i])
            i += 2
        ranges.append((start, target, holes))
    return ranges


def _low_words(conditions: "list[Condition]") -> "list[Condition]":
    # Without its high word, a mask may be 0, which matches every value.
    return [(index, op, value & WORD, mask & WORD) for index, op, value, mask in conditions if mask & WORD]


def _tree(decisions: Decisions, rules: "list[Rule]", default: int, abi: Abi) -> int:
    """Return a target that tries the rules of one system call in order, and ends in `default` if no rule matches."""
    if len({action for _, action, _ in rules}) > 1:
        _reject_contradictions(rules)
        rules = sorted(rules, key=_closeness)
    target = default
    for _, action, conditions in reversed(rules):
        comparisons = [_comparison(condition, abi) for condition in conditions]
        target = _graft(decisions, comparisons, action, target, ())
    return target


def _reject_contradictions(rules: "list[Rule]") -> None:
    # By strings: a profile's author could choose numbers whose hashes collide (docs/decisions/0001-executable.md).
    seen: dict[str, tuple[int, int]] = {}
    for rule, action, conditions in rules:
        earlier, earlier_action = seen.setdefault(str(conditions), (rule, action))
        if earlier_action != action:
            reason = f"{WHERE}/{earlier} asks for another action under the same conditions"
            raise PyociError(f"cannot compile the seccomp rule: {reason}", where=f"{WHERE}/{rule}")


def _closeness(rule: "Rule") -> list[tuple[int, int, int]]:
    # libseccomp's order: later arguments first, then equality before upper before lower bounds, then smaller ranges.
    key = []
    for index, operator, value, _ in rule[2]:
        fit = OPERATORS[operator][2]
        key.append((-index, -fit, value if fit == BELOW else -value))
    return key


def _comparison(condition: "Condition", abi: Abi) -> "Comparison":
    """Return a condition as tests of 32-bit words, the high word first."""
    index, operator, value, mask = condition
    low, high = ARGS + 8 * index, ARGS + 8 * index + 4
    if abi.big_endian:
        low, high = high, low
    test, held, _ = OPERATORS[operator]
    if test == IF_EQUAL:
        equal = _word_equals(low, value & WORD, mask & WORD, held, not held)
        return _word_equals(high, value >> 32, mask >> 32, equal, not held) if abi.wide else equal
    comparison: Comparison = ((low, WORD, test, value & WORD), held, not held)
    if not abi.wide:
        return comparison
    if not value >> 32:
        return (high, WORD, IF_EQUAL, 0), comparison, held
    comparison = (high, WORD, IF_EQUAL, value >> 32), comparison, not held
    return (high, WORD, IF_GREATER, value >> 32), held, comparison


def _word_equals(offset: int, value: int, mask: int, yes: "Comparison", no: "Comparison") -> "Comparison":
    if mask == 0:
        return yes
    if mask == WORD:
        return (offset, WORD, IF_EQUAL, value), yes, no
    if value == 0:
        return (offset, WORD, IF_ANY_BIT, mask), no, yes
    if value == mask and mask & mask - 1 == 0:
        return (offset, WORD, IF_ANY_BIT, mask), yes, no
    return (offset, mask, IF_EQUAL, value), yes, no


def _graft(
    decisions: Decisions,
    comparisons: "list[Comparison]",
    action: int,
    otherwise: int,
    facts: "tuple[Fact, ...]",
) -> int:
    """Return a target that does `action` if all comparisons hold, and `otherwise` if one fails.

    The facts are the results of the tests on the way here. The target does not repeat tests that they decide.
    """
    if not comparisons:
        return action
    comparison, *rest = comparisons
    if comparison is True:
        return _graft(decisions, rest, action, otherwise, facts)
    if comparison is False:
        return decisions.under(otherwise, facts)
    test, yes, no = comparison
    held = outcome(test, facts)
    if held is not None:
        return _graft(decisions, [yes if held else no, *rest], action, otherwise, facts)
    return decisions.node(
        test,
        _graft(decisions, [yes, *rest], action, otherwise, (*facts, (test, True))),
        _graft(decisions, [no, *rest], action, otherwise, (*facts, (test, False))),
    )
