"""Whether other users can change a file or directory that the runtime trusts: code, programs, configuration."""

import posix

_GROUP_WRITABLE, _OTHER_WRITABLE, _STICKY = 0o020, 0o002, 0o1000


class Untrusted(Exception):
    """Other users can change the file or directory. The message says which part of its path, and why."""


def check(path: str) -> None:
    """Raise Untrusted unless only root, or the user who runs pyoci, can change what the absolute `path` leads to.

    Checks every directory on the way, with symbolic links resolved. A sticky directory (/tmp) protects the entries of
    other users. Accepts a missing file that no other user can create.
    """
    user = posix.geteuid()
    forbidden = _OTHER_WRITABLE | (_GROUP_WRITABLE if user == 0 else 0)
    names = _resolve(path)
    open_to_others = 0
    for depth in range(len(names) + 1):
        part = "/" + "/".join(names[:depth])
        try:
            status = posix.lstat(part)
        except FileNotFoundError:
            if open_to_others:
                raise Untrusted(f"others can make {part}") from None
            return
        open_to_others = status.st_mode & forbidden
        if status.st_uid not in (0, user):
            raise Untrusted(f"{part} belongs to user {status.st_uid}")
        if open_to_others and (depth == len(names) or not status.st_mode & _STICKY):
            raise Untrusted(f"{part} can be written by others")


def _resolve(path: str) -> "list[str]":
    """The names on the way from / to `path`, with symbolic links resolved."""
    todo = [name for name in path.split("/") if name][::-1]
    done: list[str] = []
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            done = done[:-1]
            continue
        if name == ".":
            continue
        try:
            link = posix.readlink("/" + "/".join([*done, name]))
        except OSError:  # not a link, or missing
            done.append(name)
            continue
        links += 1
        if links > 40:
            raise Untrusted("too many levels of symbolic links")
        if link.startswith("/"):
            done = []
        todo += [part for part in link.split("/") if part][::-1]
    return done


__all__ = ["Untrusted", "check"]
