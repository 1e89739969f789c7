"""Turn what a command raises into an error that pyoci reports on one line."""

from pyoci.errors import PyociError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cli.log import Log

OUT_OF_MEMORY = "cannot run the command: out of memory"

_SPARE = 1 << 20  # bytes: more than a single import needs


def of_command(verb: str, error: BaseException, status: int, log: "Log") -> BaseException:
    """The error to report for what the command `verb` raised. `status` is the exit status of its failures.

    An OSError is the system's fault, not the container's: no free descriptors, a full disk.
    """
    if isinstance(error, OSError):
        log.debug(trace(error))
        subject = f"{error.filename}: " if error.filename else ""
        error = PyociError(f"cannot {verb}: {subject}{reason(error.errno or 0)}")
    elif _lacks_memory(error):
        _release(error)
        error = PyociError(f"cannot {verb}: out of memory")
    if isinstance(error, PyociError):
        error.status = status
    return error


def without_memory(error: BaseException) -> BaseException:
    """`error`, or if it comes from a lack of memory, one that says so and holds no memory."""
    if not _lacks_memory(error):
        return error
    _release(error)
    return PyociError(OUT_OF_MEMORY)


def trace(error: BaseException) -> str:
    """Where an error came from. The `traceback` module would read source files, and is not frozen in."""
    places = []
    traceback = error.__traceback__
    while traceback:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return "raised at " + ", ".join(places)


def _lacks_memory(error: BaseException) -> bool:
    """Whether it is a MemoryError, or a SystemError that CPython makes of one, as while it imports a frozen module."""
    if isinstance(error, SystemError) and not isinstance(error.__cause__, MemoryError):
        try:  # CPython may lose the MemoryError on the way, so see how much memory there is
            bytearray(_SPARE)
        except MemoryError:
            return True
        return False
    return isinstance(error, MemoryError | SystemError)


def _release(error: BaseException) -> None:
    """Free the memory that the error's frames hold: its message needs some, too."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
