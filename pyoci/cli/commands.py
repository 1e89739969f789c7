"""One short function for each command: from the command line to the work, and back to an exit status.

Imports are inside, so that a command loads only what it needs.
"""

import posix
import sys

from pyoci.cli import arguments
from pyoci.cli.output import print_containers, print_data, print_json, print_lines, problems, to_json
from pyoci.errors import CgroupError, PyociError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.cli.call import Call
    from pyoci.container import Container


def create(call: "Call") -> int:
    """`pyoci create ID`."""
    from pyoci.create import create

    create(arguments.create_request(call))
    return 0


def run(call: "Call") -> int:
    """`pyoci run ID`: the exit status is the program's, or 0 with --detach."""
    from pyoci.run import run

    options, request = call.options, arguments.create_request(call)
    detach, keep, no_subreaper = options.on("detach"), options.on("keep"), options.on("no-subreaper")
    return run(request, detach=detach, keep=keep, no_subreaper=no_subreaper)


def exec_process(call: "Call") -> int:
    """`pyoci exec ID [PROGRAM] [ARGUMENT]...`: the exit status is the program's, or 0 with --detach."""
    from pyoci.exec import execute

    request = arguments.exec_request(call)
    return execute(_load(call, call.id), request)


def checkpoint(call: "Call") -> int:
    """`pyoci checkpoint ID`. With --plan it changes nothing, and prints the plan and CRIU's request."""
    from pyoci.checkpoint import checkpoint, plan, undumpable
    from pyoci.cli import criu
    from pyoci.container import Container

    request = criu.checkpoint_request(call)
    if request.plan:
        container = _load(call, call.id)
        made = plan(container, request)
        problems = undumpable(container, request, made.request)
        return criu.print_plan(made.plan, made.request, request.plan, problems)
    container = Container.open(call.id, root=call.root)
    try:
        checkpoint(container, request)
    finally:
        _warn(call, container)
    return 0


def restore(call: "Call") -> int:
    """`pyoci restore ID`: the exit status is the program's, or 0 with --detach. With --plan it changes nothing."""
    from pyoci.cli import criu
    from pyoci.restore import plan, restore

    request = criu.restore_request(call)
    if request.plan:
        made = plan(request)
        return criu.print_plan(made.plan, made.request, request.plan)
    return restore(request)


def start(call: "Call") -> int:
    """`pyoci start ID`."""
    from pyoci.container import Container
    from pyoci.start import start

    container = Container.open(call.id, root=call.root)
    try:
        start(container)
    finally:
        _warn(call, container)
    return 0


def state(call: "Call") -> int:
    """`pyoci state ID`."""
    return print_json(_load(call, call.id).state(), indent=2)


def kill(call: "Call") -> int:
    """`pyoci kill ID [SIGNAL]`."""
    from pyoci.cli.signals import parse_signal
    from pyoci.kill import kill

    signal = parse_signal(call.operand(1, "TERM"))
    everyone = call.options.on("all")
    return _each(call, lambda name: kill(_load(call, name), signal, all=everyone))


def delete(call: "Call") -> int:
    """`pyoci delete ID`. Engines repeat `delete --force`, so it succeeds if the id is unknown."""
    from pyoci.errors import ContainerNotFound

    force = call.options.on("force")
    try:
        return _each(call, lambda name: _delete(call, name, force=force))
    except ContainerNotFound:
        if not force:
            raise
        return 0


def pause(call: "Call") -> int:
    """`pyoci pause ID`."""
    _load(call, call.id).pause()
    return 0


def resume(call: "Call") -> int:
    """`pyoci resume ID`."""
    _load(call, call.id).resume()
    return 0


def ps(call: "Call") -> int:
    """`pyoci ps ID [PS-OPTION]...`."""
    output = arguments.output_format(call)
    pids = _load(call, call.id).pids()
    if output == "json":
        return print_json(pids)
    from pyoci.cli.ps import table

    return print_data(table(pids, call.operands[1:]))


