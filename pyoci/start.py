"""start: let init execute the program, and report how that went.

Implements runtime.md "Start". create leaves init in a read(2) of exec.fifo. `start` writes one byte there and reads
result.fifo: records until execve, or the end of init, closes it.
"""

import errno
import posix

from pyoci.delete import destroy
from pyoci.errors import HookError, SetupError, StateError, StatusError, reason
from pyoci.host.processes import open_process, wait_ended
from pyoci.host.state_directory import EXEC_FIFO, RESULT_FIFO, is_transient, notify_socket_of_caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.container import Container
    from pyoci.host.sd_notify import Relay
    from pyoci.host.terminal import Foreground
    from pyoci.record import Listener, Record

_STATUS_ERRORS = {
    "running": "cannot start an already running container",
    "paused": "cannot start an already running container",
    "stopped": "cannot start a container that has stopped",
    "creating": "cannot start a container that is still being created",
}


def start(container: "Container", *, foreground: "Foreground | None" = None, pidfd: int = -1) -> "Relay | None":
    """Execute the program of a created container, then run the poststart hooks.

    If NOTIFY_SOCKET is set here and was set in create, this waits until the program reports that it is ready, or ends.
    With a `foreground`, which takes the runtime's signals, it returns the relay at once for the caller to serve.
    `pidfd` is init's, if this process is its parent: then no other process can have its pid.

    Raises StatusError. Raises SetupError or HookError if a startContainer hook, execve or a poststart hook fails; the
    container is then destroyed, and its poststop hooks have run.
    """
    container.lock(_STATUS_ERRORS["creating"])
    try:
        record = container.record
        init = open_process(record, lasting=True) if pidfd < 0 else posix.dup(pidfd)
        try:
            status = container.status(lasting=init >= 0)
            if status != "created":
                raise StatusError(_STATUS_ERRORS[status])
            if not record.args:
                raise StatusError("cannot start the container: config.json has no process", where="/process")
            relay = _notify_relay(container)
            try:
                _execute_program(container, init, foreground)
                _run_poststart(record)
            except (SetupError, HookError):
                pidfd, init = init, -1
                destroy(container, pidfd)
                raise
        finally:
            if init >= 0:
                posix.close(init)
    finally:
        container.unlock()
    if relay is not None and foreground is None:
        _wait_until_ready(record, relay)
        return None
    return relay


# --- sd_notify


def _notify_relay(container: "Container") -> "Relay | None":
    """Connect the container's sd_notify socket to the caller's; None if either of them is missing."""
    manager = notify_socket_of_caller()
    if not container.record.notify or not manager:
        return None
    from pyoci.host import sd_notify  # engines don't pass NOTIFY_SOCKET on

    try:
        relay = sd_notify.Relay(manager, container.warnings)
    except SetupError as error:
        container.warnings.append(str(error))
        return None
    relay.listen(container.directory)
    return relay


def _wait_until_ready(record: "Record", relay: "Relay") -> None:
    """Serve the relay until the program is ready or has ended."""
    pidfd = open_process(record)
    try:
        if pidfd >= 0:
            relay.wait(record.pid, pidfd)
            posix.close(pidfd)
    finally:
        relay.close()


# --- the program


def _execute_program(container: "Container", pidfd: int, foreground: "Foreground | None") -> None:
    """Release init, and read what it reports. Raises SetupError or HookError if it does not execute the program."""
    record = container.record
    try:
        results = container.directory.open_fifo(RESULT_FIFO, posix.O_RDONLY)
    except OSError as error:
        raise StateError(f"cannot start the container: {RESULT_FIFO}: {reason(error.errno or 0)}") from error
    try:
        released = True
        if record.listener is not None:
            released = _release_traced(container, record.listener, pidfd)
        else:
            posix.close(_release_init(container))
        data = _read_to_end(results, record.pid, pidfd, foreground)
    except OSError as error:
        raise SetupError(f"cannot start the container: {reason(error.errno or 0)}") from error
    finally:
        posix.close(results)
    executed = reports_success(record, data) and released
    # If a start that was killed has read the report, a live process shows that the program runs.
    if not executed and not container.is_alive():
        raise SetupError("cannot start the container: its first process was killed before it ran the program")
    try:
        posix.unlink(EXEC_FIFO, dir_fd=container.directory.fd)
    except OSError:
        pass  # `status` finds out without it that the program runs, with a few more system calls


