"""pyoci/criu/cgroups.py: which cgroups of an image CRIU may make and change."""

import pytest

from pyoci.criu import cgroups
from pyoci.criu.messages import Message
from pyoci.errors import PyociError
from tests.support.checkpoints import Fields, encode

ROOT = "/engine/new"
HOST = {"pids/": (0o755, 0, 0), "pids/other": (0o755, 0, 0)}


def member(path: str, prefix: int | None = None, controller: str = "") -> bytes:
    """A thread's cgroup."""
    fields: Fields = {1: [controller.encode()], 2: [path.encode()]}
    return encode(fields | ({} if prefix is None else {3: [prefix]}))


def directory(name: str, *children: bytes, mode: int | None = None) -> bytes:
    """A cgroup that CRIU makes."""
    fields: Fields = {1: [name.encode()], 2: [*children]}
    return encode(fields | ({} if mode is None else {4: [encode({1: [mode], 2: [0], 3: [0]})]}))


def refusal(members: list[bytes], directories: list[bytes], controller: str = "", *, soft: bool = True) -> str:
    """What the check says of an image with these cgroups; "" if it accepts them."""
    sets = [encode({1: [2 + n], 2: [each]}) for n, each in enumerate(members)]
    controllers = [encode({1: [controller.encode()], 2: [*directories]})]
    found = cgroups.Cgroups(Message(encode({1: [*sets], 2: [*controllers]})))
    try:
        cgroups.check(found, ROOT, HOST.get, soft=soft)
    except PyociError as error:
        return str(error).partition(" not usable: ")[2]
    return ""


@pytest.mark.parametrize(
    ("members", "directories"),
    [
        ([member("/box", 4)], [directory("box")]),
        ([member("/box", 4), member("/box/in/most", 4)], [directory("box", directory("in", directory("most")))]),
        ([member("/box/in", 4)], [directory("box/in")]),
        ([member("/box")], [directory("box", directory("in"))]),
        ([member(ROOT, len(ROOT))], [directory(ROOT[1:], directory("in"))]),
    ],
)
def test_check_accepts_cgroups_of_the_container(members: list[bytes], directories: list[bytes]) -> None:
    """CRIU makes those below the new cgroup of the container."""
    assert "" == refusal(members, directories)


@pytest.mark.parametrize(
    ("members", "directories", "path"),
    [
        ([member("/box", 4)], [directory("box"), directory("victim", mode=0o777)], "/victim"),
        ([member("/box", 4)], [directory("box"), directory("made", directory("in"))], "/made"),
        ([member("/box", 4), member("/boxes", 4)], [directory("box")], "/engine/newes"),
        ([member("/box", 4), member("/victim", 4)], [directory("box")], "/victim"),
        ([member("/victim")], [], "/victim"),
        ([member("/box/in", 1)], [], "/box/in"),
    ],
)
def test_check_rejects_cgroups_of_the_host(members: list[bytes], directories: list[bytes], path: str) -> None:
    """CRIU would make them, change their owner and mode, or move processes to them."""
    assert f"CRIU would change the cgroup {path}, which is not the container's" == refusal(members, directories)


def test_check_rejects_a_cgroup_above_its_namespace() -> None:
    """CRIU would read behind the end of the name."""
    assert "a cgroup is above the root of its cgroup namespace" == refusal([member("/box/in", 7)], [directory("b")])


def test_check_accepts_the_hosts_cgroups_of_version_1() -> None:
    """CRIU dumps them with sub-cgroups of the container. It changes nothing if they are as they were."""
    members = [member("/", controller="pids")]

    assert "" == refusal(members, [directory("", mode=0o40755)], "pids")
    assert "" == refusal(members, [directory("other", mode=0o40755)], "pids")


@pytest.mark.parametrize(
    ("changed", "soft"),
    [
        (directory("other", mode=0o777), True),
        (directory("other"), True),
        (directory("missing", mode=0o755), True),
        (directory("other", mode=0o755), False),
    ],
)
def test_check_rejects_changes_of_cgroups_of_version_1(changed: bytes, soft: bool) -> None:
    """No cgroup there is the container's."""
    text = refusal([member("/", controller="pids")], [changed], "pids", soft=soft)

    assert text.startswith("CRIU would change the cgroup pids/")


@pytest.mark.parametrize("prefix", [0, 5])
def test_cgroups_rejects_an_impossible_namespace(prefix: int) -> None:
    """CRIU would move init to the root, or read behind the end of the path."""
    message = Message(encode({1: [encode({1: [2], 2: [member("/box", prefix)]})]}))

    with pytest.raises(ValueError, match="outside its cgroup namespace"):
        cgroups.Cgroups(message)
