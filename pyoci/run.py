"""run: create and start a container; in the foreground, stay with its program and delete it afterwards."""

from pyoci.create import create_and_hold
from pyoci.delete import KILL_TIMEOUT, delete
from pyoci.errors import ContainerNotFound
from pyoci.host.processes import reap
from pyoci.host.terminal import Foreground
from pyoci.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.container import Container
    from pyoci.errors import Log
    from pyoci.host.sd_notify import Relay
    from pyoci.parent.protocol import Launch
    from pyoci.request import CreateRequest


def run(request: "CreateRequest", *, detach: bool = False, keep: bool = False, no_subreaper: bool = False) -> int:
    """Run a container; return the program's exit status, or 0 with `detach` as soon as the program runs.

    `keep`: don't delete the container afterwards. Raises PyociError, and then leaves nothing behind.
    """
    container, launch = create_and_hold(request, detached=detach)
    if request.console_socket:
        launch.hand_over_console()
    foreground = None
    try:
        if not detach:
            # Not before create has ended: until then a signal kills this process, and with it a hook that hangs.
            foreground = Foreground(subreaper=not no_subreaper)
            foreground.prepare(launch)
        relay = start(container, foreground=foreground, pidfd=launch.pidfd)
    except BaseException:
        _undo(container, launch)
        _log_warnings(container, request.log)
        raise
    _log_warnings(container, request.log)
    if foreground is None:
        return 0
    return stay(foreground, container, launch, request.log, keep=keep, relay=relay)


def stay(
    foreground: Foreground,
    container: "Container",
    launch: "Launch",
    log: "Log",
    *,
    keep: bool,
    relay: "Relay | None" = None,
) -> int:
    """Wait for the program's end, and delete the container unless `keep`. Return the program's exit status.

    Raises PyociError.
    """
    status = foreground.wait(launch, relay)
    if not keep:
        delete(container, force=True)
    _log_warnings(container, log)
    return status


def _undo(container: "Container", launch: "Launch") -> None:
    """Remove a container that could not be started."""
    try:
        delete(container, force=True)
    except ContainerNotFound:
        pass  # start has destroyed it
    reap(launch.pid, KILL_TIMEOUT)


def _log_warnings(container: "Container", log: "Log") -> None:
    """Log the warnings so far. The relay of sd_notify keeps the list, and goes on to add to it."""
    for warning in container.warnings:
        log.warning(warning)
    container.warnings.clear()


__all__ = ["run", "stay"]
