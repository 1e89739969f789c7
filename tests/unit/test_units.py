"""`linux.cgroupsPath`, files and annotations as units and properties."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyoci.cgroups import gvariant, resources, units
from pyoci.cgroups.resources import Write
from pyoci.cgroups.units import Property
from pyoci.dbus import wire
from pyoci.dbus.wire import Variant
from pyoci.errors import CgroupError

INFINITY = (1 << 64) - 1


# --- names


@pytest.mark.parametrize(
    ("path", "unit", "slice_", "cgroup"),
    [
        ("system.slice:docker:4f1e", "docker-4f1e.scope", "system.slice", "/system.slice/docker-4f1e.scope"),
        ("", "pyoci-box.scope", "system.slice", "/system.slice/pyoci-box.scope"),
        (":crio:1", "crio-1.scope", "system.slice", "/system.slice/crio-1.scope"),
        ("a-b-c.slice:x:y", "x-y.scope", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/x-y.scope"),
        ("-.slice:x:y", "x-y.scope", "-.slice", "/x-y.scope"),
        ("system.slice::y", "-y.scope", "system.slice", "/system.slice/-y.scope"),
        ("system.slice:x:a-b.slice", "a-b.slice", "system.slice", "/a.slice/a-b.slice"),
        ("kubepods-pod1_2.slice:cri-containerd:x@y", "cri-containerd-x@y.scope", "kubepods-pod1_2.slice",
         "/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-x@y.scope"),
    ],
)  # fmt: skip
def test_paths(path: str, unit: str, slice_: str, cgroup: str) -> None:
    """As runc and systemd have it."""
    name = units.parse_path(path, "box", user=False)

    assert (unit, slice_, cgroup) == (name.unit, name.slice, name.path)


def test_the_users_slice() -> None:
    assert "/user.slice/libpod-x.scope" == units.parse_path(":libpod:x", "x", user=True).path


@pytest.mark.parametrize(
    "path", ["/a", "a:b", "a:b:c:d", "a:b:c", ".slice:b:c", "--.slice:b:c", "a-.slice:b:c", "-a.slice:b:c", "a.slice:b:",
             "a.slice:b:c/d", "a.slice:b:c d", "a.slice:b:\n", "a.slice/b.slice:c:d", "system.slice:b:" + "x" * 250,
             "../x.slice:b:c", "système.slice:b:c", "system.slice:b:-.slice-.slice", "system.slice:b:x-.slice"]
)  # fmt: skip
def test_invalid_paths_are_rejected(path: str) -> None:
    """The error names linux.cgroupsPath and says what it is."""
    with pytest.raises(CgroupError) as caught:
        units.parse_path(path, "box", user=False)

    assert "/linux/cgroupsPath" == caught.value.where
    assert repr(path) in caught.value.message


# --- properties


def properties(limits: dict[str, Any]) -> dict[str, Any]:
    """name: value of the properties for a linux.resources, which are written in the same way."""
    writes = units.rounded(resources.writes(limits))
    return {each.name: each.value.value for each in units.properties(writes)}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"memory": {"limit": 1 << 20}}, {"MemoryMax": 1 << 20}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"memory": {"limit": 100, "swap": 300, "reservation": 50}}, {"MemoryMax": 100, "MemorySwapMax": 200, "MemoryLow": 50}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 100_000}),
        ({"cpu": {"quota": 33333, "period": 50000}}, {"CPUQuotaPerSecUSec": 670_000, "CPUQuotaPeriodUSec": 50_000}),
        ({"cpu": {"quota": -1, "period": 50000}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50_000}),
        ({"cpu": {"idle": 1}}, {"CPUWeight": 0}),
        ({"cpu": {"idle": 0}}, {}),
        ({"cpu": {"cpus": "0-1,9", "mems": "0"}}, {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"}),
        ({"pids": {"limit": 10}}, {"TasksMax": 10}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"blockIO": {"weight": 10}}, {"IOWeight": 1}),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}, {}),
        ({"unified": {"memory.high": "10M", "memory.min": "0", "memory.oom.group": "1"}},
         {"MemoryHigh": 10 << 20, "MemoryMin": 0, "OOMPolicy": "kill"}),
        ({"unified": {"memory.oom.group": "0", "cpu.max": "max"}},
         {"OOMPolicy": "continue", "CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100_000}),
        ({"unified": {"io.weight": "default 50", "pids.max": "max", "hugetlb.2MB.max": "0"}}, {"IOWeight": 50, "TasksMax": INFINITY}),
        ({"unified": {"io.weight": "8:0 50", "cpuset.cpus": ""}}, {"AllowedCPUs": b""}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, {}),
    ],
)  # fmt: skip
def test_limits(limits: dict[str, Any], expected: dict[str, Any]) -> None:
    assert expected == properties(limits)


@given(st.integers(1000, 10**9), st.integers(1000, 10**6))
def test_the_quota_that_is_written_is_systemds_own(quota, period) -> None:
    """It is rounded up by at most 10 ms of a second; rounding again changes nothing."""
    (write,) = units.rounded([Write("cpu.max", f"{quota} {period}", "")])
    written = int(write.value.split()[0])
    per_second = next(units.properties([write])).value.value

    assert 0 == per_second % 10_000
    assert quota - 1 <= written <= quota + period // 100 + 1
    assert per_second * period // 1_000_000 == written
    assert [write] == units.rounded([write])


@pytest.mark.parametrize(
    "file", ["memory.max = x", "memory.max = -1", "memory.high = 99999999999999999999", "cpu.max = 1 2 3", "cpu.max = -5",
             "cpuset.cpus = 3-1", "cpuset.cpus = a", "cpuset.mems = 99999999", "cpu.max = 1 0"]
)  # fmt: skip
def test_values_that_systemd_has_no_property_for(file: str) -> None:
    name, _, value = file.partition(" = ")
    with pytest.raises(CgroupError) as caught:
        list(units.properties([Write(name, value, "/linux/resources/unified/x")]))

    assert "/linux/resources/unified/x" == caught.value.where
    assert f"`{value}`: " in caught.value.message


def test_a_slice_is_wanted_and_not_delegated() -> None:
    """It can't be in a slice other than its name says, and has no processes to delegate to."""
    slice_ = {each.name for each in units.base(units.parse_path("a.slice:x:b.slice", "x", user=False), "x")}
    scope = {each.name for each in units.base(units.parse_path("a.slice:x:y", "x", user=False), "x")}

    assert {"Slice", "Delegate"} == scope - slice_
    assert {"Wants"} == slice_ - scope


