"""The command line of checkpoint and restore: what reaches the modules that do the work."""

import json
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from pyoci import cli
from pyoci.compiler import verbs
from pyoci.compiler.dump import DumpPlan
from pyoci.compiler.operations import Plan
from pyoci.compiler.restore import RestorePlan
from pyoci.criu import rpc
from pyoci.request import CheckpointRequest, CriuOptions, RestoreRequest

Run = Callable[..., tuple[int, str, str]]

PROBLEMS = ["process 7 (x) has an io_uring: CRIU can't dump it"]


class FakeContainer:
    """Stands for a container that exists."""

    warnings: tuple[str, ...] = ()

    def __init__(self, id: str, root: str) -> None:
        self.id = id
        self.root = root


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that the modules get."""
    got: list[Any] = []
    dump = rpc.Request(rpc.DUMP, {"pid": 7, "external": ["mnt[/a]:/a", 'mnt[/"]:/"'], "manage_cgroups_mode": 3})

    def plan(_: FakeContainer, request: CheckpointRequest) -> DumpPlan:
        got.append(request)
        made = Plan()
        made.init = [verbs.SetUmask(umask=0o077)]
        return DumpPlan(made, dump)

    def undumpable(_container: FakeContainer, _request: CheckpointRequest, wanted: rpc.Request) -> list[str]:
        return PROBLEMS if wanted is dump else []

    def checkpoint(container: FakeContainer, request: CheckpointRequest) -> None:
        assert ("x", "/r") == (container.id, container.root)
        got.append(request)

    def plan_restore(request: RestoreRequest) -> RestorePlan:
        got.append(request)
        made = Plan()
        made.init = [verbs.SetDumpable(dumpable=0)]
        return RestorePlan(made, {"root": "/x"}, manages_cgroups=False)

    def restore(request: RestoreRequest) -> int:
        assert ("x", "/r") == (request.create.id, request.create.root)
        got.append(request)
        return 7

    modules = {
        "pyoci.checkpoint": types.SimpleNamespace(checkpoint=checkpoint, plan=plan, undumpable=undumpable),
        "pyoci.restore": types.SimpleNamespace(restore=restore, plan=plan_restore),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    container = types.SimpleNamespace(open=FakeContainer, load=FakeContainer)
    monkeypatch.setattr("pyoci.container.Container", container)
    return got


@pytest.fixture
def pyoci(capfd: pytest.CaptureFixture[str], requests: list[Any]) -> Run:
    """Runs a command line: (exit status, standard output, standard error)."""

    def run(words: str) -> tuple[int, str, str]:
        status = cli.main(["--root", "/r", *words.split()])
        return status, *capfd.readouterr()

    return run


def options_of(request: object) -> dict[str, object]:
    """The attributes of a request that differ from their defaults, those of CRIU's options among them."""
    names: tuple[str, ...] = type(request).__slots__  # type: ignore[attr-defined]
    values: dict[str, object] = {name: getattr(request, name) for name in names}
    options = values.pop("options")
    assert isinstance(options, CriuOptions)
    created = values.pop("create", None)
    if created:
        shared = ("bundle", "config_file", "console_socket", "pid_file", "no_pivot", "no_new_keyring", "preserve_fds")
        values |= {name: getattr(created, name) for name in shared}
    values |= {name: getattr(options, name) for name in CriuOptions.__slots__}
    return {name: value for name, value in values.items() if value and name != "log"}


def test_checkpoint_as_containerd_calls_it(pyoci: Run, requests: list[Any]) -> None:
    """The shim's command line with every option that it may pass."""
    words = (
        "checkpoint --image-path /i --work-path /w --parent-path ../p --tcp-established --ext-unix-sk --shell-job"
        " --page-server 10.0.0.1:27 --file-locks --manage-cgroups-mode full --empty-ns network --lazy-pages"
        " --status-fd 1 --leave-running x"
    )
    assert (0, "", "") == pyoci(words)
    expected = {
        "image_path": "/i", "work_path": "/w", "parent_path": "../p", "tcp_established": True, "ext_unix_sk": True,
        "shell_job": True, "page_server": ("10.0.0.1", 27), "file_locks": True, "manage_cgroups_mode": "full",
        "lazy_pages": True, "status_fd": 1, "leave_running": True,
    }  # fmt: skip
    assert expected == options_of(requests[0])


