"""`linux.intelRdt` → operations, and the parser of schemata files.

Implements config-linux.md "Intel RDT". A resource group is a directory of the resctrl file system. A monitoring group
is a directory below its `mon_groups`. The compiler decides whether a group must exist, must not, or may; the operations
check which is the case.
"""

from pyoci.compiler import verbs
from pyoci.compiler.verbs.cgroup import FIND, FIND_OR_MAKE, MAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyoci.compiler.verbs import ParentOp
    from pyoci.types import IntelRdt

    Schemata = dict[str, dict[str, str]]  # resource → domain → value

WHERE = "/linux/intelRdt"


def compile_rdt(rdt: "IntelRdt", container_id: str) -> "tuple[list[ParentOp], ParentOp]":
    """Return the operations that make the group before the clone, and the one that moves init into it.

    write_schemata writes a line to a group that the runtime made. For a group that existed, it compares them.
    """
    class_id = rdt.get("closID")
    lines = list(_lines(rdt))
    monitoring = container_id if rdt.get("enableMonitoring") else ""
    if class_id is None:
        group = verbs.MakeRdtGroup(WHERE, group=container_id, monitoring=monitoring, required=MAKE)
    else:
        required = FIND_OR_MAKE if lines else FIND
        group = verbs.MakeRdtGroup(f"{WHERE}/closID", group=class_id, monitoring=monitoring, required=required)
    made: list[ParentOp] = [group, *lines]
    if monitoring:
        made.append(verbs.MakeMonitoringGroup(f"{WHERE}/enableMonitoring", group=monitoring))
    return made, verbs.JoinRdtGroup(WHERE, group=group.group, monitoring=monitoring)


def _lines(rdt: "IntelRdt") -> "Iterator[ParentOp]":
    """Yield lines in the specification's order. If two set the same domain, the kernel keeps the later one."""
    for name in ("l3CacheSchema", "memBwSchema"):
        if rdt.get(name):
            yield verbs.WriteSchemata(f"{WHERE}/{name}", line=rdt[name])
    for index, line in enumerate(rdt.get("schemata", ())):
        yield verbs.WriteSchemata(f"{WHERE}/schemata/{index}", line=line)


def parse(text: str) -> "Schemata":
    """Parse lines such as ` L3:0=7ff;1=7ff`. Drop insignificant blanks, leading zeros and upper case."""
    schemata: Schemata = {}
    for line in text.split("\n"):
        resource, colon, rest = line.partition(":")
        if not colon:
            continue
        domains = schemata.setdefault(resource.strip(), {})
        for assignment in rest.split(";"):
            domain, equals, value = assignment.partition("=")
            if equals:
                domains[_number(domain)] = _number(value)
    return schemata


def _number(text: str) -> str:
    return text.strip().lower().removeprefix("0x").lstrip("0") or "0"


def differences(wanted: "Schemata", found: "Schemata", granularity: "Mapping[str, int]") -> "list[str]":
    """Return what a group has, for each domain of `wanted` in which it differs. Ignore other domains.

    `granularity` is the step of memory bandwidth, by resource. The kernel rounds a bandwidth up to a multiple.
    """
    return [
        f"{resource}:{domain}={found.get(resource, {}).get(domain, 'nothing')}"
        for resource, domains in wanted.items()
        for domain, value in domains.items()
        if found.get(resource, {}).get(domain) not in (value, _round_up(value, granularity.get(resource, 1)))
    ]


def _round_up(value: str, granularity: int) -> str:
    """Round a bandwidth as the kernel does."""
    if not value.isdecimal() or granularity < 1:
        return value
    return str(-(-int(value) // granularity) * granularity)