# --- annotations


def annotated(annotations: dict[str, str], **resources_: Any) -> tuple[list[Property], list[tuple[str, str, str]]]:
    """The properties that `org.systemd.property.*` annotations become beside the limits of a config; and what is
    ignored.
    """
    ignored = []
    found = units.annotated(
        {f"org.systemd.property.{name}": text for name, text in annotations.items()},
        resources.writes(resources_),
        lambda *what: ignored.append(what),
    )
    return found, ignored


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("KillSignal", "15", ("KillSignal", "i", 15)),
        ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", "t", 5)),
        ("TimeoutStopSec", "90", ("TimeoutStopUSec", "t", 90_000_000)),
        ("TimeoutStopSec", "uint64 90", ("TimeoutStopUSec", "t", 90_000_000)),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1_500_000)),
        ("CPUQuotaPerSecUSec", "uint64 10000", ("CPUQuotaPerSecUSec", "t", 10_000)),
        ("After", "['crio.service', 'docker.service']", ("After", "as", ["crio.service", "docker.service"])),
        ("DefaultDependencies", "true", ("DefaultDependencies", "b", True)),
        ("CollectMode", "'inactive'", ("CollectMode", "s", "inactive")),
        ("RuntimeMaxSec", "2", ("RuntimeMaxUSec", "t", 2_000_000)),
        ("MemorySwapMax", "uint64 0", ("MemorySwapMax", "t", 0)),
        ("CPUWeight", "uint64 100", ("CPUWeight", "t", 100)),
        ("IOWeight", "uint64 10", ("IOWeight", "t", 10)),
    ],
)
def test_annotation_sets_a_property_of_the_unit_alone(
    name: str, text: str, expected: tuple[str, str, int | list[str] | str]
) -> None:
    """What engines set, and limits."""
    (found,), ignored = annotated({name: text})

    assert expected == (found.name, found.value.signature, found.value.value)
    assert f"/annotations/org.systemd.property.{name}" == found.where
    assert [] == ignored