def test_checkpoint_as_podman_calls_it(pyoci: Run, requests: list[Any]) -> None:
    """A pre-dump and the dump after it."""
    pyoci("checkpoint --image-path /i --work-path /b --tcp-established --pre-dump x")
    pyoci("checkpoint --image-path /i --work-path /b --file-locks --parent-path ../pre-checkpoint x")
    shared: dict[str, object] = {"image_path": "/i", "work_path": "/b"}

    assert {**shared, "tcp_established": True, "pre_dump": True} == options_of(requests[0])
    assert {**shared, "file_locks": True, "parent_path": "../pre-checkpoint"} == options_of(requests[1])


def test_checkpoint_as_users_call_it(pyoci: Run, requests: list[Any]) -> None:
    """Options of runc alone, and of crun alone; relative paths are those of the current directory."""
    pyoci("--criu /opt/criu checkpoint --link-remap --tcp-skip-in-flight --auto-dedup --image-path i x")
    pyoci("checkpoint --network-lock skip --tcp-close --status-fd -1 x")

    expected = {"image_path": f"{os.getcwd()}/i", "criu": "/opt/criu", "link_remap": True, "auto_dedup": True}
    assert {**expected, "tcp_skip_in_flight": True} == options_of(requests[0])
    expected = {"image_path": f"{os.getcwd()}/checkpoint", "network_lock": "skip", "tcp_close": True}
    assert expected == options_of(requests[1])


def test_page_servers_have_names_and_addresses(pyoci: Run, requests: list[Any]) -> None:
    """An IPv6 address is in brackets, as in URLs."""
    for text in ("host:1", "[::1]:65535"):
        pyoci(f"checkpoint --page-server {text} x")

    assert [("host", 1), ("::1", 65535)] == [request.page_server for request in requests]


def test_the_plan_is_text_of_protocol_buffers(pyoci: Run, requests: list[Any]) -> None:
    """One field a line; constants have their names. Comments say what CRIU can't dump."""
    expected = [
        f"# {PROBLEMS[0]}",
        "type: DUMP",
        "opts {",
        "  pid: 7",
        '  external: "mnt[/a]:/a"',
        '  external: "mnt[/\\"]:/\\""',
        "  manage_cgroups_mode: SOFT",
        "}",
    ]
    status, out, err = pyoci("checkpoint --plan x")
    assert (0, "") == (status, err)
    assert out.endswith("\n\n" + "\n".join(expected) + "\n")
    assert "0  set_umask  0077" in out
    assert "text" == requests[0].plan


def test_the_plan_as_json(pyoci: Run) -> None:
    """The same values."""
    _, out, _ = pyoci("checkpoint --plan --json x")

    options = {"pid": 7, "external": ["mnt[/a]:/a", 'mnt[/"]:/"'], "manage_cgroups_mode": "SOFT"}
    made = json.loads(out)
    assert {"type": "DUMP", "opts": options} == made["request"]
    assert "set_umask" == made["plan"]["init"][0]["verb"]
    assert made["undumpable"] == PROBLEMS


def test_restore_as_containerd_calls_it(pyoci: Run, requests: list[Any]) -> None:
    """-no-subreaper has one dash."""
    words = (
        "restore --image-path /i --work-path /w --tcp-established --ext-unix-sk --shell-job --file-locks"
        " --manage-cgroups-mode full --empty-ns network --lazy-pages --detach --pid-file /p --console-socket /s"
        " --no-pivot -no-subreaper --bundle /b x"
    )
    assert (7, "", "") == pyoci(words)
    expected = {
        "image_path": "/i", "work_path": "/w", "tcp_established": True, "ext_unix_sk": True, "shell_job": True,
        "file_locks": True, "manage_cgroups_mode": "full", "lazy_pages": True, "detach": True,
        "pid_file": "/p", "console_socket": "/s", "no_pivot": True, "no_subreaper": True, "bundle": "/b",
    }  # fmt: skip
    assert expected == options_of(requests[0])


