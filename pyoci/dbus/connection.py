"""A D-Bus connection: to a bus, or straight to a program that speaks D-Bus. Every wait has a deadline.

Implements "Authentication Protocol" and "Server Addresses" of the D-Bus Specification. It sends messages that do not
depend on a reply before the reply arrives.
"""

import errno
import posix
import select
import time

from pyoci import _native
from pyoci.dbus import wire
from pyoci.errors import CgroupError, reason
from pyoci.host.sockets import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.dbus.wire import Message

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_BUS = ("/org/freedesktop/DBus", "org.freedesktop.DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"

# EXTERNAL without an identity makes the other end ask the kernel. In a user namespace our own uid would be wrong.
_AUTHENTICATION = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_MAX_LINE = 16384  # bytes
# No reply or signal that this program requests is larger, in bytes. Any process on the bus may send larger messages to
# keep us busy, and those are skipped.
_MAX_MESSAGE = 65536
_POLL_INTERVAL = 0.01  # seconds between attempts to connect


class BusError(CgroupError):
    """The error reply to a call. `name` is its D-Bus name, such as org.freedesktop.systemd1.UnitExists."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Bus:
    """A connection.

    address   the address to connect to
    name      the bus name that receives the calls; "" without a bus in between
    what      the program at the other end, for messages
    deadline  the end of every wait, in the time of time.monotonic

    Raises CgroupError if it can't connect.
    """

    def __init__(self, address: str, name: str, what: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline
        self._timeout = deadline - time.monotonic()
        self._name = name
        self._what = what
        self._serial = 0
        self._in = b""
        self._out = _AUTHENTICATION
        self._authenticated = False
        self._replies: dict[int, Message] = {}
        self._unanswered: set[int] = set()
        self._to_skip = 0  # bytes of an unwanted message that have not arrived yet
        self._signal: dict[int, Any] = {}  # header fields of the wanted signal
        self._on_signal: Callable[[Message], None] = lambda _: None
        try:
            self._fd = _connect(address, deadline)
        except OSError as error:
            why = _reason(error.errno or 0)
            raise CgroupError(
                f"cannot connect to {what} at {address}: {why}",
                hint="pass --cgroup-manager cgroupfs to run without systemd",
            ) from error
        if name:
            self._send(*_BUS, "Hello", destination=_BUS[1])

    def close(self) -> None:
        """Close the connection, unless it is closed."""
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1

    def listen(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str,
        on_signal: "Callable[[Message], None]",
        rule: str = "",
    ) -> None:
        """Call `on_signal` for each signal of one kind. `rule` restricts the signals that a bus forwards.

        Any process on the bus may send such a signal straight to us, so `on_signal` must check its sender.
        """
        self._signal = {wire.PATH: path, wire.INTERFACE: interface, wire.MEMBER: member, wire.SIGNATURE: signature}
        self._on_signal = on_signal
        if self._name:
            kind = f"type='signal',sender='{self._name}',path='{path}',interface='{interface}',member='{member}'"
            self._send(*_BUS, "AddMatch", "s", kind + rule, destination=_BUS[1])

    def send(self, path: str, interface: str, member: str, signature: str = "", *arguments: "Any") -> int:
        """Queue a method call, which the next wait or `flush` sends. Returns its serial."""
        return self._send(path, interface, member, signature, *arguments, destination=self._name)

    def reply(self, serial: int, signature: "str | None" = None) -> "Message":
        """Wait for the reply to a call. `signature` is the expected one, None for any.

        Raises BusError for an error reply; CgroupError without a reply in time, or if it has another signature.
        """
        self.wait(lambda: serial in self._replies)
        message = self._replies.pop(serial)
        if message.kind == wire.ERROR:
            text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
            name = message.fields.get(wire.ERROR_NAME, "")
            raise BusError(name, text.rstrip(".") or name)
        if signature is not None and message.fields.get(wire.SIGNATURE, "") != signature:
            raise self._unexpected_reply()
        return message

    def call(self, path: str, interface: str, member: str, signature: str = "", *arguments: "Any") -> None:
        """Call a method and wait for the reply. Raises BusError, CgroupError."""
        self.reply(self.send(path, interface, member, signature, *arguments))

    def get(self, path: str, interface: str, name: str) -> str:
        """Return a property whose value is a string. Raises BusError, CgroupError."""
        value = self.reply(self.send(path, _PROPERTIES, "Get", "ss", interface, name), "v").body[0]
        if value.signature != "s":
            raise self._unexpected_reply()
        text: str = value.value
        return text

    def _unexpected_reply(self) -> CgroupError:
        return CgroupError(f"cannot talk to {self._what}: its reply has an unexpected type")

    def wait(self, done: "Callable[[], bool]") -> None:
        """Exchange messages until `done`. Raises CgroupError after the deadline, or if the other end hangs up."""
        poll = select.poll()
        while not done():
            poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._out else 0))
            left = self.deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise self._no_answer()
            self.flush()

    def _no_answer(self) -> CgroupError:
        why = f"no answer in {round(self._timeout, 1):g} s"
        return CgroupError(f"cannot talk to {self._what}: {why}", hint="it may be overloaded")

    def flush(self) -> None:
        """Exchange messages as far as that is possible without waiting. Raises CgroupError."""
        try:
            self._exchange()
        except (OSError, wire.MalformedMessage) as error:
            why = _reason(error.errno or 0) if isinstance(error, OSError) else f"malformed message: {error}"
            raise CgroupError(f"cannot talk to {self._what}: {why}") from error

    def _send(
        self, path: str, interface: str, member: str, signature: str = "", *arguments: "Any", destination: str = ""
    ) -> int:
        self._serial += 1
        fields = {wire.PATH: path, wire.INTERFACE: interface, wire.MEMBER: member}
        if destination:
            fields[wire.DESTINATION] = destination
        self._out += wire.encode(wire.CALL, self._serial, fields, signature, *arguments)
        self._unanswered.add(self._serial)
        return self._serial

    def _exchange(self) -> None:
        """Send as much as the socket accepts, and take the messages that have arrived."""
        if self._out:
            try:
                self._out = self._out[_native.send(self._fd, self._out) :]
            except BlockingIOError:
                pass
        try:
            data = posix.read(self._fd, 65536)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "")
        skipped = min(self._to_skip, len(data))
        self._to_skip -= skipped
        self._in += data[skipped:]
        if self._authenticated or self._authenticate():
            self._take_all()

    def _take_all(self) -> None:
        """Take every complete message, in time that is linear in their bytes, and not after the deadline."""
        at = 0
        while size := wire.size(self._in, at):
            if time.monotonic() > self.deadline:
                raise self._no_answer()
            if size <= _MAX_MESSAGE:
                found = wire.decode(self._in[at : at + size], self._is_wanted)
                if found is None:
                    break
                self._take(found[0])
            at += size
        self._to_skip += max(at - len(self._in), 0)
        self._in = self._in[at:]

    def _authenticate(self) -> bool:
        """Read the answers `DATA` and `OK GUID`. Returns whether the other end has accepted us."""
        while b"\r\n" in self._in:
            line, _, self._in = self._in.partition(b"\r\n")
            word = line.split(b" ")[0]
            if word == b"OK":
                self._authenticated = True
                return True
            if word != b"DATA":
                raise PermissionError(errno.EACCES, "")
        if len(self._in) > _MAX_LINE:
            raise wire.MalformedMessage("a line is too long")
        return False

    def _is_wanted(self, head: "Message") -> bool:
        """Whether the message is the reply to a call, or the signal of `listen`."""
        if head.kind == wire.SIGNAL:
            return bool(self._signal) and self._signal.items() <= head.fields.items()
        return head.kind in (wire.RETURN, wire.ERROR) and head.fields.get(wire.REPLY_SERIAL) in self._unanswered

    def _take(self, message: "Message") -> None:
        if not self._is_wanted(message):
            return
        if message.kind == wire.SIGNAL:
            self._on_signal(message)
            return
        serial = message.fields[wire.REPLY_SERIAL]
        self._unanswered.discard(serial)
        self._replies[serial] = message


# Engines read the kernel's words for these errors as a fault of the container's program.
_REASONS = {errno.ENOENT: "there is no such socket", errno.EACCES: "it rejects this user"}


def _reason(error: int) -> str:
    return _REASONS.get(error) or reason(error)


def user_bus() -> str:
    """Return the address of the user's bus. Later commands may have only XDG_RUNTIME_DIR to find it.

    Raises CgroupError.
    """
    environment = posix.environ
    address = environment.get(b"DBUS_SESSION_BUS_ADDRESS", b"")
    if not address:
        directory = environment.get(b"XDG_RUNTIME_DIR", b"")
        if not directory:
            raise CgroupError(
                "cannot find the user's systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set",
                hint="log in as this user, or pass --cgroup-manager cgroupfs",
            )
        address = b"unix:path=" + _escaped(directory) + b"/bus"
    return address.decode("utf-8", "surrogateescape")


def system_bus() -> str:
    """Return the address of the system's bus."""
    return posix.environ.get(b"DBUS_SYSTEM_BUS_ADDRESS", b"").decode("utf-8", "surrogateescape") or SYSTEM_BUS


_PLAIN = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz/.\\*"


def _escaped(path: bytes) -> bytes:
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02x" % byte for byte in path)


def _connect(address: str, deadline: float) -> int:
    """Return a non-blocking socket connected to the first address that accepts it. Raises OSError."""
    failure = OSError(errno.EPROTONOSUPPORT, "")
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        path = dict(pair.partition("=")[::2] for pair in rest.split(",")).get("path", "")
        if transport != "unix" or not path:
            continue
        try:
            return _connect_until(_unescaped(path), deadline)
        except OSError as error:
            failure = error
    raise failure


def _connect_until(path: str, deadline: float) -> int:
    """Connect to a socket. This polls, because the kernel does not report when a listener's queue has room."""
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_INTERVAL)


def _unescaped(value: str) -> str:
    """Decode the %xx in the value of an address. Raises OSError for a malformed one."""
    head, *rest = value.encode("utf-8", "surrogateescape").split(b"%")
    try:
        data = head + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in rest)
    except ValueError as error:
        raise OSError(errno.EINVAL, "") from error
    if b"\0" in data or any(len(part) < 2 for part in rest):
        raise OSError(errno.EINVAL, "")
    return data.decode("utf-8", "surrogateescape")


__all__ = ["Bus", "BusError", "system_bus", "user_bus"]
