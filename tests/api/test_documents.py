"""validate, plan, spec and features do what the commands of these names do."""

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_documents import REPLACEMENTS, every_property, mutations

import pyoci as api

BUNDLES = Path(__file__).resolve().parents[1] / "data" / "bundles"


def reported(executable: str, directory: Path, text: bytes) -> list[tuple[str, str, int, int]]:
    """The report of `pyoci validate` on a config."""
    (directory / "config.json").write_bytes(text)
    result = subprocess.run([executable, "validate", "--json", directory], capture_output=True, check=False, timeout=60)
    assert result.returncode in (0, 1), result
    problems = json.loads(result.stdout)
    return [tuple(problem[key] for key in ("where", "message", "line", "column")) for problem in problems]


def found(config: Any) -> list[tuple[str, str, int, int]]:
    """The report of `pyoci.validate` on a config."""
    return [(problem.pointer, problem.message, problem.line, problem.column) for problem in api.validate(config)]


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of a document are."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *itertools.chain.from_iterable(paths(child, (*path, key)) for key, child in children)]


PATHS = [path for path in paths(every_property()) if path]
VALUES = st.one_of(
    st.sampled_from(REPLACEMENTS),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**65), 2**65)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.sampled_from(PATHS), VALUES, st.booleans()), max_size=4),
    indent=st.sampled_from([None, 2]),
)
def test_validate_reports_what_the_executable_reports(
    pyoci: str, tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any, bool]], indent: int | None
) -> None:
    """The schema in jsonschema, and the executable's own interpreter: pointers, messages and places are the same."""
    config = every_property()
    for path, value, removes in changes:
        node: Any = config
        try:
            for key in path[:-1]:
                node = node[key]
            if removes:
                del node[path[-1]]
            else:
                node[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change has replaced what is around it
            continue
    text = json.dumps(config, indent=indent).encode()

    assert reported(pyoci, tmp_path, text) == found(text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | VALUES.map(json.dumps).map(str.encode))
def test_validate_reports_what_the_executable_reports_of_any_bytes(pyoci: str, tmp_path: Path, text: bytes) -> None:
    """Also for other text than JSON, and other JSON than an object."""
    assert reported(pyoci, tmp_path, text) == found(text)


def test_validate_finds_every_mutation_that_the_executable_finds() -> None:
    """In thousands of documents, each with one wrong value, the schema's two engines find the same."""
    from pyoci.config.report import report

    for config in itertools.islice(mutations(), 0, None, 29):
        text = json.dumps(config).encode()
        expected = [(problem.where, problem.message) for problem in report(text)]

        assert expected == [(problem.pointer, problem.message) for problem in api.validate(text)]


def test_validate_takes_a_dict_bytes_text_or_a_path(tmp_path: Path) -> None:
    """The places are those in the text; a dict has none."""
    config = {"ociVersion": "1.3.0", "process": {"cwd": "x", "args": ["sh"], "user": {"uid": 0, "gid": 0}}}
    text = json.dumps(config, indent=1)
    file = tmp_path / "config.json"
    file.write_text(text)
    (tmp_path / "other.json").write_text(text)
    in_text = api.validate(text)

    assert ("/process/cwd", 4) == (in_text[-1].pointer, in_text[-1].line)
    for form in (text.encode(), file, str(file), tmp_path, str(tmp_path), tmp_path / "other.json"):
        assert [(problem.message, problem.line) for problem in in_text] == [
            (problem.message, problem.line) for problem in api.validate(form)
        ]
    assert "other.json:4:" in str(api.validate(tmp_path / "other.json")[-1])
    assert [("/process/cwd", 0, 0)] == [(p.pointer, p.line, p.column) for p in api.validate(config)[-1:]]
    assert [] == api.validate(api.spec())


def test_validate_names_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    """As every other error."""
    with pytest.raises(api.PyociError, match=r"cannot read .*/config.json: there is no such file"):
        api.validate(tmp_path)


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.json")), ids=lambda path: path.stem)
def test_plan_is_what_the_executable_prints(pyoci: str, tmp_path: Path, path: Path) -> None:
    """As text and as JSON, with its operations in the order of the text."""
    (tmp_path / "config.json").write_bytes(path.read_bytes())
    plan = api.plan(tmp_path)

    assert subprocess.check_output([pyoci, "plan", tmp_path], text=True, stderr=subprocess.DEVNULL) == str(plan)
    assert (
        subprocess.check_output([pyoci, "plan", "--json", tmp_path], text=True, stderr=subprocess.DEVNULL)
        == plan.to_json()
    )
    operations = list(plan)
    numbers = [operation.number for operation in operations if operation.number is not None]
    assert list(range(len(numbers))) == numbers
    assert "exec" == [operation.verb for operation in operations if operation.number is not None][-1]
    for operation in operations:
        assert operation.verb in str(plan)


def test_plan_takes_options_and_a_dict(tmp_path: Path) -> None:
    """The bundle of a dict is an argument."""
    plan = api.plan(api.spec(), bundle=tmp_path, no_pivot=True, no_new_keyring=True, cgroup_manager="disabled")
    verbs = {operation.verb for operation in plan}

    assert not verbs & {"pivot_root", "join_keyring", "make_cgroup"}
    assert ("/root/path", f"{tmp_path}/rootfs") in [(operation.pointer, operation.text) for operation in plan]
    assert any("cgroup" in warning for warning in plan.warnings) or [] == plan.warnings


def test_plan_rejects_an_invalid_config() -> None:
    """With every problem."""
    with pytest.raises(api.ConfigError) as caught:
        api.plan({"ociVersion": "1.3.0", "hostname": 1, "domainname": 2})

    assert {"/hostname", "/domainname"} <= {problem.pointer for problem in caught.value.problems}


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_is_what_the_executable_writes(pyoci: str, tmp_path: Path, rootless: bool) -> None:
    """A fresh document each time."""
    subprocess.run([pyoci, "spec", "--bundle", tmp_path, *["--rootless"] * rootless], check=True)

    assert json.loads((tmp_path / "config.json").read_text()) == api.spec(rootless=rootless)
    assert api.spec()["mounts"] is not api.spec()["mounts"]


def test_features_is_what_the_executable_prints(pyoci: str) -> None:
    """But for the commit, which only a build knows."""
    printed = json.loads(subprocess.check_output([pyoci, "features"]))
    printed["annotations"].pop("io.github.pyoci.commit", None)
    features = api.features()
    features["annotations"].pop("io.github.pyoci.commit", None)

    assert printed == features
