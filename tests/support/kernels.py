"""Features that not every kernel has: since which Linux, and the error before it. docs/kernels.md lists them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.runtime import Bundle, cgroup_mount

KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


class Feature(NamedTuple):
    """A feature. `ask` puts it into a config; `refusal` is the error of a kernel before `since`.

    `needs` names a controller of cgroup v2, or `numa`. A kernel without it reports another error.
    """

    title: str
    since: tuple[int, int]
    ask: Callable[[Bundle], object]
    refusal: str
    needs: str = ""

    def row(self) -> str:
        """Return its line in the table of docs/kernels.md."""
        return f"| {self.title} | {self.since[0]}.{self.since[1]} | `{self.refusal}` |"

    def missing(self) -> str:
        """Return what this host lacks for it, or an empty string."""
        if self.needs == "numa":
            return "" if Path("/proc/self/numa_maps").exists() else "this kernel was built without NUMA"
        controllers = Path(cgroup_mount(), "cgroup.controllers").read_text().split()
        return "" if self.needs in ("", *controllers) else f"cgroup v2 has no {self.needs} controller here"


def _idmapped_tmpfs(bundle: Bundle) -> None:
    bundle.mount("/m", "tmpfs", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}


def _unified(name: str) -> Callable[[Bundle], object]:
    return lambda bundle: bundle.linux.update(resources={"unified": {name: "0"}})


FEATURES = (
    Feature(
        "`idmap`, `ridmap` and mappings of a tmpfs in `mounts`",
        (6, 3),
        _idmapped_tmpfs,
        "/mounts/6/options/0: cannot mount tmpfs on /m: mount_setattr: invalid argument"
        " (hint: its filesystem can't be idmapped: ext4, xfs and btrfs can, tmpfs since Linux 6.3)",
    ),
    Feature(
        "an option of a filesystem, such as `noswap` of a tmpfs",
        (6, 4),
        lambda bundle: bundle.mount("/m", "tmpfs", "noswap"),
        "/mounts/6/options/0: cannot mount tmpfs on /m: fsconfig: invalid argument (tmpfs: Unknown parameter 'noswap')",
    ),
    Feature(
        "a file in `linux.resources.unified`, such as `cpuset.cpus.exclusive`",
        (6, 7),
        _unified("cpuset.cpus.exclusive"),
        "/linux/resources/unified/cpuset.cpus.exclusive: cannot write `0` to cpuset.cpus.exclusive of cgroup PATH:"
        " no such file or directory (hint: this kernel has no such file)",
        needs="cpuset",
    ),
    Feature(
        "`MPOL_WEIGHTED_INTERLEAVE` as `linux.memoryPolicy.mode`",
        (6, 9),
        lambda bundle: bundle.linux.update(memoryPolicy={"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}),
        "/linux/memoryPolicy: cannot set memory policy MPOL_WEIGHTED_INTERLEAVE: set_mempolicy: invalid argument"
        " (hint: a node has no memory or is not in cpuset.mems, or the kernel does not know this mode or flag)",
        needs="numa",
    ),
)
