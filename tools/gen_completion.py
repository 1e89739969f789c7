"""Write the completion of bash, zsh and fish in contrib/completion from the table of commands (pyoci/cli/table.py).

    python3 tools/gen_completion.py [--check]

With --check it writes nothing, and fails if a file is outdated. The parts of each shell that don't depend on the table
are in this file, too.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyoci.cli.call import CGROUP_MANAGERS  # noqa: E402
from pyoci.cli.signals import SIGNALS  # noqa: E402
from pyoci.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP  # noqa: E402
from pyoci.config.constants import CAPABILITIES  # noqa: E402
from tools import generated  # noqa: E402

if TYPE_CHECKING:
    from pyoci.cli.options import Option

DIRECTORY = ROOT / "contrib/completion"

# A kind says what completes a value: `files`, `directories`, `words` and the words, `containers` and the statuses that
# the container may have (any if it names no status), or "" if nothing can.
KINDS = {"DIR": "directories", "FILE": "files", "SOCKET": "files", "DEST": "files"}
KINDS_OF_OPTIONS = {
    "log-format": "words text json",
    "log-level": "words error warning info debug",
    "cgroup-manager": f"words {' '.join(CGROUP_MANAGERS)}",
    "criu": "files",
    "format": "words table json",
    "manage-cgroups-mode": "words soft full strict ignore",
    "network-lock": "words iptables nftables skip",
    "empty-ns": "words network",
    "cap": f"words {' '.join(CAPABILITIES)}",
    "cwd": "",  # in the container
    "parent-path": "",  # relative to the images
}
STATUSES = {
    "exec": " created running paused",
    "start": " created",
    "kill": " created running paused",
    "pause": " running",
    "resume": " paused",
    "checkpoint": " running paused",
}
NEW = ("create", "run", "restore")  # their ID names no container yet
OPERANDS = {"[SIGNAL]": f"words {' '.join(SIGNALS)}", "[BUNDLE]": "directories"}
# Their operands end their options.
STRICT = [verb for verb, command in COMMANDS.items() if not command.mixed]
REPEATED = "may be repeated"  # in the help of an option


def kind(option: "Option") -> str:
    """What completes the value of an option."""
    name = option.names[0]
    return KINDS_OF_OPTIONS[name] if name in KINDS_OF_OPTIONS else KINDS.get(option.value, "")


def options(verb: str) -> "tuple[Option, ...]":
    """The options of a command, hidden ones included. "" stands for pyoci itself."""
    return (*COMMANDS[verb].options, *HELP) if verb else GLOBAL_OPTIONS


def operands(verb: str) -> list[str]:
    """What completes each operand of a command, up to the last one that something completes."""
    kinds = [OPERANDS.get(operand, "") for operand in COMMANDS[verb].operands]
    if "ID" in COMMANDS[verb].operands[:1] and verb not in NEW:
        kinds[0] = f"containers{STATUSES.get(verb, '')}"
    while kinds and not kinds[-1]:
        kinds.pop()
    return kinds


def flags(option: "Option") -> list[str]:
    """An option's names as they stand on a command line, the long one first."""
    return [f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names]


def shown(verb: str) -> "list[Option]":
    """The options that a user should find."""
    return [option for option in options(verb) if not option.hidden]


# --- bash

