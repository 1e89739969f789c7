"""Write messages to standard error, and to the log that an engine asks for (`--log`, `--log-format`).

Engines read both byte by byte, and rely on these rules:

- A failing command writes its error last, as one line in one write: engines read the last line of the log, or the
  first 8 KiB of standard error.
- With a log, warnings go to the log, and only if `--debug` or `--log-level` asks for them. Podman takes a lone warning
  in the log for the error, and the standard error of `create` is the container's.
- Without a log, warnings on standard error leave room for the error: a config can cause any number of them.
- Engines read `state` and other data from standard output and standard error together, so those commands only warn in
  a log.

A message is printable text on one line, so no hook or image can forge a second line or control the terminal.
"""

import posix
import sys
import time

from pyoci.config.text import printable
from pyoci.errors import PyociError, UsageError, reason
from pyoci.linux import S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Fields = Mapping[str, str]  # the keys of a JSON log besides level, msg and time
    Render = Callable[[str, str, Fields], str]  # (level, message, fields) -> line

LEVELS = {"error": 0, "warning": 1, "info": 2, "debug": 3}

_TIMEOUT = 2  # seconds to wait for a full log to take a message; after the first timeout the log waits no more
_STANDARD_ERROR = 2
MAX_LINE = 8191  # conmon reads this many bytes of standard error, once
_CUT = " [truncated]"
_ROOM = MAX_LINE // 2  # bytes of the warnings on standard error, ahead of the error
_NO_FIELDS: "Fields" = {}
_OVERHEAD = len("warning: \n")
_MORE = "pyoci leaves out further warnings (hint: pass --log-level warning)"
# Names of open descriptors. They are symbolic links, which a log file must not be.
_DESCRIPTORS = {
    "/dev/stdout": 1, "/dev/fd/1": 1, "/proc/self/fd/1": 1,
    "/dev/stderr": 2, "/dev/fd/2": 2, "/proc/self/fd/2": 2,
}  # fmt: skip


class Log:
    """The messages of one command.

    - `destination` is the value of `--log`: a path, `file:PATH`, `journald:ID`, `syslog:ID`, or "" for standard error.
    - `level` is the least important level to keep. "" means `error` in a log; on standard error it means `warning`, up
      to _ROOM bytes.
    - `quiet` keeps everything but the error off standard error.

    Raises PyociError if it can't open the log, UsageError for a bad value.
    """

    __slots__ = ("_level", "_quiet", "_render", "_room", "_sink")

    def __init__(self, destination: str = "", *, format: str = "text", level: str = "", quiet: bool = False) -> None:
        self._render = _FORMATS[_require(format, _FORMATS, "log format")]
        if level:
            _require(level, LEVELS, "log level")
        self._sink = _open_sink(destination, self._render)
        self._level = LEVELS[level or ("error" if self._sink else "warning")]
        self._quiet = quiet
        self._room = sys.maxsize if level else _ROOM

    @property
    def debugs(self) -> bool:
        """Whether the log keeps debug messages. Those that are expensive to build should ask."""
        return self._level == LEVELS["debug"]

    def error(self, message: str, *, kind: str = "", pointer: str = "", hint: str = "") -> None:
        """Report why the command failed: the same line in the log and on standard error.

        A JSON log gets three more keys: `error`, the class of pyoci.errors; `pointer`, the JSON pointer to the value at
        fault; and `hint`. Each is left out if it is empty, and all if the line would not have room for them.
        """
        fields = {name: text for name, text in (("error", kind), ("pointer", pointer), ("hint", hint)) if text}
        if self._sink:
            self._sink.write("error", message, fields)
            _write_line(_STANDARD_ERROR, "error", message, _plain)
        else:
            self._on_standard_error("error", message, fields)

    def warning(self, message: str) -> None:
        """Report what the user may want to know, though the command goes on."""
        self._note("warning", message)

    def debug(self, message: str) -> None:
        """Report what happens, for `--debug`."""
        self._note("debug", message)

    def close(self) -> None:
        """Close the log; later messages go to standard error."""
        if self._sink:
            self._sink.close()
        self._sink = None

    def _note(self, level: str, message: str) -> None:
        if LEVELS[level] > self._level:
            return
        if self._sink:
            self._sink.write(level, message)
        elif not self._quiet and self._room > 0:
            self._room -= len(printable(message[:MAX_LINE]).encode("utf-8", "replace")) + _OVERHEAD
            self._on_standard_error(level, message if self._room > 0 else _MORE)

    def _on_standard_error(self, level: str, message: str, fields: "Fields" = _NO_FIELDS) -> None:
        _write_line(_STANDARD_ERROR, level, message, _json if self._render is _json else _plain, fields)


