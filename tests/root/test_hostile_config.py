"""config.json, ids and options as an attacker would send them, on the command line: one clear line, and nothing made.

What each malformed byte means is tested with the reader; here it is that the whole command behaves.
"""

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE

pytestmark = pytest.mark.root

BYTES = {
    "empty": b"",
    "blank": b" \n\t ",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "truncated": b'{"ociVersion": "1.2.1", "proc',
    "trailing": b"{} {}",
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"ociVersion": "1.2.1"}'.encode("utf-16"),
    "UTF-16 without BOM": '{"ociVersion": "1.2.1"}'.encode("utf-16-le"),
    "bad UTF-8": b'{"ociVersion": "1.2.1\xff"}',
    "lone surrogate": b'{"ociVersion": "\\ud800"}',
    "NUL": b'{"ociVersion": "1.2.1\\u0000"}',
    "real NUL": b'{"ociVersion": "1.2.1\0"}',
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "huge integer": b'{"ociVersion": ' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"ociVersion": NaN}',
    "infinity": b'{"ociVersion": -Infinity}',
    "comment": b"{/* */}",
    "duplicate": b'{"ociVersion": "1.2.1", "root": {"path": "a"}, "root": {"path": "/"}}',
    "escaped duplicate": b'{"ociVersion": "1.2.1", "root": {"path": "a"}, "r\\u006fot": {"path": "/"}}',
    "version": b'{"ociVersion": "2.0.0", "root": {"path": "rootfs"}}',
    "no version": b'{"root": {"path": "rootfs"}}',
    "Python": b"__import__('os').system('id')",
    "escape sequences": b'{"ociVersion": "\\u001b[2J\\u0007"}',
}


@pytest.mark.parametrize("kind", BYTES)
def test_bytes(attack: Attack, kind: str) -> None:
    """GHSA-5j5w-g665-5m35: bytes that are not a config, or could be read in two ways."""
    (attack.bundle.folder / "config.json").write_bytes(BYTES[kind])
    for command in ("create", "run"):
        result = attack(command, "--bundle", attack.bundle.folder, attack.id)
        assert (1, 1) == (result.status, result.err.count("\n")), result
        assert result.err[:-1].isprintable()
        assert 9000 > len(result.err)
        assert AT_ONCE > result.seconds
        assert not attack.root.exists() or [] == os.listdir(attack.root)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/user/uid", 2**63), ("/process/user/uid", -1), ("/process/user/uid", 1.0), ("/process/user/uid", 1e3),
        ("/process/user/uid", True), ("/process/user/uid", "0"), ("/process/args", []), ("/process/args", "/bin/sh"),
        ("/process/args", [""]), ("/process/args", [5]), ("/process/args/0", "a\0b"), ("/process/env", ["A=b\0c"]),
        ("/process/env", ["=x"]), ("/process/env", ["x"]), ("/process/cwd", "relative"), ("/process/cwd", ""),
        ("/process/cwd", "/a\0b"), ("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": -1, "hard": 1}]),
        ("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 2**64, "hard": 2**64}]), ("/hostname", "a\0b"),
        ("/hostname", "x" * 65), ("/mounts/0/destination", "/a\0b"), ("/mounts/0/source", "a\0b"), ("/root/path", "a\0b"),
        ("/root/path", ""), ("/annotations", {"a": 5}), ("/annotations", {"": "x"}), ("/annotations", {"a": "x" * (2 << 20)}),
        ("/linux/maskedPaths", ["relative"]), ("/linux/namespaces", [{"type": "mount"}, {"type": "mount"}]),
        ("/linux/namespaces", []), ("/linux/resources/pids", {"limit": 1.5}), ("/linux/resources/pids", {"limit": "5"}),
        ("/linux/devices", [{"path": "/dev/x", "type": "c", "major": 2**32, "minor": 0}]), ("/linux", None),
        ("/linux/uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}]), ("/process/oomScoreAdj", 1001),
        ("/hooks", {"prestart": [{"path": "relative"}]}), ("/hooks", {"prestart": [{"path": "/bin/true", "timeout": 0}]}),
        ("/hooks", {"prestart": [{"path": "/bin/true", "env": ["no"]}]}), ("/hooks", {"prestart": [{}]}),
    ],
)  # fmt: skip
def test_values(attack: Attack, pointer: str, value: Any) -> None:
    """A value that is out of range, or of another type, is an error with its JSON pointer."""
    *parents, last = pointer.split("/")[1:]
    place: Any = attack.config
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[int(last) if isinstance(place, list) else last] = value
    result = attack.run()
    assert (1, "", 1) == (result.status, result.out, result.err.count("\n")), result
    assert re.match(r"(config\.json:1:\d+: )?/\S*: ", result.err), result.err
    assert "/" + "/".join([*parents[:1], *([] if parents else [last])]) in result.err


