"""Paths of the container, as text. The compiler cleans them, the child resolves them; none is joined and opened."""


def clean(path: str) -> str:
    """`path` as an absolute path of the container without empty, `.` and `..` components."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def join(directory: str, path: str) -> str:
    """A host path that may be relative to `directory`. Absolute paths stay as they are."""
    return path if path.startswith("/") else f"{directory.rstrip('/')}/{path}"