BASH = """\
# Completes the command line of pyoci in bash 4.3 or later. tools/gen_completion.py writes this file.

# Set `options` to the options of COMMAND, or to those of pyoci itself if COMMAND is empty.
_pyoci_options() {
    case $1 in
@options@
    *) options= ;;
    esac
}

# Set `kind` to what completes the value of OPTION, an option of COMMAND. Fail if it has no value.
_pyoci_value() {
    case $1:$2 in
@values@
    *) return 1 ;;
    esac
}

# Set `kind` to what completes operand NUMBER of COMMAND.
_pyoci_operand() {
    case $1:$2 in
@operands@
    *) kind= ;;
    esac
}

# Set `words` to the words up to the cursor. Bash also divides a word at `=` and `:`; here it stays whole.
_pyoci_split() {
    local i word rest line=${COMP_LINE:0:COMP_POINT}
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest=${line#"${line%%[![:blank:]]*}"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$rest
        if ((i > 0)) && [[ $rest == "$line" ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
}

# Print a word of the command line as the shell would pass it on, without expanding variables.
_pyoci_unquote() {
    local word=${1//[\\"\\'\\\\]/}
    printf %s "${word/#\\~\\//$HOME/}"
}

# Set COMPREPLY to container ids: those with one of STATUS..., or all if no STATUS is given. Bash lists several ids
# at the second key press: then each has its status.
_pyoci_containers() {
    local id status
    local -a list=("$(_pyoci_unquote "${words[0]}")") statuses=()
    [[ ! $root ]] || list+=(--root "$(_pyoci_unquote "$root")")
    while read -r id _ status _; do
        if [[ $id == "$current"* && (! $1 || " $* " == *" $status "*) ]]; then
            COMPREPLY+=("$id")
            statuses+=("$status")
        fi
    done < <("${list[@]}" list 2>/dev/null </dev/null | tail -n +2)
    if ((${#COMPREPLY[@]} > 1)) && [[ $COMP_TYPE == 63 || $COMP_TYPE == 33 || $COMP_TYPE == 64 ]]; then
        for id in "${!COMPREPLY[@]}"; do COMPREPLY[id]+=" (${statuses[id]})"; done
    fi
}

_pyoci() {
    local IFS=$' \\t\\n' current word name pending= command= root= ended= options= kind=
    local -i operand=1
    local -a words
    COMPREPLY=()
    _pyoci_split
    current=${words[-1]}
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if [[ $pending ]]; then
            [[ $command:$pending != :root ]] || root=$word
            pending=
        elif [[ ! $ended && $word == -- ]]; then
            ended=1
        elif [[ ! $ended && $word == -?* ]]; then
            name=${word#-} name=${name#-}
            if [[ $command:$name == :root=* ]]; then
                root=${name#root=}
            elif [[ $name != *=* ]] && _pyoci_value "$command" "$name"; then
                pending=$name
            fi
        elif [[ ! $command ]]; then
            command=$word ended=
        else
            operand+=1
            [[ " @strict@ " != *" $command "* ]] || ended=1
        fi
    done

    if [[ $pending ]]; then
        _pyoci_value "$command" "$pending"
    elif [[ ! $ended && $current == -*=* ]]; then
        name=${current%%=*} name=${name#-} name=${name#-}
        current=${current#*=}
        _pyoci_value "$command" "$name" || return 0
    elif [[ ! $ended && $current == -* ]]; then
        _pyoci_options "$command"
        kind="words $options"
    elif [[ ! $command ]]; then
        kind="words @commands@"
    else
        _pyoci_operand "$command" "$operand"
    fi
    case $kind in
    words*) mapfile -t COMPREPLY < <(compgen -W "${kind#words}" -- "$current") ;;
    containers*) _pyoci_containers ${kind#containers} ;;
    files) compopt -o default ;;
    directories) compopt -o dirnames ;;
    esac
}

complete -F _pyoci pyoci
"""


def bash() -> str:
    """The file for bash."""
    values: dict[str, list[str]] = defaultdict(list)
    places: dict[str, list[str]] = defaultdict(list)
    for verb in ("", *COMMANDS):
        for option in options(verb):
            if option.value:
                values[kind(option)] += [f"{verb}:{name}" for name in option.names]
    for verb in COMMANDS:
        for number, what in enumerate(operands(verb), 1):
            if what:
                places[what].append(f"{verb}:{number}")
    rows = [
        f"    {verb or repr('')}) options='{' '.join(flag for option in shown(verb) for flag in flags(option))}' ;;"
        for verb in ("", *COMMANDS)
    ]
    parts = {"options": "\n".join(rows), "values": _cases(values), "operands": _cases(places)}
    return _filled(BASH, **parts, strict=" ".join(STRICT), commands=" ".join(COMMANDS))


def _cases(kinds: dict[str, list[str]]) -> str:
    return "\n".join(f"    {' | '.join(patterns)})\n        kind='{what}' ;;" for what, patterns in kinds.items())


# --- zsh

