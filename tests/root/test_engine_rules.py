"""Every text that an engine looks for, and what the engine then does: the exit status that its user sees."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import engine_rules
from tests.support.runtime import Bundle, Runtime

pytestmark = pytest.mark.root


def not_in_path(bundle) -> None:
    bundle.program("nosuch")


def not_there(bundle) -> None:
    bundle.program("/bin/nosuch")


def empty_name(bundle) -> None:
    bundle.program("")


def not_executable(bundle) -> None:
    bundle.program("/etc/passwd")


def folder(bundle) -> None:
    bundle.program("/etc")


def below_a_file(bundle) -> None:
    bundle.program("/etc/passwd/x")


def without_interpreter(bundle) -> None:
    (bundle.rootfs / "bin/script").write_text("#!/no/interpreter\n")
    (bundle.rootfs / "bin/script").chmod(0o755)
    bundle.program("/bin/script")


def cwd_is_a_file(bundle) -> None:
    bundle.process["cwd"] = "/etc/passwd"


def no_source(bundle) -> None:
    bundle.mount("/mnt", "bind", "rbind", source="/no/such")


def directory_on_a_file(bundle) -> None:
    bundle.mount("/etc/passwd", "bind", "rbind", source="/etc")


def file_on_a_directory(bundle) -> None:
    bundle.mount("/etc", "bind", "rbind", source="/etc/passwd")


def no_device(bundle) -> None:
    bundle.mount("/dev/nosuch", "bind", "bind", source="/dev/nosuch")


def no_sysctl(bundle) -> None:
    bundle.linux["sysctl"] = {"net.nosuch": "1"}


def no_namespace(bundle) -> None:
    bundle.namespace("network", "/no/such/netns")


def no_rootfs(bundle) -> None:
    bundle.config["root"]["path"] = "nosuch"


def bad_config(bundle) -> None:
    bundle.process["cwd"] = 1


def bad_hook(bundle) -> None:
    bundle.hook("createRuntime", "echo it went wrong >&2; exit 3")


# what is wrong: dockerd's exit code, `docker run`'s and `podman run`'s status
FAULTS = [
    (not_in_path, 127, 127, 127),
    (not_there, 127, 127, 127),
    (empty_name, 127, 127, 127),
    (not_executable, 126, 126, 126),
    (folder, 126, 126, 126),
    (below_a_file, 127, 125, 126),
    (without_interpreter, 127, 127, 127),
    (cwd_is_a_file, 127, 125, 126),
    (no_source, 127, 127, 127),
    (directory_on_a_file, 127, 125, 126),
    (file_on_a_directory, 127, 125, 126),
    (no_device, 127, 127, 127),
    (no_sysctl, 127, 127, 127),
    (no_namespace, 127, 127, 127),
    (no_rootfs, 127, 127, 127),
    # nothing of the program's: no engine may take it for that
    (bad_config, 128, 125, 126),
    (bad_hook, 128, 125, 126),
]


@pytest.mark.parametrize(("fault", *"dockerd docker podman".split()), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_create(
    runtime: Runtime, bundle: Bundle, fault: Callable[..., Any], dockerd: int, docker: int, podman: int
) -> None:
    """A create that fails: what the engines tell their users, who read the reason in the log or on stderr."""
    fault(bundle)
    message = runtime.create_fails()

    assert message == engine_rules.shim_reason(runtime.log)
    assert message == engine_rules.podman_reason(runtime.log, "what stderr said")
    assert dockerd == engine_rules.dockerd_exit_code(f"OCI runtime create failed: {message}"), message
    assert docker == engine_rules.docker_run_status(f"OCI runtime create failed: {message}"), message
    assert podman == engine_rules.podman_run_status(message), message


@pytest.mark.parametrize("fault", [directory_on_a_file, file_on_a_directory])
def test_mounted_on_something_else(runtime: Runtime, bundle: Bundle, fault: Callable[..., Any]) -> None:
    """dockerd's own hint is about mounts, and must come for them."""
    fault(bundle)
    assert engine_rules.dockerd_suspects_mount(runtime.create_fails())


@pytest.mark.parametrize(
    ("args", "docker", "podman"),
    [
        (["nosuch"], 127, 127),
        (["/bin/nosuch"], 127, 127),
        (["/etc/passwd"], 126, 126),
        (["/etc"], 126, 126),
    ],
)
def test_exec(runtime: Runtime, bundle: Bundle, args: list[str], docker: int, podman: int) -> None:
    """An exec that fails; the log has create's lines and start's before it."""
    bundle.program("sleep", "100")
    runtime.create()
    runtime.start()
    message = runtime.fails("exec", runtime.id, *args)

    assert message == engine_rules.shim_reason(runtime.log)
    assert docker == engine_rules.dockerd_exit_code(f"OCI runtime exec failed: {message}")
    assert podman == engine_rules.podman_run_status(message)


@pytest.mark.parametrize("signal", ["TERM", "9"])
def test_kill_of_what_has_ended(runtime: Runtime, bundle: Bundle, signal: str) -> None:
    """`docker stop`, `docker rm -f` and a pod's deletion depend on it: stopped, never created, deleted."""
    bundle.program("true")
    runtime.create()
    runtime.start()
    runtime.wait("stopped")
    for name in runtime.id, "nosuch":
        message = runtime.fails("kill", name, signal)
        assert engine_rules.shim_takes_for_ended(message), message
    assert engine_rules.crio_takes_for_gone(runtime.fails("kill", runtime.id, signal))


def test_delete_of_what_is_gone(runtime: Runtime, bundle: Bundle) -> None:
    """The shim, and a clean-up after a crash, delete what may be gone."""
    assert engine_rules.shim_takes_for_deleted(runtime.fails("delete", runtime.id))
    assert (0, "", "") == tuple(runtime("delete", "--force", runtime.id))
