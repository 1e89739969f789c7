"""Check the names that callers choose: container ids."""

from pyoci.errors import PyociError

# A file name has at most 255 bytes, and pyoci adds up to 32 to an id, as in `pyoci-ID.scope`.
MAX_ID = 255 - 32


def check_id(id: str) -> None:
    """Raise PyociError unless `id` can be the id of a container.

    An id has 1 to 223 ASCII letters, digits, `_`, `+`, `-` and `.`, and does not start with a dot. It names a
    directory under --root and a cgroup, so it must never be a path or `..`.
    """
    if not id:
        raise PyociError("cannot use container ID ``: it is empty")
    if len(id) > MAX_ID:
        raise PyociError(f"cannot use container ID `{id[:16]}…`: it is longer than {MAX_ID} characters")
    rest = id.replace("_", "").replace("+", "").replace("-", "").replace(".", "")
    if id[0] == "." or not id.isascii() or (rest and not rest.isalnum()):
        wrong = [f"`{character}` in" for character in rest if not (character.isascii() and character.isalnum())]
        raise PyociError(
            f"cannot use container ID `{id}`: invalid character {(wrong or ['`.` at the start of'])[0]} the ID: "
            "only letters, digits, `_`, `+`, `-` and `.` are allowed, and no dot at the start"
        )