ZSH = """\
#compdef pyoci
# Completes the command line of pyoci in zsh. tools/gen_completion.py writes this file.

# Offer container ids with their status: those with one of STATUS..., or all if no STATUS is given.
_pyoci_containers() {
    local line
    local -a fields found lines=(${(f)"$($pyoci_list list 2>/dev/null </dev/null)"})
    for line in $lines[2,-1]; do
        fields=(${=line})
        (( $# && ! ${@[(Ie)$fields[3]]} )) || found+=("$fields[1]:$fields[3]")
    done
    _describe -t containers container found
}

_pyoci_commands() {
    local -a found=(
@commands@
    )
    _describe -t commands command found
}

_pyoci() {
    local curcontext=$curcontext state state_descr line
    local -i ret=1 i
    local -A opt_args
    # the program on the command line, and its --root
    local -a pyoci_list=("${${(Q)words[1]}/#\\~\\//$HOME/}")
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
        (--root | -root) pyoci_list=("$pyoci_list[1]" --root "${${(Q)words[i+1]}/#\\~\\//$HOME/}") ;;
        (--root=* | -root=*) pyoci_list=("$pyoci_list[1]" --root "${${(Q)words[i]#*=}/#\\~\\//$HOME/}") ;;
        esac
    done

    _arguments -C -S -A '-*' \\
@options@
        '1:command: _pyoci_commands' \\
        '*::argument:->arguments' && ret=0
    [[ $state == arguments ]] || return ret

    curcontext="${curcontext%:*:*}:pyoci-$words[1]:"
    case $words[1] in
@cases@
    esac
    return ret
}

_pyoci "$@"
"""


def zsh() -> str:
    """The file for zsh."""
    commands = "\n".join(f"        {_single(f'{verb}:{command.summary}')}" for verb, command in COMMANDS.items())
    cases = []
    for verb, command in COMMANDS.items():
        kinds = operands(verb)
        specs = [_zsh_option(option) for option in shown(verb)]
        for number, name in enumerate(command.operands):
            what = _zsh_action(kinds[number] if number < len(kinds) else "")
            place = "*" if name.endswith("...") else str(number + 1)
            specs.append(_single(f"{place}:{_colons(name.strip('[].'))}:{what}"))
        strict = "" if command.mixed else " -A '-*'"
        lines = [f"    ({verb}) _arguments -S{strict}", *(f"        {spec}" for spec in specs)]
        cases.append(" \\\n".join(lines) + " && ret=0 ;;")
    options_of_pyoci = "\n".join(f"        {_zsh_option(option)} \\" for option in shown(""))
    return _filled(ZSH, commands=commands, options=options_of_pyoci, cases="\n".join(cases))


def _zsh_option(option: "Option") -> str:
    """The words of `_arguments` for an option: its names exclude each other, unless it may be repeated."""
    names = flags(option)
    described = f"[{_brackets(option.help)}]"
    if option.value:
        described = f"={described}:{_colons(option.value)}:{_zsh_action(kind(option))}"
    before = "*" if REPEATED in option.help else f"({' '.join(names)})" if len(names) > 1 else ""
    return " ".join(_single(f"{before}{name}{described}") for name in names)


def _zsh_action(what: str) -> str:
    name, _, rest = what.partition(" ")
    # behind a space, a function gets no other arguments than these
    containers = f" _pyoci_containers {rest}".rstrip()
    actions = {
        "": " ",
        "directories": "_directories",
        "files": "_files",
        "words": f"({rest})",
        "containers": containers,
    }
    return actions[name]


