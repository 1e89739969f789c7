"""What engines make of a runtime's messages: models of their decisions, each after the engine's own source.

An engine has no other way to learn why a command failed. The words it looks for are few, and the order in which it does
decides: a message about one thing that has the words of another changes what the engine tells its user.
"""

import json
import re
from datetime import datetime
from pathlib import Path

NOT_FOUND = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
    "failed to run runc create/exec call",
)


def dockerd_exit_code(message: str) -> int:
    """moby, daemon/errors.go, setExitCodeFromError: the exit code of a container that could not be started."""
    text = message.lower()
    if "permission denied" in text or "is a directory" in text:
        return 126
    if "not a directory" in text or any(words in text for words in NOT_FOUND):
        return 127
    return 128


def dockerd_suspects_mount(message: str) -> bool:
    """moby, as above: whether dockerd asks if a directory was mounted on a file or the other way round."""
    return dockerd_exit_code(message) == 127 and "not a directory" in message.lower()


def docker_run_status(message: str) -> int:
    """docker/cli, cli/command/container/run.go, toStatusError: case counts here."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return 125


def podman_run_status(message: str) -> int:
    """podman, libpod/oci_util.go, getOCIRuntimeError, then define/exec_codes.go, ExitCode: they read one line each."""
    if re.search("(?i).*permission denied.*|.*operation not permitted.*", message):
        return 126
    if re.search("(?i).*executable file not found in.*|.*no such file or directory.*|.*open executable.*", message):
        return 127
    text = message.lower()
    return 127 if any(words in text for words in ("not found", "executable path is empty", "no such file")) else 126


def shim_takes_for_ended(kill_error: str) -> bool:
    """containerd, cmd/containerd-shim-runc-v2/process/utils.go, checkKillError: `docker stop` is content with it."""
    return (
        "os: process already finished" in kill_error
        or "container not running" in kill_error
        or "no such process" in kill_error.lower()
        or "does not exist" in kill_error
    )


def shim_takes_for_deleted(delete_error: str) -> bool:
    """containerd, process/init.go, delete."""
    return "does not exist" in delete_error


def crio_takes_for_gone(stderr: str) -> bool:
    """CRI-O, internal/oci/runtime_oci.go, runtimeCmd."""
    return any(words in stderr for words in ("no such process", "container not running", "invalid process"))


def shim_reason(log: Path) -> str:
    """containerd, process/utils.go, getLastRuntimeError: the last error of the log, which must be JSON to the last
    byte.

    Raises ValueError where the shim would say `unable to retrieve OCI runtime error`.
    """
    decoder, text, message = json.JSONDecoder(), log.read_text(), ""
    while text := text.lstrip():
        entry, end = decoder.raw_decode(text)
        datetime.fromisoformat(entry["time"])
        if entry["level"] == "error":
            message = entry["msg"]
        text = text[end:]
    return message


def podman_reason(log: Path, stderr: str) -> str:
    """podman, libpod/oci_conmon_common.go, readConmonPipeData: the log if all of it is one object, else conmon's
    stderr.
    """
    try:
        return str(json.loads(log.read_text())["msg"])
    except ValueError:
        return stderr