class _File:
    """A log file, or a descriptor that stands for one."""

    __slots__ = ("_fd", "_render", "_timeout")

    def __init__(self, fd: int, render: "Render") -> None:
        self._fd = fd
        self._render = render
        self._timeout = _TIMEOUT

    def write(self, level: str, message: str, fields: "Fields" = _NO_FIELDS) -> None:
        if not _write_line(self._fd, level, message, self._render, fields, self._timeout):
            self._timeout = 0

    def close(self) -> None:
        if self._fd > _STANDARD_ERROR:
            posix.close(self._fd)


class _Service:
    """The journal or the system log: a socket that takes one datagram per message."""

    __slots__ = ("_identifier", "_socket", "_template", "_timeout")
    # The numbers are syslog's; facility 3 is "system daemons".
    PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}
    FACILITY = 3 << 3

    def __init__(self, address: str, identifier: str, template: str) -> None:
        import _socket

        kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._socket = _socket.socket(_socket.AF_UNIX, kind)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._identifier = identifier
        self._template = template
        self._timeout = _TIMEOUT

    def write(self, level: str, message: str, fields: "Fields" = _NO_FIELDS) -> None:
        if not _write_line(self._socket.fileno(), level, message, self._datagram, fields, self._timeout):
            self._timeout = 0

    def close(self) -> None:
        self._socket.close()

    def _datagram(self, level: str, message: str, _: "Fields") -> str:
        priority = self.PRIORITIES[level]
        return self._template.format(
            name=self._identifier, text=message, priority=priority, code=self.FACILITY | priority
        )


_SERVICES = {
    "journald": (
        "/run/systemd/journal/socket",
        "SYSLOG_IDENTIFIER={name}\nPRIORITY={priority}\nMESSAGE={text}\n",
    ),
    "syslog": ("/dev/log", "<{code}>{name}: {text}"),
}


def _open_sink(destination: str, render: "Render") -> _File | _Service | None:
    service, _, rest = destination.partition(":")
    try:
        if service in _SERVICES:
            address, template = _SERVICES[service]
            return _Service(address, printable(rest), template)
        path = destination.removeprefix("file:")
        fd = _DESCRIPTORS.get(path, -1)
        if not path or fd == _STANDARD_ERROR:
            return None
        return _File(_open_file(path) if fd < 0 else fd, render)
    except OSError as error:
        raise PyociError(f"cannot open log {destination}: {reason(error.errno or 0)}") from error
    except ValueError as error:
        raise PyociError(f"cannot open log {destination}: the path has a NUL") from error


def _open_file(path: str) -> int:
    # O_NONBLOCK: a FIFO without a reader is an error (ENXIO), not a hang.
    how = posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | how, 0o644)
    st = posix.fstat(fd)
    if st.st_nlink > 1 and st.st_mode & S_IFMT == S_IFREG:  # a user may link a file here that only pyoci may write to
        posix.close(fd)
        raise PyociError(f"cannot open log {path}: it has several names (hard links)")
    return fd


def _write_line(
    fd: int, level: str, message: str, render: "Render", fields: "Fields" = _NO_FIELDS, timeout: float = 0
) -> bool:
    """Write one line in one write(2). If it is too long, leave out `fields`, then shorten the message.

    Waits up to `timeout` seconds for room in a descriptor that does not block. False if there was none. Ignores any
    other failure, since there is no other place to report it.
    """
    text = printable(message[:MAX_LINE])
    line = render(level, text, fields).encode("utf-8", "replace")
    if fields and len(line) > MAX_LINE:
        line = render(level, text, _NO_FIELDS).encode("utf-8", "replace")
    while len(line) > MAX_LINE:
        # A rendered character has at most 12 bytes, so each round cuts little more than the surplus.
        surplus = len(line) - MAX_LINE
        text = text.removesuffix(_CUT)[: -(surplus // 12 + len(_CUT) + 1)] + _CUT
        line = render(level, text, _NO_FIELDS).encode("utf-8", "replace")
    try:
        try:
            posix.write(fd, line)
        except BlockingIOError:
            _wait_for_room(fd, timeout)
            posix.write(fd, line)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _wait_for_room(fd: int, seconds: float) -> None:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(seconds * 1000)


def _plain(level: str, text: str, _: "Fields") -> str:
    return f"{text}\n" if level == "error" else f"{level}: {text}\n"


def _json(level: str, text: str, fields: "Fields") -> str:
    from pyoci.config.text import quote

    more = "".join([f',"{name}":{quote(value)}' for name, value in fields.items()])
    return f'{{"level":"{level}","msg":{quote(text)},"time":"{_now()}"{more}}}\n'


def _logfmt(level: str, text: str, _: "Fields") -> str:
    from pyoci.config.text import quote

    return f'time="{_now()}" level={level} msg={quote(text)}\n'


_FORMATS: "dict[str, Render]" = {"text": _logfmt, "json": _json}


def _now() -> str:
    """The time as RFC 3339, in UTC with microseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds // 1000:06}Z"


def _require(name: str, table: "Mapping[str, object]", what: str) -> str:
    if name not in table:
        raise UsageError(f"cannot use {what} `{name}`: expected one of {', '.join(table)}")
    return name