def update(call: "Call") -> int:
    """`pyoci update ID`."""
    from pyoci.cli import resources

    limits, schemas = arguments.resources(call), resources.schemas(call.options)
    container = _load(call, call.id)
    try:
        container.update(limits, schemas)
    except CgroupError as error:
        if not call.options.text("resources"):
            error.where = resources.option_of(error.where)
        raise
    return 0


def events(call: "Call") -> int:
    """`pyoci events ID`."""
    from pyoci.events import follow, statistics

    container = _load(call, call.id)
    interval = arguments.interval(call)
    if call.options.on("stats"):
        return print_json(statistics(container))
    for event in follow(container, interval):
        print_json(event)
    return 0


def move_net_devices() -> int:
    """Move network devices for `pyoci.host.net_devices`."""
    from pyoci.host import netlink

    return netlink.main()


def list_containers(call: "Call") -> int:
    """`pyoci list`."""
    from pyoci.listing import list_all

    output = arguments.output_format(call)
    states, failures = list_all(call.root, must_exist=call.root_given)
    status = print_containers(states, format=output, quiet=call.options.on("quiet"))
    if failures:
        raise PyociError("; ".join(failures))
    return status


def spec(call: "Call") -> int:
    """`pyoci spec`."""
    from pyoci.cli.output import write_new
    from pyoci.compiler.paths import join
    from pyoci.config import template

    config = template.default()
    if call.options.on("rootless"):
        config = template.rootless(config, posix.geteuid(), posix.getegid())
    directory, file = call.path("bundle"), call.options.text("file") or "config.json"
    write_new(join(directory, file) if directory else file, to_json(config, indent=2))
    return 0


def validate(call: "Call") -> int:
    """`pyoci validate [BUNDLE]`: 1 if the config has a fault. The report is data, for standard output."""
    from pyoci.config.report import report

    found = report(*arguments.read_config(call))
    if call.options.on("json"):
        print_json(problems(found), indent=2)
    else:
        print_lines(str(problem) for problem in found)
    return 1 if found else 0


def plan(call: "Call") -> int:
    """`pyoci plan [BUNDLE]`: root's plan, for every user."""
    from pyoci import config
    from pyoci.compiler import create, show
    from pyoci.host import facts

    configuration, warnings = config.load(*arguments.read_config(call))
    result = create.compile_container(configuration, facts.probe(call.root, as_root=True), arguments.plan_options(call))
    for warning in [*warnings, *result.warnings]:
        call.log.warning(warning)
    if call.options.on("json"):
        return print_data(show.as_json(result))
    return print_lines(show.text(result).removesuffix("\n").split("\n"))


def features(call: "Call") -> int:
    """`pyoci features`."""
    from pyoci.compiler.features import document
    from pyoci.criu import installed

    return print_json(document(checkpoint=installed.is_available(call.criu)), indent=2)


def _load(call: "Call", id: str) -> "Container":
    from pyoci.container import Container

    return Container.load(id, root=call.root)


def _delete(call: "Call", name: str, *, force: bool) -> None:
    from pyoci.container import Container
    from pyoci.delete import delete

    container = Container.open(name, root=call.root)
    delete(container, force=force)
    _warn(call, container)


def _warn(call: "Call", container: "Container") -> None:
    """Log what went wrong in the container's last operation without making it fail."""
    for warning in container.warnings:
        call.log.warning(warning)


def _each(call: "Call", act: "Callable[[str], None]") -> int:
    """Call `act` for the container that the call names or, with --regex, for each whose id matches."""
    if not call.options.on("regex"):
        act(call.id)
        return 0
    names, failures = _matching(call)
    for name in names:
        try:
            act(name)
        except PyociError as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise PyociError("; ".join(failures))
    return 0


def _matching(call: "Call") -> "tuple[list[str], list[str]]":
    """The ids that the pattern matches, and the failures to read a container."""
    from pyoci.listing import list_all

    sys.warnoptions = ["ignore"]  # `re` warns about some patterns, and CPython's core has no such list
    import re

    try:
        pattern = re.compile(call.id)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"cannot use regular expression `{call.id}`: {error}") from error
    states, failures = list_all(call.root)
    names = [state["id"] for state in states if pattern.search(state["id"])]
    return names, failures
