"""pyoci/criu/image_directory.py: which directories restore reads images from."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.criu import image_directory, images, wire
from pyoci.criu.pagemap import needed
from pyoci.errors import PyociError, SetupError
from tests.support import checkpoints
from tests.unit.test_criu_images import entry


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """An image directory."""
    made = tmp_path / "image"
    made.mkdir(0o700)
    fill(made)
    return made


def fill(directory: Path) -> None:
    """Write the files of an image, with some that restore does not read."""
    for name, data in {**checkpoints.files("plain"), "pages-1.img": b"memory", "dump.log": b""}.items():
        path = directory / name
        path.write_bytes(data)
        path.chmod(0o644)


def read(directory: Path) -> images.Image:
    """Read the image."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        return image_directory.read(fd)
    finally:
        os.close(fd)


def refusal(directory: Path) -> str:
    """The error of a read."""
    with pytest.raises(PyociError) as caught:
        read(directory)
    return str(caught.value)


def test_read_decodes_the_image(directory: Path) -> None:
    """The directory may have other files and directories."""
    (directory / "logs").mkdir()

    assert [1, 2] == [task.pid for task in read(directory).tasks]


def test_read_leaves_no_descriptor(directory: Path) -> None:
    """Neither of the directory nor of its parents."""
    (directory / "parent").symlink_to("../before")
    (directory.parent / "before").mkdir(0o700)
    before = os.listdir("/proc/self/fd")
    read(directory)
    (directory / "pages-2.img").symlink_to("/etc/passwd")
    refusal(directory)

    assert before == os.listdir("/proc/self/fd")


@pytest.mark.parametrize("name", ["pages-1.img", "core-1.img", "tmpfs-dev-64.tar.gz.img", "any\nthing"])
def test_read_rejects_links(directory: Path, name: str) -> None:
    """CRIU would follow the link to a file of the host."""
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to("/etc/passwd")
    shown = name.replace("\n", "\\n")

    assert f"cannot restore the container: checkpoint image {shown} is a symbolic link" == refusal(directory)


def test_read_rejects_special_files(directory: Path) -> None:
    """CRIU would wait for a fifo."""
    (directory / "pages-1.img").unlink()
    os.mkfifo(directory / "pages-1.img")

    assert "cannot restore the container: checkpoint image pages-1.img is not a regular file" == refusal(directory)


def test_read_rejects_what_others_can_write(directory: Path) -> None:
    """They could change it after the check."""
    (directory / "core-1.img").chmod(0o646)
    assert "cannot restore the container: other users can write to checkpoint image core-1.img" == refusal(directory)
    (directory / "core-1.img").chmod(0o644)
    directory.chmod(0o777)
    assert "cannot restore the container: other users can write to the image directory" == refusal(directory)


def test_read_follows_parents_beside_the_image(directory: Path) -> None:
    """A chain of pre-dumps, in which each directory names the one before."""
    for number in range(3):
        before = directory.parent / f"pre{number}"
        before.mkdir(0o700)
        (before / "pages-1.img").write_bytes(b"memory")
    (directory / "parent").symlink_to("../pre0")
    (directory.parent / "pre0/parent").symlink_to("../pre1")
    (directory.parent / "pre1/parent").symlink_to("../pre2/")
    assert 2 == len(read(directory).tasks)

    (directory.parent / "pre2/pages-1.img").unlink()
    (directory.parent / "pre2/pages-1.img").symlink_to("/etc/passwd")
    assert "cannot restore the container: checkpoint image pages-1.img is a symbolic link" == refusal(directory)


def test_read_accepts_a_parent_in_the_image(directory: Path) -> None:
    """An archive may have the previous dump in a directory of the image."""
    (directory / "parent").mkdir(0o700)
    assert 2 == len(read(directory).tasks)


