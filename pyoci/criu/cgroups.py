"""What cgroup.img says, and which cgroups CRIU would change on the host. Pure.

CRIU makes every cgroup of the image that is missing, and gives each one the owner and mode in the image. It replaces a
path in the image by that of the container's cgroup only if the two begin alike. `check` computes the paths as CRIU
does, and accepts none outside the container's cgroup.
"""

from pyoci.config.text import printable
from pyoci.errors import PyociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyoci.criu.messages import Message

    Permissions = tuple[int, int, int]  # mode, uid, gid

_MAX_DEPTH = 64
_MODE_BITS = 0o7777
_V2 = b""  # the controller of cgroup v2


class Member:
    """A cgroup of a thread: its path, and the length of the path of the cgroup namespace's root, None without one."""

    __slots__ = ("path", "prefix")

    def __init__(self, message: "Message") -> None:
        self.path = _bytes(message.text(2))
        self.prefix = message.number(3) if message.has(3) else None
        if self.prefix is not None and not 0 < self.prefix <= len(self.path):
            raise ValueError("a cgroup is outside its cgroup namespace")


class Directory:
    """A cgroup that CRIU makes: its path below the controller, and its mode and owner, None without."""

    __slots__ = ("children", "name", "permissions")

    def __init__(self, message: "Message", depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("its cgroups are nested too deep")
        self.name = _bytes(message.text(1))
        self.children = [Directory(each, depth + 1) for each in message.messages(2)]
        self.permissions: Permissions | None = None
        if message.has(4):
            has = message.message(4)
            self.permissions = has.number(1) & _MODE_BITS, has.number(2), has.number(3)

    def below(self, directory: bytes) -> "Iterator[tuple[bytes, Directory]]":
        """Yield the path of each cgroup, if this one is in `directory`, and the cgroup."""
        path = directory + b"/" + self.name
        yield path, self
        for child in self.children:
            yield from child.below(path)


class Cgroups:
    """cgroup.img.

    of_threads      the cgroups of threads: paths by controller, which is "" for cgroup v2
    below_root      those whose cgroup v2 is below the root of their cgroup namespace
    names, paths    every name. CRIU makes paths of them: `paths` may have several components, `names` only one.
    members         the cgroups of threads, by controller
    directories     controllers that are mounted together, and the cgroups in them
    """

    __slots__ = ("below_root", "directories", "members", "names", "of_threads", "paths")

    def __init__(self, message: "Message") -> None:
        self.of_threads = {each.number(1): _members(each) for each in message.messages(1)}
        self.below_root = {each.number(1) for each in message.messages(1) if _is_below_root(each)}
        self.members = [
            (_bytes(member.text(1)), Member(member)) for each in message.messages(1) for member in each.messages(2)
        ]
        self.directories = [
            ([_bytes(name) for name in each.texts(1)], [Directory(found) for found in each.messages(2)])
            for each in message.messages(2)
        ]
        self.names: list[str] = []
        self.paths: list[str] = []
        for members in self.of_threads.values():
            self.names += members.keys()
            self.paths += members.values()
        for controller in message.messages(2):
            self.names += controller.texts(1)
            self._add(controller.messages(2), 0)

    def _add(self, directories: "list[Message]", depth: int) -> None:
        for directory in directories:
            self.paths.append(directory.text(1))
            self.names += [each.text(1) for each in directory.messages(3)]
            self._add(directory.messages(2), depth + 1)


def _members(message: "Message") -> "dict[str, str]":
    found = {member.text(1): member.text(2) for member in message.messages(2)}
    if len(found) < len(message.messages(2)):
        raise ValueError("a thread has two cgroups of a controller")
    return found


def _is_below_root(message: "Message") -> bool:
    """Whether the path goes on behind the root of a cgroup namespace. CRIU has the length of that if there is one."""
    return any(0 < member.number(3, 0) < len(member.text(2)) for member in message.messages(2) if not member.text(1))


def check(cgroups: Cgroups, root: str, state: "Callable[[str], Permissions | None]", *, soft: bool) -> None:
    """Raise PyociError if CRIU would change a cgroup outside `root`, the path of the container's cgroup.

    On hosts that mount cgroup v1, too, the image has all cgroups there. `state` returns mode and owner of such a cgroup
    from its path below /sys/fs/cgroup, None if it is missing. In the mode `soft` CRIU changes no other property of
    cgroups that exist, so these must be as in the image.
    """
    for controllers, directories in cgroups.directories:
        if controllers == [_V2]:
            continue
        if not controllers or _V2 in controllers:
            raise _refusal("it has cgroup v2 among other controllers")
        place = b",".join(name.removeprefix(b"name=") for name in controllers)
        for directory in directories:
            for path, found in directory.below(place):
                if not soft or found.permissions is None or state(_text(path)) != found.permissions:
                    raise _refusal(f"CRIU would change the cgroup {printable(_text(path))} of cgroup v1")
    for path in _changed(cgroups, _bytes(root)):
        if not _is_below(path, _bytes(root)):
            raise _refusal(f"CRIU would change the cgroup {printable(_text(path))}, which is not the container's")


def _changed(cgroups: Cgroups, root: bytes) -> "Iterator[bytes]":
    """Yield each path in cgroup v2 that CRIU would make or move processes to, after it has put `root` into them.

    See rewrite_cgsets in CRIU's criu/cgroup.c.
    """
    paths = [(member.path, member.prefix) for controller, member in cgroups.members if controller == _V2]
    for controllers, directories in cgroups.directories:
        for directory in directories if controllers == [_V2] else ():
            name = directory.name
            renamed = b""
            for n, (path, prefix) in enumerate(paths):
                if not path[1:].startswith(name):
                    continue
                if prefix is None:
                    paths[n] = root + path[len(name) + 1 :], None
                    renamed = renamed or root
                else:
                    if prefix - 1 > len(name):
                        raise _refusal("a cgroup is above the root of its cgroup namespace")
                    paths[n] = root + path[prefix:], len(root)
                    renamed = renamed or root + name[prefix - 1 :]
            for child, _ in directory.below(b""):
                yield (b"/" + renamed if renamed else b"/" + name) + child[len(name) + 1 :]
    for path, prefix in paths:
        yield path
        yield path[:prefix]


def _is_below(path: bytes, root: bytes) -> bool:
    path = b"/" + path.lstrip(b"/")
    return path == root or path.startswith(root + b"/")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _refusal(why: str) -> PyociError:
    return PyociError(f"cannot restore the container: checkpoint image cgroup.img is not usable: {why}")


__all__ = ["Cgroups", "check"]
