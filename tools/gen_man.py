"""Write the man pages in docs/man from the table of commands (pyoci/cli/table.py) and their help (pyoci/cli/help.py).

    python3 tools/gen_man.py [--check]

With --check it writes nothing, and fails if a page is outdated. Pages are Markdown; tools/share converts them to roff.
"""

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyoci.cgroups.units import ANNOTATED  # noqa: E402
from pyoci.cli.help import ABOUT, flags  # noqa: E402
from pyoci.cli.table import COMMANDS, GLOBAL_OPTIONS, Command  # noqa: E402
from tools import generated  # noqa: E402

if TYPE_CHECKING:
    from pyoci.cli.options import Option

DIRECTORY = ROOT / "docs" / "man"
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
    "checkpoint": "pyoci checkpoint --image-path /var/lib/images/web --tcp-established web\n"
    "pyoci checkpoint --pre-dump --image-path /var/lib/images/web-1 web\n"
    "pyoci checkpoint --parent-path ../web-1 --image-path /var/lib/images/web-2 web",
    "restore": "pyoci restore --bundle /bundles/web --image-path /var/lib/images/web --tcp-established --detach web",
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

**pyoci** creates and runs containers as the OCI Runtime Specification defines them. Container engines (Docker,
containerd, Podman, CRI-O, Buildah) call it, and users can call it, too. Its commands and options are those of runc(8) and
crun(1).

| command | |
|-|-|
{commands}

## OPTIONS

These options stand before the command. A name may have one dash or two. A value follows a space or `=`. The last of
repeated options counts.

{_options(GLOBAL_OPTIONS)}
## EXIT STATUS

0 on success, and 1 on failure, also for a wrong command line. `run` and `exec` in the foreground return the status of
their program, or 128 + N if signal N ended it. If `exec` itself fails, it returns 255.

## ERRORS

{ERRORS}
## ENVIRONMENT

- **XDG_RUNTIME_DIR**: its directory *pyoci* is the default of **--root**, unless the caller is root in the initial user
  namespace.
- **DBUS_SYSTEM_BUS_ADDRESS**, **DBUS_SESSION_BUS_ADDRESS**: the bus on which pyoci finds systemd. The defaults are
  */run/dbus/system_bus_socket* and, for a user, *$XDG_RUNTIME_DIR/bus*.
- **LISTEN_FDS**, **LISTEN_PID**: the descriptors that systemd passes to the container's program.
- **NOTIFY_SOCKET**: the socket on which systemd learns that the container's program is ready (sd_notify(3)). **start**
  waits for that.

## FILES

- */run/pyoci*: the states of the containers, one directory each.
- *config.json*: the configuration, in a container's bundle.
- */etc/criu/pyoci.conf*, or else *runc.conf* or *crun.conf* there: options of CRIU that override those of **checkpoint**
  and **restore**. Only root may be able to change the file.

## SYSTEMD

With **--systemd-cgroup**, `linux.cgroupsPath` is *SLICE:PREFIX:NAME*. It names the unit *PREFIX-NAME.scope* in *SLICE*, or
the slice *NAME* if that ends in `.slice`. The default is *pyoci-ID.scope* in *system.slice*. pyoci sets limits as
properties of the unit and in the files of its cgroup. If root calls pyoci, it talks to the system's systemd, otherwise to
the user's. Only **create** and **run** need the option, because pyoci remembers it for later commands.

An annotation `org.systemd.property.X` sets the property *X* of the unit. Its value has GVariant's text format: `'text'`,
`true`, `uint64 5`, `['crio.service']`. The value of *XSec* is in seconds. *X* is one of

{PROPERTIES}

*After* only accepts the services of container engines, and *CPUWeight* and *IOWeight* at most 100. A limit in config.json
overrides an annotation. For any other property pyoci only prints a warning.

## ANNOTATIONS

Three `annotations` change what pyoci does:

