"""The features document, and the config that `spec` writes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from pyoci import cli
from pyoci.cli.output import write_new
from pyoci.compiler import features, memory_policy, mounts, seccomp
from pyoci.config import template
from pyoci.criu import installed
from pyoci.errors import PyociError
from tests.support import specification

ROOT = Path(__file__).parents[2]
OURS = {path.name: json.loads(path.read_text()) for path in (ROOT / "specs").glob("*.json")}


def faults(
    document: dict[str, Any],
    name: str,
    schemas: dict[str, Any] = OURS,
    kind: type[Any] = jsonschema.Draft202012Validator,
) -> list[Any]:
    """What a schema says against a document."""

    def retrieve(uri):
        return Resource.from_contents(schemas[uri], default_specification=DRAFT4)

    validator = kind(schemas[name], registry=Registry(retrieve=retrieve))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def official_faults(document: dict[str, Any], name: str) -> list[Any]:
    """What the specification's own schema says."""
    return faults(document, name, specification.schemas(), jsonschema.Draft4Validator)


@pytest.fixture
def document(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `pyoci features` prints on a host without criu."""
    monkeypatch.setattr(installed, "SYSTEM_DIRECTORIES", ())
    assert 0 == cli.main(["features"])
    out, err = capfd.readouterr()
    assert "" == err
    return json.loads(out)


def nodes(value: Any) -> Iterator[Any]:
    """Every value in a document."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(item)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """It satisfies the specification's schema as we have written it."""
    assert [] == faults(document, "features.schema.json")


def test_the_specifications_schema_agrees(document: dict[str, Any]) -> None:
    """So does the specification's own."""
    assert [] == official_faults(document, "features-schema.json")


def test_nothing_is_null(document: dict[str, Any]) -> None:
    """Null means unknown; what is unknown is left out."""
    assert None not in list(nodes(document))


def test_versions(document: dict[str, Any]) -> None:
    """CRI-O drops the document without both, and both must be accepted in a config."""
    assert ("1.0.0", "1.3.0") == (document["ociVersionMin"], document["ociVersionMax"])


def test_it_is_the_same_without_root(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It describes the build, whatever the caller is."""
    for name in ("geteuid", "uname", "stat", "open", "listdir"):
        monkeypatch.setattr(f"posix.{name}", lambda *args, name=name, **options: pytest.fail(f"{name} was called"))
    described = features.document()
    monkeypatch.undo()

    assert document == described


def test_checkpoint_is_there_if_criu_is(
    document: dict[str, Any], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """runc's annotation; also with --criu."""
    (tmp_path / "criu").touch(mode=0o755)
    name = "org.opencontainers.runc.checkpoint.enabled"

    assert name not in document["annotations"]
    cli.main(["--criu", str(tmp_path / "criu"), "features"])
    assert "true" == json.loads(capfd.readouterr()[0])["annotations"][name]


def test_containerd_and_docker_find_recursive_read_only(document: dict[str, Any]) -> None:
    """`rro` in mountOptions switches their recursive read-only mounts on."""
    assert "rro" in document["mountOptions"]


def test_lists_are_the_tables_of_the_code(document: dict[str, Any]) -> None:
    """No list is kept twice."""
    assert set(mounts.MOUNT_OPTIONS) == set(document["mountOptions"])
    assert set(seccomp.ACTIONS) == set(document["linux"]["seccomp"]["actions"])
    assert set(seccomp.OPERATORS) == set(document["linux"]["seccomp"]["operators"])
    assert set(seccomp.FLAGS) == set(document["linux"]["seccomp"]["knownFlags"])
    assert set(memory_policy.MODES) == set(document["linux"]["memoryPolicy"]["modes"])
    assert set(memory_policy.FLAGS) == set(document["linux"]["memoryPolicy"]["flags"])
    assert 41 == len(document["linux"]["capabilities"])


def test_no_list_repeats_an_entry(document: dict[str, Any]) -> None:
    """Every list is a set, in a stable order."""
    lists = [value for value in nodes(document) if isinstance(value, list)]

    assert [] == [value for value in lists if len(value) != len(set(value))]


def test_supported_flags_are_known(document: dict[str, Any]) -> None:
    """supportedFlags is a subset of knownFlags."""
    listed = document["linux"]["seccomp"]

    assert set(listed["supportedFlags"]) <= set(listed["knownFlags"])


def test_all_that_the_specification_names_is_listed(document: dict[str, Any]) -> None:
    """Every action and flag of seccomp, every mode and flag of a memory policy."""
    schema = json.loads((ROOT / "specs/config.schema.json").read_text())["$defs"]
    policy = schema["linux"]["properties"]["memoryPolicy"]["properties"]
    listed = document["linux"]

    assert set(schema["seccompAction"]["enum"]) == set(listed["seccomp"]["actions"])
    assert set(schema["seccompFlag"]["enum"]) == set(listed["seccomp"]["supportedFlags"])
    assert set(policy["mode"]["enum"]) == set(listed["memoryPolicy"]["modes"])
    assert set(policy["flags"]["items"]["enum"]) == set(listed["memoryPolicy"]["flags"])


def test_what_is_not_there_is_not_claimed(document: dict[str, Any]) -> None:
    """Engines act on these: containerd refuses nothing that they promise."""
    linux = document["linux"]

    assert {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True} == linux["cgroup"]


def test_idmapped_mounts_are_claimed(document: dict[str, Any]) -> None:
    """By the flag and by the options, which must agree."""
    assert {"idmap": {"enabled": True}} == document["linux"]["mountExtensions"]
    assert {"idmap", "ridmap"} <= set(document["mountOptions"])


def test_specification_mandatory_mount_options(document: dict[str, Any]) -> None:
    """Those that the specification says must be supported."""
    mandatory = (
        "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec "
        "noiversion nolazytime norelatime nostrictatime nosuid private rbind relatime remount ro rprivate rshared "
        "rslave runbindable rw shared silent slave strictatime suid sync unbindable"
    )

    assert set() == set(mandatory.split()) - set(document["mountOptions"])


# spec


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_spec_writes_a_valid_config(in_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It satisfies the schema, and nothing is printed."""
    assert 0 == cli.main(["spec"])
    assert ("", "") == capfd.readouterr()

    assert [] == faults(json.loads((in_directory / "config.json").read_text()), "config.schema.json")


def test_rootless_spec_is_valid(in_directory: Path) -> None:
    """The same for --rootless, which maps the caller to root and asks for nothing that he may not have."""
    assert 0 == cli.main(["spec", "--rootless"])
    config = json.loads((in_directory / "config.json").read_text())

    assert [] == faults(config, "config.schema.json")
    assert [{"containerID": 0, "hostID": os.geteuid(), "size": 1}] == config["linux"]["uidMappings"]
    assert [{"containerID": 0, "hostID": os.getegid(), "size": 1}] == config["linux"]["gidMappings"]
    assert "resources" not in config["linux"]
    assert {"pid", "ipc", "uts", "mount", "cgroup", "user"} == {n["type"] for n in config["linux"]["namespaces"]}
    assert "/sys" in [m["source"] for m in config["mounts"] if "rbind" in m["options"]]
    assert not any(option.startswith("gid=") for m in config["mounts"] for option in m["options"])


def test_our_own_checks_accept_both() -> None:
    """What we write we run: our strict reader finds no fault and warns of nothing."""
    from pyoci import config

    for document in (template.default(), template.rootless(template.default(), 1000, 1000)):
        loaded, warnings = config.load(json.dumps(document).encode())
        assert document == loaded
        assert [] == warnings


def test_the_specifications_schema_accepts_both() -> None:
    """So does the specification's own schema."""
    for document in (template.default(), template.rootless(template.default(), 1000, 1000)):
        assert [] == official_faults(document, "config-schema.json")


def test_rootless_leaves_the_original_alone() -> None:
    """A new config is made; the old one is not changed."""
    original = template.default()
    template.rootless(original, 5, 6)

    assert template.default() == original


def test_masked_paths_cover_what_leaks() -> None:
    """The side channels and host facts that other engines mask."""
    masked = set(template.default()["linux"]["maskedPaths"])

    assert {"/proc/kcore", "/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/keys"} <= masked


def test_spec_never_overwrites(in_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The person's config stays as it is."""
    (in_directory / "config.json").write_text("mine")

    assert 1 == cli.main(["spec"])
    assert "cannot write config.json: it exists (hint: remove it first)\n" == capfd.readouterr().err
    assert "mine" == (in_directory / "config.json").read_text()


def test_spec_does_not_follow_a_link(in_directory: Path) -> None:
    """Not even a dangling one."""
    (in_directory / "config.json").symlink_to(in_directory / "victim")

    assert 1 == cli.main(["spec"])
    assert not (in_directory / "victim").exists()


def test_spec_bundle_and_file(in_directory: Path) -> None:
    """--bundle is a directory, --file a name in it, or an absolute path."""
    (in_directory / "b").mkdir()
    assert 0 == cli.main(["spec", "--bundle", "b"])
    assert 0 == cli.main(["spec", "-b", "b", "-f", "other.json"])
    assert 0 == cli.main(["spec", "-f", str(in_directory / "third.json")])

    assert {"b/config.json", "b/other.json", "third.json"} == {
        str(path.relative_to(in_directory)) for path in in_directory.rglob("*.json")
    }


def test_spec_into_a_missing_directory(in_directory: Path) -> None:
    """The kernel's reason."""
    with pytest.raises(PyociError, match=r"cannot write .*/none/config.json: no such file or directory"):
        write_new(str(in_directory / "none/config.json"), "")
