"""Writes the manual pages in docs/man from the command table (pyoci/cli.py) and its explanations (pyoci/cli/usage.py).

    python3 tools/gen_man.py [--check]

With --check it writes nothing, and fails if a page is not what it would write. Pages are Markdown; `pandoc -s -t man`
makes roff of them.
"""

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyoci.cgroups.units import ANNOTATED  # noqa: E402
from pyoci.cli import COMMANDS, GLOBAL_OPTIONS, Command, usage  # noqa: E402

if TYPE_CHECKING:
    from pyoci.cli.options import Option

FOLDER = ROOT / "docs" / "man"
PROPERTIES = textwrap.fill(", ".join(f"*{name}*" for name in ANNOTATED) + ".", 120)

ERRORS = """\
A command that fails writes its error last, as one line on standard error and one line in `--log`. The log gets other
messages only if `--debug` or `--log-level` asks for them. A failed command leaves nothing behind.

With `--log-format json`, a line of the log is an object with these keys:

- **level**: *error*, *warning*, *info* or *debug*.
- **msg**: the whole message.
- **time**: the time in UTC, as in RFC 3339.
- **error**: the class of an error that pyoci expects, such as *ContainerNotFound* or *StatusError*.
- **pointer**: for an error that has one, the JSON pointer (RFC 6901) to the value at fault in *config.json*, or in the
  file of `--process` or `--resources`.
- **hint**: for an error that has one, what the caller can do.

If a line would be longer than 8191 bytes, pyoci leaves out **error**, **pointer** and **hint**, then shortens **msg**.
"""

EXAMPLES = {
    "create": "pyoci create --bundle /bundles/web --pid-file /run/web.pid web",
    "exec": "pyoci exec --tty web sh\npyoci exec --user 1000 --env A=b --detach --pid-file /run/job.pid web job",
    "start": "pyoci start web",
    "run": "pyoci run --bundle /bundles/web web",
    "state": "pyoci state web",
    "kill": "pyoci kill web TERM\npyoci kill --all web 9",
    "delete": "pyoci delete web\npyoci delete --force web",
    "pause": "pyoci pause web",
    "resume": "pyoci resume web",
    "ps": "pyoci ps web\npyoci ps web -o pid,args\npyoci ps --format json web",
    "update": "pyoci update --memory 512m --pids-limit 100 web\n"
    """echo '{"cpu": {"quota": 50000}}' | pyoci update --resources - web""",
    "events": "pyoci events --stats web\npyoci events --interval 1s web",
    "list": "pyoci list\npyoci --root /run/user/1000/pyoci list --format json",
    "spec": "mkdir -p /bundles/web/rootfs\npyoci spec --bundle /bundles/web",
    "validate": "pyoci validate /bundles/web\npyoci validate --json --config config.json",
    "plan": "pyoci plan /bundles/web",
    "features": "pyoci features",
}


