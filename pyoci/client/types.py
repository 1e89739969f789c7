"""The types of the API besides the documents of the specification, which are in pyoci.types."""

import os
from typing import IO, Any, Literal, NotRequired, TypeAlias, TypedDict

StrPath: TypeAlias = str | os.PathLike[str]
File: TypeAlias = int | IO[bytes] | IO[str] | None
CgroupManager: TypeAlias = Literal["cgroupfs", "systemd", "disabled"]
LogLevel: TypeAlias = Literal["error", "warning", "info", "debug"]
Stats: TypeAlias = dict[str, Any]
"""What a container uses, in runc's form."""


class Event(TypedDict):
    """What happened to a container: `stats` with its statistics in `data`, or `oom`."""

    type: str
    id: str
    data: NotRequired[Stats]


class CriuOptions(TypedDict, total=False):
    """The options of checkpoint and restore that CRIU gets. runc and crun lack some of them."""

    tcp_established: bool
    tcp_skip_in_flight: bool
    tcp_close: bool
    ext_unix_sk: bool
    shell_job: bool
    file_locks: bool
    link_remap: bool
    auto_dedup: bool
    manage_cgroups_mode: Literal["soft", "full", "strict", "ignore"]
    network_lock: Literal["iptables", "nftables", "skip"]
    empty_ns: Literal["network"]


class RestoreOptions(CriuOptions, total=False):
    """Those of restore alone are for other labels than at the checkpoint."""

    lsm_profile: str
    lsm_mount_context: str