@pytest.mark.parametrize(("page", "quote"), [("SECURITY.md", "`"), ("docs/man/pyoci.8.md", "*")])
def test_documents_list_the_properties_that_annotations_set(page: str, quote: str) -> None:
    """Those and no others."""
    text = (Path(__file__).resolve().parents[2] / page).read_text()
    prefixes = "After|Allowed|CPU[QW]|Collect|Default|IO|Kill|Memory|Runtime|Tasks|Timeout"
    mentioned = re.findall(rf"{re.escape(quote)}((?:{prefixes})\w*){re.escape(quote)}", text)

    assert set(units.ANNOTATED) == set(mentioned)


@pytest.mark.parametrize("names", [("TimeoutStopSec", "TimeoutStopUSec"), ("TimeoutStopUSec", "TimeoutStopSec")])
def test_annotation_in_seconds_gives_way_to_the_other_spelling(names: tuple[str, str]) -> None:
    """Podman sets TimeoutStopUSec, and an image does not change it by TimeoutStopSec."""
    found, ignored = annotated(dict.fromkeys(names, "uint64 5"))

    assert [("TimeoutStopUSec", 5)] == [(each.name, each.value.value) for each in found]
    why = "org.systemd.property.TimeoutStopUSec comes first"
    assert [("org.systemd.property.TimeoutStopSec", "uint64 5", why)] == ignored


def test_other_annotations_set_no_properties() -> None:
    """The prefix alone names none."""
    assert [] == units.annotated({"other": "x", units.ANNOTATION: "y", "org.systemd.propertyx": "1"}, [], None)


@pytest.mark.parametrize(
    ("name", "text"),
    [("KillSignal", ""), ("KillSignal", "15 x"), ("TimeoutStopSec", "'x'"), ("TimeoutStopSec", "-1"),
     ("TimeoutStopSec", "true"), ("TimeoutStopSec", "uint64 18446744073709551615"), ("TimeoutStopSec", "inf")],
)  # fmt: skip
def test_annotation_with_a_wrong_value_is_an_error(name: str, text: str) -> None:
    """The error names the annotation."""
    with pytest.raises(CgroupError) as caught:
        annotated({name: text})

    assert f"/annotations/org.systemd.property.{name}" == caught.value.where
    assert caught.value.message.startswith(f"cannot set property {name}")