def program_page() -> str:
    """The page of the program itself: global options, files, environment, exit status."""
    commands = "\n".join(f"| [{verb}](pyoci-{verb}.8.md) | {c.summary} |" for verb, c in COMMANDS.items())
    return f"""\
# pyoci(8)

## NAME

pyoci - a low-level OCI container runtime

## SYNOPSIS

**pyoci** [*OPTION*]... *COMMAND* [*ARGUMENT*]...

## DESCRIPTION

pyoci makes containers as the OCI Runtime Specification describes them. Engines (Docker, containerd, Podman, CRI-O,
Buildah) call it; a person may, too. Commands and options are those of runc(8) and crun(1).

| command | |
|-|-|
{commands}

## OPTIONS

They stand before the command. A name may have one dash or two, a value may follow a space or `=`, and the last of
repeated options counts.

{_options(GLOBAL_OPTIONS)}
## EXIT STATUS

0 on success, 1 on any failure, a wrong command line among them. `run` and `exec` in the foreground return the status of
their program, or 128 + N if signal N ended it; when `exec` itself fails it is 255.

## ERRORS

{ERRORS}
## ENVIRONMENT

- **XDG_RUNTIME_DIR**: where states are kept by default, for a caller who is not root, or is root in a user namespace.
- **DBUS_SYSTEM_BUS_ADDRESS**, **DBUS_SESSION_BUS_ADDRESS**: the bus by which to find systemd, if it is not */run/dbus/system_bus_socket*,
  and for a user *$XDG_RUNTIME_DIR/bus*.
- **LISTEN_FDS**, **LISTEN_PID**: descriptors that systemd passes to the container's program.
- **NOTIFY_SOCKET**: where systemd is told that the container's program is ready (sd_notify(3)); **start** waits for that.

## FILES

- */run/pyoci*: the state of containers, one folder each.
- *config.json*: the configuration, in a container's bundle.

## SYSTEMD

With **--systemd-cgroup**, `linux.cgroupsPath` is *SLICE:PREFIX:NAME*: the unit *PREFIX-NAME.scope* in *SLICE*, or the slice *NAME* if
it ends in `.slice`; without one, *pyoci-ID.scope* in *system.slice*. Limits are properties of the unit and in its cgroup's files.
Root talks to the system's systemd, others to their own. Only **create** and **run** need the option: it is remembered.

An annotation `org.systemd.property.X` sets the unit's property *X* to a value in GVariant's text format: `'text'`, `true`,
`uint64 5`, `['crio.service']`; of *XSec* the value is in seconds. *X* is one of

{PROPERTIES}

*After* takes the services of container engines alone, and *CPUWeight* and *IOWeight* at most 100. A limit that config.json sets comes
first. Any other property has no effect but a warning.

## ANNOTATIONS

Two `annotations` change what pyoci does: `org.systemd.property.X`, see above, and `run.oci.keep_original_groups`. With the value
`1` the process keeps the supplementary groups of pyoci's caller, in place of `process.user.additionalGids`. Only a pyoci in a user
namespace, or of a user without CAP_SETGID, heeds it: root's groups are not an image's to take.

`run.oci.handler` and `module.wasm.image/variant` ask for another kind of container, such as a virtual machine. pyoci runs the program in
a plain container. **plan** shows each of these annotations that has no effect, and **create** warns about it.

## MOUNT OPTIONS

Beside the specification's options, `tmpcopyup` fills a new tmpfs with what the image has there, and `copy-symlink`, on a bind mount
whose source is a symlink, makes the destination a link of the same text in place of a mount of what it leads to. Podman's
`--mount …,no-dereference` asks for the latter.

## SEE ALSO

systemd.scope(5), systemd.resource-control(5), the OCI Runtime Specification, <https://github.com/opencontainers/runtime-spec>
"""


def command_page(verb: str, command: Command) -> str:
    """The page of one command."""
    shown = [option for option in command.options if not option.hidden]
    operands = "".join(
        f" [*{operand.strip('[]')}*]" if operand.startswith("[") else f" *{operand}*" for operand in command.operands
    )
    options = f"## OPTIONS\n\n{_options(command.options)}\n" if shown else ""
    return f"""\
# pyoci-{verb}(8)

## NAME

pyoci-{verb} - {command.summary}

## SYNOPSIS

**pyoci** [*GLOBAL OPTION*]... **{verb}**{" [*OPTION*]..." if shown else ""}{operands}

## DESCRIPTION

{usage.ABOUT[verb]}

{options}## EXAMPLES

{_indent(EXAMPLES[verb])}

## SEE ALSO

[pyoci(8)](pyoci.8.md) for global options, errors and exit status
"""


def _options(options: "tuple[Option, ...]") -> str:
    shown = "".join(f"- **{usage.flags(option)}**: {option.help}\n" for option in options if not option.hidden)
    hidden = [usage.flags(option) for option in options if option.hidden]
    if hidden:
        shown += f"\nAccepted, without effect, since callers of other runtimes pass them: {', '.join(hidden)}.\n"
    return shown


def _indent(text: str) -> str:
    return "\n".join(f"    # {line}" for line in text.splitlines())


def pages() -> dict[Path, str]:
    """Every page, by its path."""
    made = {FOLDER / "pyoci.8.md": program_page()}
    return made | {FOLDER / f"pyoci-{verb}.8.md": command_page(verb, c) for verb, c in COMMANDS.items()}


def outdated() -> list[Path]:
    """The pages that are missing, differ, or belong to no command."""
    wanted = pages()
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    return changed + [path for path in FOLDER.glob("*.md") if path not in wanted]


def main() -> int:
    """Write or check the pages; the exit status."""
    paths = outdated()
    if "--check" in sys.argv[1:]:
        for path in paths:
            sys.stderr.write(f"{path.relative_to(ROOT)} is outdated: run tools/gen_man.py\n")
        return 1 if paths else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path in pages():
            path.write_text(pages()[path])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
