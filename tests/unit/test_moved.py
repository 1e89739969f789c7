"""Which processes of another cgroup are the container's."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pyoci.cgroups import moved

FIRST, SECOND, STRANGER = 100, 101, 102


@pytest.mark.parametrize(
    ("namespaces", "members"),
    [
        ({FIRST: (1, 2), SECOND: (1, 2), STRANGER: (1, 3)}, [FIRST, SECOND]),
        ({FIRST: (1, 2), SECOND: (1, 2)}, [FIRST, SECOND]),
        ({SECOND: (1, 2), STRANGER: (1, 2)}, [FIRST]),
        ({}, [FIRST]),
    ],
)
def test_members_are_those_whose_pid_namespace_is_known_to_be_the_same(
    namespaces: dict[int, tuple[int, int]], members: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose namespace the runtime may not read is not the container's, even if that holds for the
    first one.
    """
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/cgroup.procs").write_text(f"{STRANGER}\n{SECOND}\n{FIRST}\n")
    monkeypatch.setattr(moved, "path_of", lambda _: "/beside")
    monkeypatch.setattr(moved, "_pid_namespace", namespaces.get)
    cgroup = SimpleNamespace(mount=str(tmp_path), path="/box")

    assert members == moved.members(cgroup, FIRST)  # type: ignore[arg-type]