def test_parents_have_places_beside_each_other(directory: Path) -> None:
    """CRIU finds a parent by its path from the image."""
    for number in range(2):
        (directory.parent / f"pre{number}").mkdir(0o700)
    (directory / "parent").symlink_to("../pre0")
    (directory.parent / "pre0/parent").symlink_to("../pre1/")
    (directory.parent / "pre1/parent").mkdir(0o700)
    own = os.open(directory, os.O_RDONLY)
    found = image_directory.parents(own, "image")
    names = ["pre0", "pre1", "pre1/parent"]

    assert names == [place for place, _ in found]
    assert [os.stat(directory.parent / name).st_ino for name in names] == [os.fstat(fd).st_ino for _, fd in found]
    for fd in (own, *(fd for _, fd in found)):
        os.close(fd)


@pytest.mark.parametrize("target", ["/var/lib", "../../other", "pre/../../other", "../link"])
def test_read_rejects_parents_elsewhere(directory: Path, target: str) -> None:
    """The memory of another container may be there."""
    (directory.parent / "link").symlink_to("/")
    (directory / "parent").symlink_to(target)

    assert "cannot restore the container: the parent of its checkpoint image" in refusal(directory)


def test_read_rejects_parents_in_a_circle(directory: Path) -> None:
    """CRIU would follow it forever."""
    (directory / "parent").symlink_to("../image")

    assert "cannot restore the container: it has more than 256 parents" == refusal(directory)


def test_read_rejects_large_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of any size costs nothing to make."""
    os.truncate(directory / "core-1.img", 1 << 40)

    expected = "cannot restore the container: checkpoint image core-1.img is damaged: it is too large"
    monkeypatch.setattr(image_directory, "MAX_FILE", 1 << 20)
    assert expected == refusal(directory)


def test_read_reports_what_the_kernel_says(tmp_path: Path) -> None:
    """A file is not a directory."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(SetupError, match="cannot read the checkpoint image: not a directory"):
            image_directory.read(fd)
    finally:
        os.close(fd)


PATHS = [wire.encode([(1, b""), (2, b"/a/../../b")]), wire.encode([(1, b"../x"), (2, b"/a")])]


@pytest.mark.parametrize(
    "message",
    [
        wire.encode([(1, wire.encode([(1, 2), (2, PATHS[0])]))]),
        wire.encode([(1, wire.encode([(1, 2), (2, PATHS[1])]))]),
        wire.encode([(2, wire.encode([(1, b"../..")]))]),
        wire.encode([(2, wire.encode([(2, wire.encode([(1, b"/../../etc")]))]))]),
        wire.encode([(2, wire.encode([(2, wire.encode([(1, b"/"), (3, wire.encode([(1, b"../../etc/x")]))]))]))]),
    ],
    ids=["path", "controller", "name", "directory", "property"],
)
def test_read_rejects_cgroups_that_lead_elsewhere(directory: Path, message: bytes) -> None:
    """CRIU makes directories, and writes files, at paths that it makes of these names."""
    (directory / "cgroup.img").write_bytes(entry(images.CGROUP, message))

    assert "cannot restore the container: checkpoint image cgroup.img is damaged: it has a" in refusal(directory)


def pagemap(*entries: dict[int, int], pages_id: int = 1) -> bytes:
    """A file pagemap-N.img."""
    messages = [wire.encode(fields.items()) for fields in ({1: pages_id}, *entries)]
    return bytes(8) + b"".join(len(message).to_bytes(4, "little") + message for message in messages)


PRESENT, IN_PARENT = 4, 1
PAGE = os.sysconf("SC_PAGESIZE")