USER_MAPS = {
    "overlap": [{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 5, "hostID": 5000, "size": 10}],
    "overlap outside": [
        {"containerID": 0, "hostID": 1000, "size": 10},
        {"containerID": 50, "hostID": 1005, "size": 10},
    ],
    "size 0": [{"containerID": 0, "hostID": 1000, "size": 0}],
    "wraps": [{"containerID": 0, "hostID": 4294967295, "size": 2}],
    "wraps inside": [{"containerID": 4294967295, "hostID": 5, "size": 1}],
    "too many": [{"containerID": n, "hostID": 1000 + n, "size": 1} for n in range(341)],
    "negative": [{"containerID": -1, "hostID": 1000, "size": 1}],
}


@pytest.mark.parametrize("kind", USER_MAPS)
def test_id_mappings(attack: Attack, kind: str) -> None:
    """CVE-2024-40635's class: mappings that overlap, wrap around, or are too many for the kernel."""
    attack.bundle.in_user_namespace()
    attack.linux["uidMappings"] = USER_MAPS[kind]
    result = attack.run()
    assert (1, True) == (result.status, "/linux/uidMappings" in result.err)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("mounts", [{"destination": "/x", "type": "tmpfs", "source": "x"}] * 100_000),
        ("env", ["A=b"] * 1_000_000),
        ("args", ["x" * 200_000]),
        ("annotations", {"a": "x" * (50 << 20)}),
        ("hooks", {"prestart": [{"path": "/bin/true"}] * 2000}),
    ],
    ids=["mounts", "env", "args", "annotations", "hooks"],
)
def test_floods(attack: Attack, pointer: str, value: Any) -> None:
    """CVE-2022-23471's class: too much of something is an error, in bounded time and memory."""
    (attack.process if pointer in ("env", "args") else attack.config)[pointer] = value
    attack.bundle.write()
    command = ["/bin/sh", "-c", 'ulimit -d 300000; exec "$@"', "sh",
               *attack.command("create", "--bundle", attack.bundle.folder, attack.id)]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE
    )
    assert 1 == done.returncode
    assert any(words in done.stderr for words in ("limit", "at most", "larger than")), done.stderr
    assert 9000 > len(done.stderr)


@pytest.mark.parametrize(
    "kind", ["fifo", "fifo with a writer", "socket", "folder", "symlink", "zero", "tty", "missing"]
)
def test_config_of_another_type(attack: Attack, kind: str) -> None:
    """A config.json that is not a regular file is rejected at once; it is not followed, read or waited for."""
    place = attack.bundle.folder / "config.json"
    held = -1
    if kind.startswith("fifo"):
        os.mkfifo(place)
        if "writer" in kind:
            held = os.open(place, os.O_RDWR)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    elif kind == "folder":
        place.mkdir()
    elif kind == "symlink":
        (attack.folder / "real.json").write_text(json.dumps(attack.config))
        place.symlink_to(attack.folder / "real.json")
    elif kind != "missing":
        os.mknod(place, 0o020600, os.makedev(*((1, 5) if kind == "zero" else (5, 0))))
    result = attack("create", "--bundle", attack.bundle.folder, attack.id)
    assert (1, True, True) == (result.status, "config.json" in result.err, AT_ONCE > result.seconds)
    if held >= 0:
        os.close(held)
    place.rmdir() if kind == "folder" else place.unlink(missing_ok=True)