- `org.systemd.property.X` sets a property of the container's unit, as described above.
- `run.oci.keep_original_groups` with the value `1` keeps the supplementary groups of pyoci's caller, in place of
  `process.user.additionalGids`. Only a pyoci in a user namespace, or without CAP_SETGID, obeys it: an image must not get
  root's groups.
- `org.criu.config` names a file below */etc/criu* with options for CRIU, in place of */etc/criu/pyoci.conf*, *runc.conf*
  or *crun.conf* there. Only root may be able to change it. With an empty value CRIU gets no such file.

pyoci ignores all others. `run.oci.handler` and `module.wasm.image/variant` ask for another kind of container, such as a
virtual machine; pyoci runs the program in a plain container. **plan** lists the annotations that ask for something and
have no effect, and **create** warns about each.

## MOUNT OPTIONS

pyoci knows the options of the specification and two more:

- `tmpcopyup` fills a new tmpfs with the files that the image has at its mount point.
- `copy-symlink` is for a bind mount whose source is a symlink. It makes the destination a symlink with the same text,
  instead of mounting the symlink's target. Podman passes it for `--mount …,no-dereference`.

## SEE ALSO

systemd.scope(5), systemd.resource-control(5), the OCI Runtime Specification, <https://github.com/opencontainers/runtime-spec>
"""


_MORE = dict.fromkeys(("checkpoint", "restore"), "; criu(8); [checkpoint.md](../checkpoint.md)")


def command_page(verb: str, command: Command) -> str:
    """The page of one command."""
    shown = [option for option in command.options if not option.hidden]
    operands = "".join(" " + re.sub("[A-Z-]+", r"*\g<0>*", operand) for operand in command.operands)
    options = f"## OPTIONS\n\n{_options(command.options)}\n" if shown else ""
    return f"""\
# pyoci-{verb}(8)

## NAME

pyoci-{verb} - {command.summary}

## SYNOPSIS

**pyoci** [*GLOBAL OPTION*]... **{verb}**{" [*OPTION*]..." if shown else ""}{operands}

## DESCRIPTION

**pyoci {verb}** {ABOUT[verb]}

{options}## EXAMPLES

{_indent(EXAMPLES[verb])}

## SEE ALSO

[pyoci(8)](pyoci.8.md) for global options, errors and exit status{_MORE.get(verb, "")}
"""


def _options(options: "tuple[Option, ...]") -> str:
    shown = "".join(f"- **{flags(option)}**: {option.help}\n" for option in options if not option.hidden)
    hidden = [flags(option) for option in options if option.hidden]
    if hidden:
        shown += f"\nAccepted for callers that pass them to other runtimes, and ignored: {', '.join(hidden)}.\n"
    return shown


def _wrap(page: str) -> str:
    """The page with its paragraphs and lists wrapped."""
    return "\n\n".join(map(_wrap_block, page.split("\n\n"))).rstrip("\n") + "\n"


def _wrap_block(block: str) -> str:
    if block.startswith(("#", "|", "    ")):
        return block
    items = re.split(r"\n(?=- )", block.strip("\n"))
    hanging = "  " if block.lstrip("\n").startswith("- ") else ""
    wrap = textwrap.TextWrapper(120, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(wrap(" ".join(item.split())) for item in items)


def _indent(text: str) -> str:
    return "\n".join(f"    # {line}" for line in text.splitlines())


def pages() -> dict[Path, str]:
    """Every page, by its path."""
    made = {DIRECTORY / "pyoci.8.md": _wrap(program_page())}
    return made | {DIRECTORY / f"pyoci-{verb}.8.md": _wrap(command_page(verb, c)) for verb, c in COMMANDS.items()}


def outdated() -> list[Path]:
    """The pages that are missing, outdated, or belong to no command."""
    return generated.outdated(pages(), DIRECTORY.glob("*.md"))


if __name__ == "__main__":
    sys.exit(generated.main("gen_man.py", pages(), DIRECTORY.glob("*.md")))
