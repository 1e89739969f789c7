"""Attach a device filter, an eBPF program of `device_filter.compile_rules`, to a cgroup, and detach it (bpf(2))."""

import _struct
import posix

from pyoci import _native
from pyoci.cgroups.directories import errno_of
from pyoci.errors import CgroupError, reason
from pyoci.linux import (
    BPF_CGROUP_DEVICE,
    BPF_F_ALLOW_MULTI,
    BPF_PROG_ATTACH,
    BPF_PROG_DETACH,
    BPF_PROG_GET_FD_BY_ID,
    BPF_PROG_QUERY,
    BPF_PROG_TYPE_CGROUP_DEVICE,
)

_LOG_SIZE = 65536  # bytes of the verifier's log


def attach(dirfd: int, program: bytes, where: str) -> int:
    """Load `program` and attach it to the cgroup `dirfd`. Returns the kernel's id of the program.

    The kernel runs every attached program, so those of ancestors and of systemd stay in force. Raises CgroupError at
    `where`, with the last line of the verifier's log if the verifier rejects the program.
    """
    try:
        program_fd = _native.bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, program)
    except OSError as error:
        raise CgroupError(f"cannot load device filter: {_explain_rejection(program, error)}", where=where) from error
    try:
        _native.bpf(BPF_PROG_ATTACH, _attributes(dirfd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
        query = _attributes(dirfd, BPF_CGROUP_DEVICE, 0, 0, 0, 0, 0, 0)
        _native.bpf(BPF_PROG_QUERY, query)
        if not _struct.unpack_from("=I", query, 24)[0]:
            raise CgroupError("cannot attach device filter: the kernel does not list it", where=where)
        return _native.bpf_prog_id(program_fd)
    except OSError as error:
        raise CgroupError(f"cannot attach device filter: {reason(errno_of(error))}", where=where) from error
    finally:
        posix.close(program_fd)


def detach(dirfd: int, program_id: int) -> None:
    """Detach the program with this id from the cgroup `dirfd`. Raises OSError."""
    program_fd = _native.bpf(BPF_PROG_GET_FD_BY_ID, _attributes(program_id, 0, 0))
    try:
        _native.bpf(BPF_PROG_DETACH, _attributes(dirfd, program_fd, BPF_CGROUP_DEVICE))
    finally:
        posix.close(program_fd)


def _attributes(*words: int) -> bytearray:
    """Return a `union bpf_attr` of 32-bit words."""
    return bytearray(_struct.pack(f"={len(words)}I", *words))


def _explain_rejection(program: bytes, error: OSError) -> str:
    """Return why the kernel rejects `program`. This loads it again with a log, which is too slow to keep always."""
    log = bytearray(_LOG_SIZE)
    try:
        posix.close(_native.bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, program, log))
    except OSError:
        pass
    lines = log.rstrip(b"\0\n").decode("utf-8", "replace").split("\n")
    reasons = [line for line in lines if line and not line.startswith("processed ")]
    return reason(errno_of(error)) + (f" ({reasons[-1]})" if reasons else "")


__all__ = ["attach", "detach"]
