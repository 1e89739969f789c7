"""Paths as text. The compiler only cleans a path of the container. The child resolves it below the container's root."""

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where the runtime, and CRIU on its behalf, look for programs of the host."""


def clean(path: str) -> str:
    """Return `path` as an absolute path of the container without empty, `.` and `..` components."""
    if path[:1] == "/" and path[-1] != "/" and "//" not in path and "/." not in path:
        return path  # like nearly all
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def join(directory: str, path: str) -> str:
    """Return a host path that may be relative to `directory`. Absolute paths stay unchanged."""
    return path if path.startswith("/") else f"{directory.rstrip('/')}/{path}"