@pytest.mark.parametrize(
    "name",
    ["PIDs", "PIDFDs", "Slice", "Controller", "User", "Group", "Delegate", "DelegateControllers", "DelegateSubgroup", "DevicePolicy",
     "DeviceAllow", "Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Before", "Upholds", "RequiredBy", "WantedBy", "UpheldBy",
     "Conflicts", "RequiresMountsFor", "OnFailure", "OnSuccess", "OnFailureJobMode", "Triggers", "TriggeredBy", "PropagatesStopTo",
     "PropagatesReloadTo", "StopPropagatedFrom", "JoinsNamespaceOf", "FailureAction", "SuccessAction", "SuccessActionExitStatus",
     "JobTimeoutAction", "JobTimeoutUSec", "JobRunningTimeoutUSec", "JobTimeoutRebootArgument", "RebootArgument", "StartLimitAction",
     "ExecStart", "ExecStartPre", "ExecStopPost", "BPFProgram", "IPIngressFilterPath", "NFTSet", "AddRef", "KillMode", "SendSIGKILL",
     "SendSIGHUP", "FinalKillSignal", "RestartKillSignal", "OOMPolicy", "ManagedOOMPreference", "ManagedOOMSwap", "MemoryMin",
     "MemoryLow", "StartupCPUWeight", "StartupMemoryMax", "MemoryMaxScale", "TasksMaxScale", "CPUShares", "MemoryLimit",
     "RefuseManualStop", "StopWhenUnneeded", "IgnoreOnIsolate", "Description", "kill", "A b", "A/b", "SomethingOfALaterSystemd"],
)  # fmt: skip
def test_annotation_does_not_set_any_other_property(name: str) -> None:
    """pyoci ignores its value, valid or not."""
    for text in ("[uint32 1]", "'x'", "true", "no value"):
        ignored = (f"org.systemd.property.{name}", text, "an annotation may not set this property")
        assert ([], [ignored]) == annotated({name: text})


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("After", "['shutdown.target']", "it may name only containerd.service, crio.service, docker.service, kubelet.service, podman.service"),
        ("After", "['crio.service', 'x.service']", "it may name only containerd.service, crio.service, docker.service, kubelet.service, podman.service"),
        ("After", "'crio.service'", "it may name only containerd.service, crio.service, docker.service, kubelet.service, podman.service"),
        ("CPUWeight", "uint64 101", "it may only lower the weight below the default, 100"),
        ("CPUWeight", "uint64 18446744073709551615", "it may only lower the weight below the default, 100"),
        ("IOWeight", "uint64 10000", "it may only lower the weight below the default, 100"),
        ("IOWeight", "'x'", "it may only lower the weight below the default, 100"),
    ],
)  # fmt: skip
def test_annotation_sets_harmless_values_alone(name: str, text: str, why: str) -> None:
    """Neither an order that could be a circle, nor more than other containers have."""
    assert ([], [(f"org.systemd.property.{name}", text, why)]) == annotated({name: text})


@pytest.mark.parametrize(
    ("name", "limits", "where"),
    [
        ("MemoryMax", {"memory": {"limit": 1 << 20}}, "/linux/resources/memory/limit"),
        ("MemoryHigh", {"memory": {"reservation": 1}, "unified": {"memory.high": "5"}}, "/linux/resources/unified/memory.high"),
        ("MemorySwapMax", {"memory": {"limit": 1 << 20, "swap": 1 << 21}}, "/linux/resources/memory/swap"),
        ("MemoryZSwapMax", {"unified": {"memory.zswap.max": "5"}}, "/linux/resources/unified/memory.zswap.max"),
        ("CPUQuotaPerSecUSec", {"cpu": {"quota": 5000}}, "/linux/resources/cpu/quota"),
        ("CPUQuotaPerSecSec", {"cpu": {"quota": 5000}}, "/linux/resources/cpu/quota"),
        ("CPUQuotaPeriodUSec", {"cpu": {"period": 5000}}, "/linux/resources/cpu/period"),
        ("CPUQuotaPeriodSec", {"cpu": {"period": 5000}}, "/linux/resources/cpu/period"),
        ("TasksMax", {"pids": {"limit": 5}}, "/linux/resources/pids/limit"),
        ("AllowedCPUs", {"cpu": {"cpus": "0"}}, "/linux/resources/cpu/cpus"),
        ("AllowedMemoryNodes", {"cpu": {"mems": "0"}}, "/linux/resources/cpu/mems"),
        ("CPUWeight", {"cpu": {"shares": 5}}, "/linux/resources/cpu/shares"),
        ("CPUWeight", {"cpu": {"idle": 1}}, "/linux/resources/cpu/idle"),
        ("CPUWeight", {"unified": {"cpu.weight.nice": "5"}}, "/linux/resources/unified/cpu.weight.nice"),
        ("IOWeight", {"blockIO": {"weight": 50}}, "/linux/resources/blockIO/weight"),
        ("IOWeight", {"unified": {"io.bfq.weight": "50"}}, "/linux/resources/unified/io.bfq.weight"),
    ],
)  # fmt: skip
def test_limit_of_the_config_comes_before_an_annotation(name: str, limits: dict[str, Any], where: str) -> None:
    """Whatever the annotation says, and of whatever file of the cgroup the config speaks."""
    assert ([], [(f"org.systemd.property.{name}", "uint64 1", f"{where} comes first")]) == annotated(
        {name: "uint64 1"}, **limits
    )


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("'a'", "s", "a"), ('"a\'b"', "s", "a'b"), (r"'\u00e9\n\\\''", "s", "é\n\\'"), ("true", "b", True),
        ("1", "i", 1), ("-0x10", "i", -16), ("010", "i", 8), ("1e3", "d", 1000.0), ("1.", "d", 1.0),
        ("byte 255", "y", 255), ("int16 -5", "n", -5), ("uint64 18446744073709551615", "t", INFINITY), ("double 1", "d", 1.0),
        ("objectpath '/a'", "o", "/a"), ("signature 's'", "g", "s"), ("b'ab'", "ay", b"ab\0"),
        ("[1, 2]", "ai", [1, 2]), ("[uint64 1, 2]", "at", [1, 2]), ("[]", "as", []), ("@as []", "as", []), ("@t 5", "t", 5),
        ("('a', 1)", "(si)", ("a", 1)), ("[('a', uint64 1)]", "a(st)", [("a", 1)]), ("@a(st) [('a', 1)]", "a(st)", [("a", 1)]),
        ("<'a'>", "v", Variant("s", "a")), ("{'a': 1}", "a{si}", {"a": 1}), ("@a{sv} {}", "a{sv}", {}),
        ("{'a': <1>}", "a{sv}", {"a": Variant("i", 1)}), (" [ 'a' ,'b',] ", "as", ["a", "b"]),
        ("{1: 'a', 2: 'b'}", "a{is}", [(1, "a"), (2, "b")]), ("[@a{sv} { }, {'a': <1>}]", "aa{sv}", [{}, {"a": Variant("i", 1)}]),
    ],
)  # fmt: skip
def test_values_in_text(text: str, signature: str, value: Any) -> None:
    assert Variant(signature, value) == gvariant.parse(text)


