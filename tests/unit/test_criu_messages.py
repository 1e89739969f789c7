"""The messages between the runtime and CRIU, and the protocol buffers that they are made of."""

import pytest

from pyoci.criu import rpc, wire


def test_encode_knows_numbers_of_every_size() -> None:
    """The examples of the encoding guide, and an int32 below zero, which has ten bytes."""
    assert wire.encode([(1, 150)]) == bytes.fromhex("089601")
    assert wire.encode([(2, b"testing")]) == bytes.fromhex("120774657374696e67")
    assert wire.encode([(1, -1)]) == bytes.fromhex("08ffffffffffffffffff01")


def test_decode_returns_what_encode_was_given() -> None:
    """Repeated fields keep their order; a negative number needs `signed`."""
    fields = [(1, 0), (3, b""), (3, b"x" * 300), (2047, 1 << 63), (1, -5)]
    decoded = wire.decode(wire.encode(fields))
    assert decoded == {1: [0, (1 << 64) - 5], 3: [b"", b"x" * 300], 2047: [1 << 63]}
    assert wire.signed(decoded[1][1]) == -5  # type: ignore[arg-type]
    assert wire.signed(0xFFFFFFFF, 32) == -1
    assert wire.signed(5, 32) == 5


def test_decode_reads_fixed_sizes() -> None:
    """fixed64 and fixed32 are numbers too."""
    assert wire.decode(bytes.fromhex("09" + "01" + "00" * 7 + "15" + "02000000")) == {1: [1], 2: [2]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("08", id="no value"),
        pytest.param("08" + "ff" * 10, id="a number without an end"),
        pytest.param("1205aa", id="a string longer than the message"),
        pytest.param("0b", id="a group"),
        pytest.param("0000", id="field 0"),
        pytest.param("0d0000", id="half a fixed32"),
    ],
)
def test_decode_rejects_damaged_messages(data: str) -> None:
    """Whatever is wrong, the error is a ValueError."""
    with pytest.raises(ValueError, match=r"byte|number|type|field"):
        wire.decode(bytes.fromhex(data))


def test_a_request_is_what_criu_expects() -> None:
    """The bytes of images/rpc.proto, field by field."""
    message = rpc.encode_request(
        rpc.DUMP,
        {
            "images_dir_fd": 5,
            "pid": 70000,
            "leave_running": True,
            "manage_cgroups_mode": rpc.CGROUP_MODES["soft"],
            "external": ["mnt[/a]:/a", "mnt[/b]:/b"],
            "inherit_fd": [{"key": "pipe:[7]", "fd": 1}],
        },
    )
    request = wire.decode(message)
    assert request[1] == [1]
    options = wire.decode(request[2][0])  # type: ignore[arg-type]
    assert options == {
        1: [5],
        2: [70000],
        3: [1],
        34: [3],
        37: [b"mnt[/a]:/a", b"mnt[/b]:/b"],
        27: [wire.encode([(1, b"pipe:[7]"), (2, 1)])],
    }


def test_show_prints_one_option_in_a_line() -> None:
    """Protocol buffers have this text form; a control character can't break the line."""
    lines = rpc.show(
        {"pid": 7, "leave_running": False, "manage_cgroups_mode": 0, "external": ['mnt[/a"\n]:/a'], "ps": {"port": 1}}
    )
    assert list(lines) == [
        "pid: 7",
        "leave_running: false",
        "manage_cgroups_mode: IGNORE",
        'external: "mnt[/a\\"\\x0a]:/a"',
        "ps: { port: 1 }",
    ]


def test_response_of_a_failed_dump() -> None:
    """CRIU reports the first error of its log."""
    response = rpc.Response.decode(wire.encode([(1, rpc.DUMP), (2, 0), (7, 2), (9, b"Error (a.c:1): no\n")]))
    assert (response.kind, response.success, response.error) == (rpc.DUMP, False, "Error (a.c:1): no")
    assert response.pid == -1


def test_response_with_a_notification() -> None:
    """Some notifications have init's pid."""
    inside = wire.encode([(1, b"post-restore"), (2, 4711)])
    response = rpc.Response.decode(wire.encode([(1, rpc.NOTIFY), (2, 1), (5, inside)]))
    assert (response.script, response.pid) == (rpc.POST_RESTORE, 4711)


@pytest.mark.parametrize("fields", [[(1, b"x")], [(5, 3)], [(5, b"\x0b")]])
def test_response_rejects_other_types(fields: "list[tuple[int, wire.Value]]") -> None:
    """A message of another program is a ValueError, not a crash."""
    with pytest.raises(ValueError):
        rpc.Response.decode(wire.encode(fields))