def _colons(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _brackets(text: str) -> str:
    return _colons(text).replace("[", "\\[").replace("]", "\\]")


# --- fish

FISH = """\
# Completes the command line of pyoci in fish 3.1 or later. tools/gen_completion.py writes this file.

# Options with a value, as COMMAND:NAME
set -g __pyoci_valued @valued@

# Print the command before the cursor, the number of the operand at the cursor, and whether options may stand there.
function __pyoci_place
    set -l command ''
    set -l operand 1
    set -l options yes
    set -l pending
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if set -q pending[1]
            set -e pending
        else if test $options = yes; and test "x$word" = x--
            set options no
        else if test $options = yes; and string match -qr -- '^-.' $word
            set -l name (string replace -r -- '^--?' '' $word)
            contains -- "$command:$name" $__pyoci_valued; and set pending yes
        else if test -z "$command"
            set command $word
            set options yes
        else
            set operand (math $operand + 1)
            contains -- $command @strict@; and set options no
        end
    end
    printf '%s\\n' "$command" $operand $options
end

# Whether an option of COMMAND may stand at the cursor
function __pyoci_option
    set -l place (__pyoci_place)
    test "$place[1]" = "$argv[1]" -a "$place[3]" = yes
end

# Whether operand NUMBER of COMMAND stands at the cursor
function __pyoci_operand
    set -l place (__pyoci_place)
    test "$place[1]" = "$argv[1]" -a "$place[2]" = "$argv[2]"
end

# Print container ids with their status: those with one of STATUS..., or all if no STATUS is given.
function __pyoci_containers
    set -l words (string replace -r -- '^~/' "$HOME/" (commandline -opc))
    set -l list $words[1]
    set -l pending
    for word in $words[2..-1]
        if set -q pending[1]
            set list $words[1] --root $word
            set -e pending
        else if string match -qr -- '^--?root$' $word
            set pending yes
        else if string match -qr -- '^--?root=' $word
            set list $words[1] --root (string replace -r -- '^--?root=' '' $word | string replace -r '^~/' "$HOME/")
        end
    end
    command $list list 2>/dev/null </dev/null | tail -n +2 | while read -l id pid state rest
        if test (count $argv) -eq 0; or contains -- $state $argv
            printf '%s\\t%s\\n' $id $state
        end
    end
end

# Print the directories that begin with the word at the cursor, or with the value in it.
function __pyoci_directories
    __fish_complete_directories (commandline -ct | string replace -r -- '^-[^=]*=' '')
end

complete -c pyoci -f
@commands@
@options@
@operands@
"""


def fish() -> str:
    """The file for fish."""
    valued = [
        f"{verb}:{name}"
        for verb in ("", *COMMANDS)
        for option in options(verb)
        if option.value
        for name in option.names
    ]
    commands = [
        f"complete -c pyoci -n '__pyoci_operand \"\" 1' -a {verb} -d {_fish(command.summary)}"
        for verb, command in COMMANDS.items()
    ]
    offered = [_fish_option(verb, option) for verb in ("", *COMMANDS) for option in shown(verb)]
    places = [
        f"complete -c pyoci -n '__pyoci_operand {verb} {number}' {_fish_values(what)}"
        for verb in COMMANDS
        for number, what in enumerate(operands(verb), 1)
        if what
    ]
    return _filled(
        FISH,
        valued=" ".join(valued),
        strict=" ".join(STRICT),
        commands="\n".join(commands),
        options="\n".join(offered),
        operands="\n".join(places),
    )


def _fish_option(verb: str, option: "Option") -> str:
    names = " ".join(f"-s {_fish(name)}" if len(name) == 1 else f"-l {name}" for name in option.names)
    values = f" -r {_fish_values(kind(option))}".rstrip() if option.value else ""
    condition = _fish(f"__pyoci_option {verb or _EMPTY}")
    return f"complete -c pyoci -n {condition} {names}{values} -d {_fish(option.help)}"


_EMPTY = '""'


def _fish_values(what: str) -> str:
    name, _, rest = what.partition(" ")
    values = {
        "directories": "-a '(__pyoci_directories)'",
        "files": "-F",
        "words": f"-a '{rest}'",
        "containers": f"-a '({' '.join(['__pyoci_containers', *rest.split()])})'",
    }
    return values.get(name, "")


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- the files


def _single(text: str) -> str:
    """Text in single quotes, for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _filled(template: str, **parts: str) -> str:
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def files() -> dict[Path, str]:
    """Every file, by its path."""
    return {DIRECTORY / "pyoci.bash": bash(), DIRECTORY / "_pyoci": zsh(), DIRECTORY / "pyoci.fish": fish()}


def outdated() -> list[Path]:
    """The files that are missing or outdated."""
    return generated.outdated(files())


if __name__ == "__main__":
    sys.exit(generated.main("gen_completion.py", files()))