@pytest.mark.parametrize(
    "text", ["", "'", "'a", "x", "1x", "[1, 'a']", "byte 256", "uint32 -1", "[1", "(1", "()", "{}", "{'a' 1}", "@zz 1", "@s 1",
             "uint64", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", r"'\u00g0'", "99999999999", "<", "09", "objectpath 'a'", "signature 'z'", r"'\ud800'", r"'\u0000'", "just 1", "nothing"]
)  # fmt: skip
def test_invalid_values_are_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        gvariant.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{[1]: 2}", "a dictionary's keys can't be of type `ai`"),
        ("{('a', 1): 2}", "a dictionary's keys can't be of type `(si)`"),
        ("{<1>: 2}", "a dictionary's keys can't be of type `v`"),
        ("{{'a': 1}: 2}", "a dictionary's keys can't be of type `a{si}`"),
        ("double 1" + "0" * 400, "too large for type `d`"),
        ("[1.5, 1" + "0" * 400 + "]", "too large for type `d`"),
        ("(" + "1," * 300 + ")", "its type is longer than 255 characters"),
        ("<(" + "1," * 300 + ")>", "its type is longer than 255 characters"),
        ("[<(" + "1," * 300 + ")>]", "its type is longer than 255 characters"),
        ("@" + "a" * 33 + "s []", "is not a signature"),
        ("@" + "(" * 33 + "s" + ")" * 33 + " 1", "is not a signature"),
    ],
)
def test_values_that_d_bus_does_not_have(text: str, why: str) -> None:
    """The error is clear, and of the annotation."""
    with pytest.raises(CgroupError) as caught:
        annotated({"CollectMode": text})

    assert "/annotations/org.systemd.property.CollectMode" == caught.value.where
    assert why in caught.value.message
    assert len(caught.value.message) < 1000


@given(st.text(max_size=30) | st.text("[](){}<>@',\": 0123456789asuint6.b\\", max_size=30))
@example("{[1]: 2}")
@example("double 1" + "0" * 400)
@example("(" + "1," * 300 + ")")
def test_any_text_is_a_value_or_is_refused(text) -> None:
    """No accident, whatever an annotation holds: what is a value can be sent."""
    try:
        found = gvariant.parse(text)
    except ValueError:
        return
    wire.encode(wire.CALL, 1, {wire.PATH: "/", wire.MEMBER: "M"}, "v", found)
