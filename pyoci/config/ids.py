"""The names that callers choose: container ids."""

from pyoci.errors import PyociError

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")
_OTHERS = _FIRST | {"."}
# A name in a directory has at most 255 bytes, and 32 are kept for what is put around an id: `pyoci-ID.scope`.
_LONGEST = 255 - 32


def check_id(id: str) -> None:
    """Accept `id` as a container's id, or raise PyociError.

    An id names a directory under --root and a cgroup: ASCII letters, digits, `_`, `+`, `-` and `.`, not
    starting with a dot, 1 to 223 characters. So it is never a path, and never `..`.
    """
    if not id:
        raise PyociError("cannot use container ID ``: it is empty")
    if len(id) > _LONGEST:
        raise PyociError(f"cannot use container ID `{id[:16]}…`: it is longer than {_LONGEST} characters")
    if id[0] not in _FIRST or not _OTHERS.issuperset(id):
        wrong = [f"`{character}` in" for character in id if character not in _OTHERS] or ["`.` at the start of"]
        raise PyociError(
            f"cannot use container ID `{id}`: invalid character {wrong[0]} the ID: "
            "only letters, digits, `_`, `+`, `-` and `.` are allowed, and no dot at the start"
        )
