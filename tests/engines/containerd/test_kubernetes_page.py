"""The snippets of docs/kubernetes.md: containerd reads the TOML, and the YAML has the fields of its kinds."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import pages
from tests.support.containerd import Containerd
from tests.support.daemon import Daemon

pytestmark = pytest.mark.section("kubernetes")

IMPORTS = "/etc/containerd/conf.d"
# What a second daemon needs: its settings at the top of the file, and its tables at the end.
SETTINGS, TABLES = 'root = "{0}/root"\nstate = "{0}/state"\n', '[grpc]\naddress = "{0}/s"\n[ttrpc]\naddress = "{0}/t"\n'


def configuration(path: Path) -> Any:
    """What containerd makes of a file."""
    command = ["containerd", "--config", path, "config", "dump"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, "".join(line for line in done.stderr.splitlines() if "level=" in line))
    return tomllib.loads(done.stdout)["plugins"]


@pytest.fixture
def page(daemon: Containerd, tmp_path: Path) -> Path:
    """The page's configuration of this containerd: the drop-in with its import, or the tables of containerd 1."""
    snippets = [block.text for block in pages.blocks(pages.KUBERNETES, language="toml")]
    path, own = tmp_path / "config.toml", SETTINGS.format(tmp_path)
    if daemon.version().startswith("1."):
        (tables,) = (text for text in snippets if "io.containerd.grpc.v1.cri" in text)
        path.write_text(f"version = 2\n{own}{tables}")
    else:
        (importing,) = (text for text in snippets if IMPORTS in text)
        (tables,) = (text for text in snippets if "io.containerd.cri.v1.runtime" in text)
        path.write_text(importing.replace(IMPORTS, str(tmp_path / "conf.d")) + own)
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d/pyoci.toml").write_text(tables)
    with path.open("a") as file:
        file.write(TABLES.format(tmp_path))
    return path


def test_containerd(page: Path) -> None:
    """The configuration of docs/kubernetes.md: containerd has the handler, and keeps runc as its default."""
    plugins = configuration(page)
    plugin = plugins.get("io.containerd.cri.v1.runtime") or plugins["io.containerd.grpc.v1.cri"]
    handlers = plugin["containerd"]["runtimes"]

    options = handlers["pyoci"]["options"]
    assert "io.containerd.runc.v2" == handlers["pyoci"]["runtime_type"]
    assert ("/usr/local/bin/pyoci", True) == (options["BinaryName"], options["SystemdCgroup"])
    assert plugin["containerd"]["default_runtime_name"] == "runc" in handlers


def test_containerd_starts(page: Path) -> None:
    """The configuration of docs/kubernetes.md: the plugin for the kubelet starts, which checks the default handler."""
    containerd = Daemon(page.with_name("log"), "containerd", "--config", page)
    try:
        ctr = ["ctr", "--address", page.with_name("s")]
        containerd.await_answer(*ctr, "version")
        listed = subprocess.check_output([*ctr, "plugins", "ls"], text=True, timeout=60).splitlines()
    finally:
        containerd.stop()

    assert {"ok"} == {line.split()[-1] for line in listed if " cri " in line}


# The fields that the page uses, as the API of Kubernetes has them.
POD = {
    "runtimeClassName": str,
    "hostUsers": bool,
    "securityContext": {"seccompProfile": {"type": str}},
    "containers": [
        {
            "name": str,
            "image": str,
            "command": [str],
            "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool, "recursiveReadOnly": str}],
            "securityContext": {
                "seccompProfile": {"type": str, "localhostProfile": str},
                "appArmorProfile": {"type": str, "localhostProfile": str},
            },
        }
    ],
    "volumes": [{"name": str, "hostPath": {"path": str}}],
}
KINDS = {
    "Pod": ("v1", {"spec": POD}),
    "RuntimeClass": ("node.k8s.io/v1", {"handler": str}),
    "KubeletConfiguration": ("kubelet.config.k8s.io/v1beta1", {"cgroupDriver": str}),
}


def strangers(value: Any, known: Any, where: str = "") -> list[str]:
    """The places where a document differs from what is known: other fields, other types."""
    if isinstance(known, dict) and isinstance(value, dict):
        return [
            wrong
            for key, each in value.items()
            for wrong in (strangers(each, known[key], f"{where}.{key}") if key in known else [f"{where}.{key}"])
        ]
    if isinstance(known, list) and isinstance(value, list):
        return [wrong for each in value for wrong in strangers(each, known[0], f"{where}[]")]
    return [] if isinstance(known, type) and isinstance(value, known) else [where]


def test_manifests_of_the_page() -> None:
    """The YAML of docs/kubernetes.md: objects with the fields of their kind, and pods of the RuntimeClass."""
    documents = [yaml.safe_load(block.text) for block in pages.blocks(pages.KUBERNETES, language="yaml")]
    objects = [each for each in documents if isinstance(each, dict)]
    names = {each["metadata"]["name"] for each in objects if each["kind"] == "RuntimeClass"}
    classes = [each["spec"]["runtimeClassName"] for each in objects if each["kind"] == "Pod"]

    assert len(classes) > 3
    assert names == set(classes)
    for each in objects:
        version, fields = KINDS[each["kind"]]
        assert version == each.pop("apiVersion")
        assert [] == strangers(each, {"kind": str, "metadata": {"name": str}, **fields})


def test_comparison_finds_unknown_fields() -> None:
    """The comparison finds a misspelt field, also in a list, and a wrong type."""
    pod = {"containers": [{"name": "box", "comand": ["true"]}], "hostUsers": "no"}

    assert [".containers[].comand", ".hostUsers"] == strangers(pod, POD)
