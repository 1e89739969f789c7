"""delete: end what is left of a container, remove what create made, and run the poststop hooks.

Implements runtime.md "Delete" and the last steps of "Lifecycle".
"""

import posix

from pyoci.errors import ContainerNotFound, PyociError, StateError, StatusError
from pyoci.host.processes import open_process, send_signal, wait_ended
from pyoci.linux import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.container import Container
    from pyoci.host.state_directory import StateDirectory
    from pyoci.record import Record

KILL_TIMEOUT = 10  # seconds for a killed process to end


def delete(container: "Container", *, force: bool = False) -> None:
    """Remove a stopped or created container; with `force` in any status.

    Raises StatusError if the container runs or is being created; with `force`, the create at work loses its process
    and fails. A failing poststop hook adds to `container.warnings`. The container is closed afterwards.
    """
    if force:
        container.lock(while_waiting=_kill_init)
    else:
        container.lock(f"cannot delete container {container.id} that is not stopped: creating")
    try:
        if container.record_if_usable() is None:
            _delete_without_record(container, force=force)
            return
        init = open_process(container.record)
        try:
            if init >= 0 and not force and (status := container.status()) not in ("stopped", "created"):
                raise StatusError(f"cannot delete container {container.id} that is not stopped: {status}")
        except BaseException:
            posix.close(init)
            raise
        destroy(container, init)
    finally:
        container.close()


def destroy(container: "Container", init: int) -> None:
    """Kill init, remove the cgroup, the resource groups and the state, then run the poststop hooks.

    The container must be locked. `init` is a pidfd, which this closes, or -1 if init has ended or never existed.
    Raises PyociError or OSError if something can't be removed; the record then stays.
    """
    record = container.record
    if init < 0:
        cgroup = container.cgroup()
    else:
        try:
            cgroup = container.own_cgroup()  # before anything is killed: this fails if no descriptor is left
            send_signal(init, SIGKILL)
            if not wait_ended(init, KILL_TIMEOUT):
                raise StatusError(f"cannot delete container {container.id}: its process does not end")
        finally:
            posix.close(init)
    # Without a pid in the record, nothing shows that the cgroup's processes are the container's. Init dies with create.
    cgroup.destroy(kill=record.pid > 0, timeout=KILL_TIMEOUT)
    container.warnings.extend(cgroup.warnings)
    if record.rdt:
        from pyoci.host import resctrl

        resctrl.remove(record.rdt)
    container.directory.remove()
    container.warnings.extend(run_poststop(record))


def run_poststop(record: "Record") -> "list[str]":
    """Run all poststop hooks, and return the error messages of those that fail."""
    entries = record.hooks.get("poststop", [])
    if not entries:
        return []
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
    try:
        bundle_fd = posix.open(record.bundle, flags)
    except OSError:  # such as ENOENT: the bundle may go before the container
        bundle_fd = posix.open("/", flags)
    from pyoci.host import hooks

    failures = hooks.run_recorded(entries, "poststop", record.state_json("stopped"), bundle_fd)
    posix.close(bundle_fd)
    return [str(failure) for failure in failures]


def _kill_init(directory: "StateDirectory") -> None:
    """Kill init, if it exists, so that the create that holds the lock fails and releases it."""
    try:
        pidfd = open_process(directory.load())
    except PyociError:
        return
    if pidfd >= 0:
        send_signal(pidfd, SIGKILL)
        posix.close(pidfd)


def _delete_without_record(container: "Container", *, force: bool) -> None:
    """Remove a state directory without a usable record.

    Raises StateError without `force`, or ContainerNotFound if the directory is empty.
    """
    empty = container.directory.is_empty()
    if not force and not empty:
        raise StateError(f"cannot delete container `{container.id}`: its record can't be read", hint="pass --force")
    container.directory.remove()
    if empty and not force:
        raise ContainerNotFound(f"container `{container.id}` does not exist")


__all__ = ["delete", "destroy", "run_poststop"]