def _release_init(container: "Container") -> int:
    """Write the byte that init waits for, and return the open exec.fifo. Raises StatusError, StateError, OSError."""
    try:
        fifo = container.directory.open_fifo(EXEC_FIFO, posix.O_WRONLY)
    except OSError as error:
        # A start that was killed may have let the program run since this one has read the status.
        if error.errno == errno.ENXIO and container.status() == "running":
            raise StatusError(_STATUS_ERRORS["running"]) from error
        if is_transient(error):  # such as EMFILE: init still waits, so the container must not be destroyed
            raise StateError(f"cannot start the container: {EXEC_FIFO}: {reason(error.errno or 0)}") from error
        raise
    posix.write(fifo, b"\1")
    return fifo


def _release_traced(container: "Container", listener: "Listener", pidfd: int) -> bool:
    """Release init, and hold it as a tracer from its seccomp filter until the agent has the filter's listener.

    Returns False if init ended before. Raises SetupError, StateError.
    """
    from pyoci.host.seccomp_agent import Tracee, count_filters, process_state

    if wait_ended(pidfd, 0):
        return False
    before = listener.filters
    if before is None:  # an earlier version created it: init began with the filters of its creator, as we did
        before = count_filters(posix.getpid())

    record = container.record
    tracee = Tracee(record.pid, pidfd)
    fifo = -1
    try:
        if tracee.has_filter(before):  # a start that was killed has handed the listener over
            return True
        tracee.hold()
        try:
            if not _awaits_start(container):
                tracee.release()
            fifo = _release_init(container)
        except StateError:  # init still waits
            tracee.release()
            raise
        message = process_state(record.state("created"), record.pid, listener.metadata)
        return tracee.hand_over(listener.path, message, lambda word: posix.write(fifo, word))
    except BaseException:
        tracee.kill()
        raise
    finally:
        if fifo >= 0:
            posix.close(fifo)


def _awaits_start(container: "Container") -> bool:
    """Whether init waits on exec.fifo."""
    try:
        return container.directory.awaits_start()
    except BrokenPipeError:
        return False


def _read_to_end(fd: int, pid: int, pidfd: int, foreground: "Foreground | None") -> bytes:
    """Read a non-blocking FIFO until its last writer closes it, or the process has ended or executed its program.

    A tracer can take the FIFO from the process and keep it open, so the end of the FIFO alone is not enough.
    """
    from pyoci.parent.conversation import MAX_PAYLOAD, RECORD, Watch, nonsense

    watch = Watch()
    data = b""
    while ready := watch.wait(fd, pid, pidfd, until_exec=True, foreground=foreground):
        try:
            part = posix.read(fd, 65536)
        except BlockingIOError:
            if pidfd in ready:
                break
            continue
        if not part:
            break
        data += part
        if len(data) > 2 * (RECORD.size + MAX_PAYLOAD):
            raise nonsense("it has no end")
    try:
        return data + posix.read(fd, 65536)  # on a slow machine, the report may have come after the last look
    except BlockingIOError:
        return data


def reports_success(record: "Record", data: bytes) -> bool:
    """Whether init reports that it is about to call execve. Raises the failure that init reports."""
    from pyoci.compiler import verbs
    from pyoci.parent.conversation import EXEC, FAILED, Records, split

    operations = {index: verbs.from_record(kept) for index, kept in record.start_operations.items()}
    records = Records(operations)
    succeeded = False
    for part in split(data):
        kind, index, step, error, detail, payload = records.take(part)
        if kind == FAILED:
            from pyoci.parent.explain import explain

            raise explain({"cwd": "", "args": record.args}, operations[index], step, error, detail, payload)
        succeeded = succeeded or kind == EXEC
    return succeeded


# --- hooks


def _run_poststart(record: "Record") -> None:
    """Run the poststart hooks. Raises HookError for the first that fails."""
    entries = record.hooks.get("poststart", [])
    if not entries:
        return
    from pyoci.host import hooks

    state_fd = hooks.state_file(record.state_json("running"))
    bundle_fd = posix.open(record.bundle, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        for index, entry in enumerate(entries):
            hooks.run_entry(entry, f"/hooks/poststart/{index}", state_fd, bundle_fd)
    finally:
        posix.close(state_fd)
        posix.close(bundle_fd)


__all__ = ["reports_success", "start"]
