"""Names that collide under the hash secret in the executable's file, in the life of a container."""

import json
from pathlib import Path

import pytest

from pyoci.executable import freeze
from tests.support.collisions import assert_equal_cost, cpu
from tests.support.hostile import Attack

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library"),
]


def test_colliding_names_cost_no_more_while_a_container_lives(attack: Attack, tmp_path: Path) -> None:
    """In annotations, the variables of its program and of exec's, members of a process.json, and an update's limits."""
    given = {name: tmp_path / f"{name}.json" for name in ("process", "members", "resources")}

    def measure(names: list[str]) -> dict[str, float]:
        attack.bundle.shell("sleep 1000")
        attack.config["annotations"] = dict.fromkeys(names, "")
        attack.process["env"] = [f"{name}=" for name in names]
        attack.bundle.write()
        process = {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}}
        given["process"].write_text(json.dumps({**process, "env": attack.process["env"]}))
        given["members"].write_text(json.dumps({**process, **dict.fromkeys(names, 1)}))
        given["resources"].write_text(json.dumps({"unified": dict.fromkeys(names, "1")}))
        commands: list[tuple[list[object], int]] = [
            (["create", "--bundle", attack.bundle.folder, attack.id], 0),
            (["start", attack.id], 0),
            (["state", attack.id], 0),
            (["list"], 0),
            (["exec", attack.id, "/bin/true"], 0),
            (["exec", "--process", given["process"], attack.id], 0),
            (["exec", "--process", given["members"], attack.id], 0),
            (["update", "--resources", given["resources"], attack.id], 1),
            (["kill", attack.id, "KILL"], 0),
        ]
        seconds = {" ".join(map(str, words)): cpu(attack.command(*words), status) for words, status in commands}
        attack.wait("stopped")
        return {**seconds, "delete": cpu(attack.command("delete", attack.id), 0)}

    assert_equal_cost(attack.executable, measure)