@pytest.mark.parametrize("words", [("update", "--resources"), ("exec", "--process")], ids=lambda words: words[0])
def test_update_and_exec_reject_fifos(attack: Attack, words: tuple[str, str]) -> None:
    """The runtime refuses a FIFO at once, with or without such a container, instead of waiting for its writer."""
    place = attack.folder / "fifo"
    os.mkfifo(place)
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    refusal = f"cannot read {place}: it is a FIFO, not a regular file\n"
    absent = refusal if words[0] == "update" else "container `absent` does not exist\n"
    for name, expected in ((attack.id, refusal), ("absent", absent)):
        result = attack(*words, place, name, timeout=AT_ONCE)
        assert (expected, True) == (result.err, result.status != 0), result


def test_bundle_is_gone_after_create(attack: Attack) -> None:
    """Start reads nothing of the bundle: a config that was rewritten, or a bundle that is gone, changes nothing."""
    attack.bundle.shell("echo original")
    assert 0 == attack.create().status
    attack.bundle.shell("echo rewritten")
    attack.process["user"] = {"uid": 0, "gid": 0}
    attack.process["capabilities"] = {"bounding": ["CAP_SYS_ADMIN"]}
    attack.config["hooks"] = {"poststart": [{"path": "/bin/touch", "args": ["touch", str(attack.folder / "pwned")]}]}
    attack.bundle.write()
    assert 0 == attack.start().status
    attack.wait("stopped")
    assert "original\n" == attack.output()
    os.unlink(attack.bundle.folder / "config.json")
    assert 0 == attack.delete().status
    assert not (attack.folder / "pwned").exists()


IDS = [
    "",
    ".",
    "..",
    "a/b",
    "/a",
    "a/",
    "../a",
    "..a",
    ".a",
    "a\n",
    "a b",
    "a\x1b",
    "x" * 256,
    "é",
    "ａ",
    "a:b",
    "*",
    "$(id)",
]


@pytest.mark.parametrize("id", IDS)
def test_ids(attack: Attack, id: str) -> None:
    """CVE-2017-1002101's class: an id is a name, never a path; with a bad one nothing is made or removed."""
    (attack.root / "victim").mkdir(parents=True)
    attack.root.chmod(0o700)
    attack.bundle.write()
    before = sorted(path.name for path in attack.folder.iterdir())
    for words in (
        ["create", "--bundle", attack.bundle.folder],
        ["start"],
        ["state"],
        ["kill"],
        ["delete"],
        ["delete", "--force"],
    ):
        result = attack(*words, "--", id)
        assert 1 == result.status or (words[-1] == "--force" and not id), words
    assert sorted([*before, "log.json"]) == sorted(path.name for path in attack.folder.iterdir())
    attack("delete", "--force", "--", id)
    (attack.root / "victim").rmdir()


@pytest.mark.parametrize("path", [b"new\nline", b"esc\x1b[2J", b"x" * 250])
def test_bundle_has_a_strange_name(attack: Attack, path: bytes) -> None:
    """A bundle whose name is not plain text works, and its state can be read."""
    strange = os.fsencode(attack.folder) + b"/" + path
    os.rename(attack.bundle.folder, strange)
    attack.config["root"]["path"] = "rootfs"
    attack.process["args"] = ["/bin/sleep", "100"]
    attack.config["hooks"] = {"poststop": [{"path": "/bin/true"}],
                              "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /state"]}]}  # fmt: skip
    Path(os.fsdecode(strange), "config.json").write_text(json.dumps(attack.config))
    words = [*map(os.fsencode, attack.command("create")), b"--bundle", strange, attack.id.encode()]
    with (attack.folder / "err").open("wb") as err:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=err, stderr=err, check=False, timeout=PATIENCE)
    assert 0 == done.returncode, (attack.folder / "err").read_bytes()
    assert "created" == attack.state()["status"]
    assert attack.id in attack("list").out
    assert 0 == attack.start().status
    assert "running" == attack.state()["status"]
    assert 0 == attack.delete().status
    os.rename(strange, attack.bundle.folder)


def test_bundle_has_no_text_as_its_name(attack: Attack) -> None:
    """JSON can't hold a name that is not UTF-8: it is refused, before there is a container that no command can read."""
    strange = os.fsencode(attack.folder) + b"/caf\xe9"
    attack.bundle.write()
    os.rename(attack.bundle.folder, strange)
    words = [*map(os.fsencode, attack.command("create")), b"--bundle", strange, attack.id.encode()]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE)
    assert (1, True) == (done.returncode, b"its path is not UTF-8" in done.stderr), done.stderr
    os.rename(strange, attack.bundle.folder)