def test_restore_as_conmon_calls_it(pyoci: Run, requests: list[Any]) -> None:
    """Podman's options, some with an equals sign; a label has colons of its own."""
    words = (
        "restore --bundle /b --pid-file /p --no-pivot --no-new-keyring --detach --image-path /i --work-path /b"
        " --tcp-established --tcp-close --file-locks --lsm-profile=selinux:u:r:t:s0:c1 --lsm-mount-context=u:o:t"
        " --console-socket /s x"
    )
    assert (7, "", "") == pyoci(words)
    expected = {
        "image_path": "/i", "work_path": "/b", "tcp_established": True, "tcp_close": True, "file_locks": True,
        "lsm_profile": "selinux:u:r:t:s0:c1", "lsm_mount_context": "u:o:t", "detach": True, "pid_file": "/p",
        "console_socket": "/s", "no_pivot": True, "no_new_keyring": True, "bundle": "/b",
    }  # fmt: skip
    assert expected == options_of(requests[0])


def test_restore_in_the_foreground(pyoci: Run, requests: list[Any]) -> None:
    """Without options: the current directory has the bundle, and in it the images."""
    assert 7 == pyoci("restore --keep --preserve-fds 2 x")[0]

    here = os.getcwd()
    expected = {"image_path": f"{here}/checkpoint", "bundle": here, "keep": True, "preserve_fds": 2}
    assert expected == options_of(requests[0])


def test_the_plan_of_restore(pyoci: Run) -> None:
    """First what the process does that becomes CRIU, then the request."""
    status, out, err = pyoci("restore --plan x")
    assert (0, "") == (status, err)
    assert re.search(r"^ *0 +set_dumpable +0$", out, re.MULTILINE)
    assert out.endswith('\n\ntype: RESTORE\nopts {\n  root: "/x"\n}\n')

    made = json.loads(pyoci("restore --plan --json x")[1])
    assert {"type": "RESTORE", "opts": {"root": "/x"}} == made["request"]
    assert "set_dumpable" == made["plan"]["init"][0]["verb"]


def test_podman_finds_that_pods_can_be_restored(pyoci: Run) -> None:
    """It calls restore without the option's value, and scans for these words."""
    assert "flag needs an argument: --lsm-mount-context" in pyoci("restore --lsm-mount-context")[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        *(
            (f"checkpoint --page-server {text} x", f"cannot use `{text}` for --page-server: expected ADDRESS:PORT")
            for text in ("a", "a:", ":1", "a:b", "::1:27", "[]:27", "a:0", "a:65536", "a:１", "a:-1")
        ),
        (
            "checkpoint --manage-cgroups-mode x y",
            "cannot use `x` for --manage-cgroups-mode: expected soft, full, strict or ignore",
        ),
        (
            "checkpoint --network-lock x y",
            "cannot use `x` for --network-lock: expected iptables, nftables or skip",
        ),
        ("checkpoint --empty-ns pid x", "cannot use `pid` for --empty-ns: expected network"),
        (
            "checkpoint --parent-path /p x",
            "cannot use `/p` for --parent-path: expected a path relative to the image directory",
        ),
        ("checkpoint --status-fd a x", "cannot use `a` for --status-fd: expected a count"),
        ("checkpoint --status-fd 999 x", "cannot use `999` for --status-fd: the descriptor is not open"),
        *(
            (
                f"restore --lsm-profile {text} x",
                f"cannot use `{text}` for --lsm-profile: expected apparmor:NAME or selinux:LABEL",
            )
            for text in ("a", "apparmor:", "smack:x", ":x")
        ),
        ("--criu criu restore x", "cannot use `criu` for --criu: expected an absolute path"),
        ("--criu criu checkpoint x", "cannot use `criu` for --criu: expected an absolute path"),
        ("checkpoint --json x", "cannot use --json without --plan"),
    ],
)
def test_invalid_values_are_rejected(words: str, expected: str, pyoci: Run, requests: list[Any]) -> None:
    """One line that names the option, before anything is done."""
    assert (1, "", f"{expected}\n") == pyoci(words)
    assert [] == requests
