"""What depends on the kernel, its version and how it was built: it works, or one line says what is missing."""

import os
import re

import pytest

from tests.support.kernels import FEATURES, KERNEL, Feature
from tests.support.runtime import Bundle, Runtime

pytestmark = pytest.mark.root

LINKS = {"user": "user", "time": "time", "network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("joined", ["", "pid"])
def test_a_namespace_is_new_or_the_kernel_has_none(runtime: Runtime, bundle: Bundle, kind: str, joined: str) -> None:
    """The error names the entry; user-mode Linux has no time namespaces.

    Where another one is joined, a process of its own makes the namespaces.
    """
    if joined and kind not in (joined, "user"):
        bundle.namespace(joined, f"/proc/self/ns/{joined}")
        bundle.without_mount("/proc").mount("/proc", "none", "rbind", source="/proc")
    if kind == "user":
        bundle.in_user_namespace()
    bundle.namespace(kind)
    link = f"/proc/self/ns/{LINKS[kind]}"
    bundle.program("/bin/readlink", link)

    result = runtime.run()

    if os.path.lexists(link):
        assert (0, "") == (result.status, result.err), result
        assert result.out.strip() != os.readlink(link)
    else:
        where = f"/linux/namespaces/{len(bundle.linux['namespaces']) - 1}"
        assert (1, "") == (result.status, result.out)
        assert result.err == f"{where}: cannot make a {kind} namespace: this kernel has none\n"


@pytest.mark.may_skip("no controller, or no NUMA")
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: "{}.{}".format(*feature.since))
def test_what_a_newer_kernel_brings(runtime: Runtime, bundle: Bundle, feature: Feature) -> None:
    """An older kernel's error has the place in the config and the reason, and nothing is left."""
    if reason := feature.missing():
        pytest.skip(reason)
    feature.ask(bundle)
    bundle.program("/bin/true")

    if feature.since <= KERNEL:
        result = runtime.run()
        assert (0, "") == (result.status, result.err), result
    else:
        assert feature.refusal == re.sub(r"cgroup /\S+:", "cgroup PATH:", runtime.create_fails())
