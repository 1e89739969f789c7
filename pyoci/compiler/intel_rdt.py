"""`linux.intelRdt` → operations, and what a schemata file says.

Implements config-linux.md "Intel RDT". A resource group is a directory of the resctrl file system, a monitoring group
one below its `mon_groups`. Whether a group is there already is found out by the operations; what is done in either case
is decided here.
"""

from pyoci.compiler.operations import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from pyoci.compiler.operations import Plan

    Schemata = dict[str, dict[str, str]]  # resource → domain → value

WHERE = "/linux/intelRdt"

# What make_rdt_group does: a group that must be there, one that must not, or either.
FIND, MAKE, FIND_OR_MAKE = range(3)


def compile_rdt(plan: "Plan", rdt: "dict[str, Any]", container_id: str, of_init: "list[Op]") -> None:
    """The group and its lines before the clone, the container's process into it as soon as that is there.

    make_rdt_group: s1 is the group, `/` the default one; s2 the monitoring group, "" for none; a is one of the above.
    write_schemata writes a line to a group that was made, and compares it with one that was there.
    """
    class_id = rdt.get("closID")
    lines = list(_lines(rdt))
    monitoring = container_id if rdt.get("enableMonitoring") else ""
    if class_id is None:
        plan.before.append(Op("make_rdt_group", WHERE, container_id, monitoring, a=MAKE))
    else:
        how = FIND_OR_MAKE if lines else FIND
        plan.before.append(Op("make_rdt_group", f"{WHERE}/closID", class_id, monitoring, a=how))
    plan.before.extend(lines)
    if monitoring:
        plan.before.append(Op("make_monitoring_group", f"{WHERE}/enableMonitoring", monitoring))
    of_init.append(Op("join_rdt_group", WHERE, container_id if class_id is None else class_id, monitoring))


def _lines(rdt: "dict[str, Any]") -> "Iterator[Op]":
    """In the specification's order: the later line counts."""
    for name in ("l3CacheSchema", "memBwSchema"):
        if rdt.get(name):
            yield Op("write_schemata", f"{WHERE}/{name}", rdt[name])
    for index, line in enumerate(rdt.get("schemata", ())):
        yield Op("write_schemata", f"{WHERE}/schemata/{index}", line)


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
