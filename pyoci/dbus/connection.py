"""A connection to a D-Bus: to a bus, or to a program that speaks it without one. Nobody is waited for without an end.

Implements "Authentication Protocol" and "Server Addresses" of the D-Bus Specification. What does not depend on an
answer is sent ahead of it.
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
_THE_BUS = ("/org/freedesktop/DBus", "org.freedesktop.DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"

# EXTERNAL without an identity: the peer asks the kernel who we are. In a user namespace our own word would be wrong.
_AUTHENTICATION = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_LONGEST_LINE = 16384
# Bytes of a message that anybody here could have asked for: larger ones are another's, who only keeps us busy.
_LARGEST = 65536


class BusError(CgroupError):
    """The other side refused a call: `name` is its error's, such as org.freedesktop.systemd1.UnitExists."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Bus:
    """One connection. `deadline`, by time.monotonic, is the end of all waiting on it.

    `name` is whom the calls are for, "" where there is no bus between; `what` is it, for errors. Raises CgroupError.
    """

    def __init__(self, address: str, name: str, what: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline
        self._patience = deadline - time.monotonic()
        self._name = name
        self._what = what
        self._serial = 0
        self._in = b""
        self._out = _AUTHENTICATION
        self._greeted = False
        self._replies: dict[int, Message] = {}
        self._unanswered: set[int] = set()
        self._skipped = 0  # bytes of a message that are still to come, for nobody
        self._signal: dict[int, Any] = {}  # the header fields of those to hear
        self._hear: Callable[[Message], None] = lambda _: None
        try:
            self._fd = _connect(address, deadline)
        except OSError as error:
            why = _reason(error.errno or 0)
            raise CgroupError(
                f"cannot connect to {what} at {address}: {why}",
                hint="cgroups without systemd: --cgroup-manager cgroupfs",
            ) from error
        if name:
            self._send(*_THE_BUS, "Hello", destination=_THE_BUS[1])

    def close(self) -> None:
        """Hang up; a second time is no error."""
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1

    def listen(
        self, path: str, interface: str, member: str, signature: str, hear: "Callable[[Message], None]", rule: str = ""
    ) -> None:
        """Have `hear` called for one kind of signal, of which a bus passes on those that `rule` leaves of them.

        Whoever is on the bus may send one of it straight to us: `hear` has to look at its sender.
        """
        self._signal = {wire.PATH: path, wire.INTERFACE: interface, wire.MEMBER: member, wire.SIGNATURE: signature}
        self._hear = hear
        if self._name:
            kind = f"type='signal',sender='{self._name}',path='{path}',interface='{interface}',member='{member}'"
            self._send(*_THE_BUS, "AddMatch", "s", kind + rule, destination=_THE_BUS[1])

    def send(self, path: str, interface: str, member: str, signature: str = "", *arguments: "Any") -> int:
        """Call a method, once there is something to wait for; the number of the call."""
        return self._send(path, interface, member, signature, *arguments, destination=self._name)

    def reply(self, serial: int, signature: "str | None" = None) -> "Message":
        """The answer to a call, of this signature if there is one to expect.

        Raises BusError, or CgroupError if there is none in time or it is of another signature.
        """
        self.wait(lambda: serial in self._replies)
        message = self._replies.pop(serial)
        if message.kind == wire.ERROR:
            text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
            name = message.fields.get(wire.ERROR_NAME, "")
            raise BusError(name, text.rstrip(".") or name)
        if signature is not None and message.fields.get(wire.SIGNATURE, "") != signature:
            raise self._odd_answer()
        return message

    def call(self, path: str, interface: str, member: str, signature: str = "", *arguments: "Any") -> None:
        """Call a method and wait until it is done. Raises BusError, CgroupError."""
        self.reply(self.send(path, interface, member, signature, *arguments))

    def get(self, path: str, interface: str, name: str) -> str:
        """A property whose value is a string. Raises BusError, CgroupError."""
        value = self.reply(self.send(path, _PROPERTIES, "Get", "ss", interface, name), "v").body[0]
        if value.signature != "s":
            raise self._odd_answer()
        text: str = value.value
        return text

    def _odd_answer(self) -> CgroupError:
        return CgroupError(f"cannot talk to {self._what}: its answer is not of the type that it should be")

    def wait(self, done: "Callable[[], bool]") -> None:
        """Exchange messages until it is `done`. Raises CgroupError when the deadline comes first, or the other side
        goes away."""
        poll = select.poll()
        while not done():
            poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._out else 0))
            left = self.deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise self._late()
            self.flush()

    def _late(self) -> CgroupError:
        why = f"no answer in {round(self._patience, 1):g} s"
        return CgroupError(f"cannot talk to {self._what}: {why}", hint="is it overloaded?")

    def flush(self) -> None:
        """Exchange what can be at once. Raises CgroupError."""
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
        """Send what there is room for, take what has come."""
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
        skipped = min(self._skipped, len(data))
        self._skipped -= skipped
        self._in += data[skipped:]
        if self._greeted or self._greet():
            self._take_all()

    def _take_all(self) -> None:
        """Take every message that is all there: in time that grows with their bytes, and not past the deadline."""
        at = 0
        while size := wire.size(self._in, at):
            if time.monotonic() > self.deadline:
                raise self._late()
            if size <= _LARGEST:
                found = wire.decode(self._in[at : at + size], self._is_wanted)
                if found is None:
                    break
                self._take(found[0])
            at += size
        self._skipped += max(at - len(self._in), 0)
        self._in = self._in[at:]

    def _greet(self) -> bool:
        """Whether the other side has taken us in: it answers `DATA` and `OK GUID`."""
        while b"\r\n" in self._in:
            line, _, self._in = self._in.partition(b"\r\n")
            word = line.split(b" ")[0]
            if word == b"OK":
                self._greeted = True
                return True
            if word != b"DATA":
                raise PermissionError(errno.EACCES, "")
        if len(self._in) > _LONGEST_LINE:
            raise wire.MalformedMessage("a line is too long")
        return False

    def _is_wanted(self, head: "Message") -> bool:
        """Whether it is an answer to a call, or a signal to hear."""
        if head.kind == wire.SIGNAL:
            return bool(self._signal) and self._signal.items() <= head.fields.items()
        return head.kind in (wire.RETURN, wire.ERROR) and head.fields.get(wire.REPLY_SERIAL) in self._unanswered

    def _take(self, message: "Message") -> None:
        if not self._is_wanted(message):
            return
        if message.kind == wire.SIGNAL:
            self._hear(message)
            return
        serial = message.fields[wire.REPLY_SERIAL]
        self._unanswered.discard(serial)
        self._replies[serial] = message


