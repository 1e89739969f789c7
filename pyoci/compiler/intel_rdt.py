"""`linux.intelRdt` → operations, and what a schemata file says.

Implements config-linux.md "Intel RDT". A resource group is a directory of the resctrl file system, a monitoring group
one below its `mon_groups`. Whether a group is there already is found out by the operations; what is done in either case
is decided here.
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
    """Return what makes the group and its lines before the clone, and what moves the container's process into it.

    write_schemata writes a line to a group that the runtime made, and compares it with one that existed.
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
    """In the specification's order: the later line counts."""
    for name in ("l3CacheSchema", "memBwSchema"):
        if rdt.get(name):
            yield verbs.WriteSchemata(f"{WHERE}/{name}", line=rdt[name])
    for index, line in enumerate(rdt.get("schemata", ())):
        yield verbs.WriteSchemata(f"{WHERE}/schemata/{index}", line=line)


def parse(text: str) -> "Schemata":
    """What lines such as ` L3:0=7ff;1=7ff` say, without what has no meaning: blanks, leading zeros, upper case."""
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
    """Where a group does not have what is wanted of it; nothing is wanted of the domains that are not named.

    `granularity` is that of memory bandwidth, by resource: the kernel keeps the next multiple.
    """
    return [
        f"{resource}:{domain}={found.get(resource, {}).get(domain, 'nothing')}"
        for resource, domains in wanted.items()
        for domain, value in domains.items()
        if found.get(resource, {}).get(domain) not in (value, _kept(value, granularity.get(resource, 1)))
    ]


def _kept(value: str, granularity: int) -> str:
    """What the kernel makes of a bandwidth."""
    if not value.isdecimal() or granularity < 1:
        return value
    return str(-(-int(value) // granularity) * granularity)
