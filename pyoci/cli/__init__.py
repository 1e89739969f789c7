"""The command line: parse it, run the command, and report its error in one place."""

import posix

from pyoci.cli import failure
from pyoci.cli.call import Call, open_log
from pyoci.cli.log import Log
from pyoci.cli.options import Option, UnknownOption, Values, parse
from pyoci.cli.output import print_data
from pyoci.cli.table import COMMANDS, GLOBAL_BY_NAME, GLOBAL_OPTIONS, INTERNAL, UNSUPPORTED, Command
from pyoci.errors import PyociError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def main(argv: "list[str]") -> int:
    """Run the command line `argv`, without the program's name, and return the exit status. Raises nothing.

    The status is 0 on success and 1 on failure, also for a wrong command line, as in runc. `run` and `exec` in the
    foreground return the status of their program, or 128 + N if signal N ended it. A failure of `exec` itself is 255.
    """
    given = Values()
    try:
        return _dispatch(argv, given)
    except KeyboardInterrupt:
        return 128 + 2
    except BaseException as error:  # noqa: BLE001 - engines want one line, whatever went wrong
        try:
            return _fail(error, given)
        except MemoryError:
            posix.write(2, f"{failure.OUT_OF_MEMORY}\n".encode())
            return 1


def _dispatch(argv: "list[str]", given: Values) -> int:
    try:
        rest = parse(GLOBAL_BY_NAME, argv, given, mixed=False)
    except UnknownOption as error:
        others = [option for command in COMMANDS.values() for option in command.options]
        error.hint = _option_hint(error.name, GLOBAL_OPTIONS, ("after the command", others))
        raise
    if given.on("version"):
        return print_data(_version(given.text("criu")))
    verb, arguments = (rest[0], rest[1:]) if rest else ("help", [])
    if verb == "help" or given.on("help") or given.on("usage"):
        return _help(arguments[0] if arguments and verb == "help" else "", given)
    if verb in INTERNAL:
        return INTERNAL[verb]()
    if verb not in COMMANDS:
        raise _unknown(verb)
    return _run(verb, arguments, given)


def _run(verb: str, arguments: "list[str]", given: Values) -> int:
    command = COMMANDS[verb]
    options = Values()
    try:
        operands = parse(command.by_name, arguments, options, mixed=command.mixed)
        if options.on("help") or options.on("usage"):
            return _help(verb, options)
        _check_operands(command, operands)
    except UsageError as error:
        hint = ""
        if isinstance(error, UnknownOption):
            hint = _option_hint(error.name, command.options, (f"before `{verb}`", GLOBAL_OPTIONS))
        raise UsageError(f"{verb}: {error.message}", hint=hint or f"see `pyoci {verb} --help`") from error
    log = open_log(given, quiet=command.data)
    try:
        return command.run(Call(operands, options, given, log))
    except (PyociError, OSError, MemoryError, SystemError) as error:
        raise failure.of_command(verb, error, command.failure, log) from error.__cause__
    finally:
        log.close()


def _check_operands(command: Command, operands: "list[str]") -> None:
    if len(operands) < command.least:
        raise UsageError(f"needs {command.operands[len(operands)]}")
    if command.operands and command.operands[-1].endswith("..."):
        return
    if len(operands) > len(command.operands):
        raise UsageError(f"cannot use `{operands[len(command.operands)]}`: one argument too many")


def _fail(error: BaseException, given: Values) -> int:
    """Report `error` once, on standard error and in the log, and return the exit status."""
    error = failure.without_memory(error)
    try:
        log = open_log(given, quiet=False)
    except PyociError:  # perhaps `error` itself, which then goes to standard error
        log = Log()
    if isinstance(error, PyociError):
        log.error(str(error), kind=type(error).__name__, pointer=error.pointer, hint=error.hint)
    else:
        log.debug(failure.trace(error))
        log.error(f"internal error: {type(error).__name__}: {error}")
    log.close()
    return error.status if isinstance(error, PyociError) else 1


def _unknown(verb: str) -> UsageError:
    from pyoci.config import spelling

    if verb in UNSUPPORTED:
        return UsageError(UNSUPPORTED[verb])
    hint = spelling.hint(verb, COMMANDS) or "see `pyoci --help`"
    return UsageError(f"cannot run command `{verb}`: there is no such command", hint=hint)


def _option_hint(name: str, here: "Iterable[Option]", elsewhere: "tuple[str, Iterable[Option]]") -> str:
    """A hint for an option that is unknown `here`: where to write it, or a similar option; "" without a guess."""
    from pyoci.config import spelling

    place, others = elsewhere
    if any(name in option.names for option in others):
        return f"write it {place}"
    names = [each for option in here if not option.hidden for each in option.names if len(each) > 1]
    return spelling.hint(name, names, "--")


def _help(verb: str, given: Values) -> int:
    from pyoci.cli.help import of_command, of_program

    if verb and verb not in COMMANDS:
        raise _unknown(verb)
    whole = not given.on("usage")
    if verb:
        return print_data(of_command(verb, COMMANDS[verb], whole=whole))
    return print_data(of_program(COMMANDS, GLOBAL_OPTIONS, whole=whole))


def _version(criu: str) -> str:
    from pyoci.criu.installed import is_available
    from pyoci.version import COMMIT, SPEC, VERSION

    # dockerd takes the last line with the word "version" in it, and a line that starts with "commit:".
    commit = f"commit: {COMMIT}\n" if COMMIT else ""
    found = "+CRIU\n" if is_available(criu) else ""  # in the form of crun
    return f"pyoci version {VERSION}\n{commit}spec: {SPEC}\n{found}"