# Engines take the kernel's words for these as being about the container's program.
_WITHOUT = {errno.ENOENT: "there is no such socket", errno.EACCES: "it refuses this user"}


def _reason(error: int) -> str:
    return _WITHOUT.get(error) or reason(error)


def user_bus() -> str:
    """The address of the user's bus. Later commands may have nothing but XDG_RUNTIME_DIR to find it by."""
    environment = posix.environ
    address = environment.get(b"DBUS_SESSION_BUS_ADDRESS", b"")
    if not address:
        folder = environment.get(b"XDG_RUNTIME_DIR", b"")
        if not folder:
            raise CgroupError(
                "cannot find the user's systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set",
                hint="log in as this user, or run with --cgroup-manager cgroupfs",
            )
        address = b"unix:path=" + _escaped(folder) + b"/bus"
    return address.decode("utf-8", "surrogateescape")


def system_bus() -> str:
    """The address of the system's bus."""
    return posix.environ.get(b"DBUS_SYSTEM_BUS_ADDRESS", b"").decode("utf-8", "surrogateescape") or SYSTEM_BUS


_PLAIN = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz/.\\*"


def _escaped(path: bytes) -> bytes:
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02x" % byte for byte in path)


def _connect(address: str, deadline: float) -> int:
    """A socket, which never blocks, connected to the first of the addresses that takes us. Raises OSError."""
    failure = OSError(errno.EPROTONOSUPPORT, "")
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        path = dict(pair.partition("=")[::2] for pair in rest.split(",")).get("path", "")
        if transport != "unix" or not path:
            continue
        try:
            return _connect_patiently(_unescaped(path), deadline)
        except OSError as error:
            failure = error
    raise failure


def _connect_patiently(path: str, deadline: float) -> int:
    """Nothing tells when there is room in a listener's queue: it is tried again and again."""
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _unescaped(value: str) -> str:
    """Without the %xx of an address' value. Raises OSError for one that is malformed."""
    head, *rest = value.encode("utf-8", "surrogateescape").split(b"%")
    try:
        data = head + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in rest)
    except ValueError as error:
        raise OSError(errno.EINVAL, "") from error
    if b"\0" in data or any(len(part) < 2 for part in rest):
        raise OSError(errno.EINVAL, "")
    return data.decode("utf-8", "surrogateescape")


__all__ = ["Bus", "BusError", "system_bus", "user_bus"]