def test_read_rejects_missing_memory(directory: Path) -> None:
    """CRIU would read for ever. Pages of the parent, and pages that come later, are not in the file."""
    entries = [
        {1: 0x1000, 2: 3, 4: PRESENT, 5: 3},
        {1: 0x9000, 2: 7, 4: IN_PARENT, 5: 7},
        {1: 0x20000, 2: 5, 4: 2, 5: 5},
    ]
    (directory / "pagemap-1.img").write_bytes(pagemap(*entries))
    (directory / "pages-1.img").write_bytes(bytes(3 * PAGE))
    read(directory)

    (directory / "pages-1.img").write_bytes(bytes(3 * PAGE - 1))

    assert "checkpoint image pages-1.img is damaged: it is too short" in refusal(directory)
    (directory / "pages-1.img").unlink()
    read(directory)


def test_read_ignores_memory_of_earlier_dumps(directory: Path) -> None:
    """A dump to the same directory leaves the files of processes that are no more, and overwrites their memory."""
    (directory / "pagemap-77.img").write_bytes(pagemap({1: 0x1000, 2: 3, 4: PRESENT, 5: 3}))
    (directory / "pages-1.img").write_bytes(bytes(PAGE))

    read(directory)


def test_read_knows_images_of_old_versions(directory: Path) -> None:
    """They have a bool instead of the flags, and the number of pages in another field."""
    (directory / "pagemap-shmem-5.img").write_bytes(pagemap({1: 0, 2: 2}, {1: 0x9000, 2: 9, 3: 1}, pages_id=8))
    (directory / "pages-8.img").write_bytes(bytes(2 * PAGE - 1))
    assert "pages-8.img is damaged" in refusal(directory)

    (directory / "pages-8.img").write_bytes(bytes(2 * PAGE))
    read(directory)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        pagemap()[:-1],
        pagemap({1: 0x1000, 2: 3})[:-2],
        bytes(8) + b"\x02\0\0\0\x0a\0",
        bytes(8) + b"\x01\0\0\0\x08",
    ],
)
def test_read_rejects_damaged_page_maps(data: bytes, directory: Path) -> None:
    """Truncated files, and fields of other kinds."""
    (directory / "pagemap-1.img").write_bytes(data)

    assert "checkpoint image pagemap-1.img is damaged: " in refusal(directory)


def test_read_counts_a_large_page_map(directory: Path) -> None:
    """A process with 5 GiB in single pages has a million entries; they may lie across the parts that are read."""
    entry = wire.encode({1: 0x7F0000000000, 4: PRESENT, 5: 1}.items())
    count = 1_100_000
    data = pagemap() + (len(entry).to_bytes(4, "little") + entry) * count
    assert len(data) > image_directory.MAX_FILE
    (directory / "pagemap-1.img").write_bytes(data)
    os.truncate(directory / "pages-1.img", count * PAGE)
    read(directory)

    os.truncate(directory / "pages-1.img", count * PAGE - 1)

    assert "checkpoint image pages-1.img is damaged: it is too short" in refusal(directory)


@pytest.mark.parametrize("size", range(1, 40))
def test_parts_of_a_page_map_may_have_any_size(size: int) -> None:
    """Each entry is counted once."""
    data = pagemap({1: 0x1000, 4: PRESENT, 5: 300}, {1: 1 << 46, 4: PRESENT, 5: 7}, {1: 0, 4: IN_PARENT, 5: 9})
    assert (1, 307) == needed(data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("fields", [{5: 1 << 41}, {4: 0, 5: 1 << 63}])
def test_read_rejects_impossible_page_maps(fields: dict[int, int], directory: Path) -> None:
    """No process has so many pages; sums can't overflow."""
    (directory / "pagemap-1.img").write_bytes(pagemap({1: 0, 4: PRESENT, **fields}))
    if fields.get(4) == 0:
        read(directory)
    else:
        assert "checkpoint image pagemap-1.img is damaged: " in refusal(directory)


def test_read_rejects_long_entries(directory: Path) -> None:
    """They are a few bytes long."""
    (directory / "pagemap-1.img").write_bytes(pagemap() + (1 << 24).to_bytes(4, "little"))
    assert "checkpoint image pagemap-1.img is damaged: it has an entry that is too large" in refusal(directory)
