"""The table of `ps`: the lines of the host's ps(1) for the container's processes."""

import posix

from pyoci.errors import PyociError, reason
from pyoci.host import files

# Not looked up in PATH: an engine may call pyoci with an empty environment.
PLACES = ("/usr/bin/ps", "/bin/ps")


def table(pids: "list[int]", options: "list[str]") -> str:
    """The lines of ps(1), called with `options` (default: -ef), that have one of `pids` in the column PID."""
    lines = _run([*options] or ["-ef"]).splitlines()
    if not lines or "PID" not in lines[0].split():
        raise PyociError("cannot list processes: ps shows no column PID", hint="choose PS-OPTIONs that print it")
    column = lines[0].split().index("PID")
    wanted = set(map(str, pids))
    kept = [line for line in lines[1:] if len(line.split()) > column and line.split()[column] in wanted]
    return "\n".join([lines[0], *kept]) + "\n"


def _run(options: "list[str]") -> str:
    program = next((path for path in PLACES if files.exists(path)), "")
    if not program:
        raise PyociError("cannot list processes: this host has no ps", hint="install procps, or use --format json")
    out, into = posix.pipe2(posix.O_CLOEXEC)
    actions = [(posix.POSIX_SPAWN_DUP2, into, 1), (posix.POSIX_SPAWN_DUP2, into, 2)]
    try:
        pid = posix.posix_spawn(program, ["ps", *options], {b"LC_ALL": b"C"}, file_actions=actions)
    except OSError as error:
        raise PyociError(f"cannot run {program}: {reason(error.errno or 0)}") from error
    finally:
        posix.close(into)
    text = b""
    while part := posix.read(out, 65536):
        text += part
    posix.close(out)
    _, status = posix.waitpid(pid, 0)
    if status:
        raise PyociError(f"cannot list processes: ps: {text.decode('utf-8', 'backslashreplace').strip()}")
    return text.decode("utf-8", "surrogateescape")
