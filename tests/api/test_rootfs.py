"""Root filesystems from directories, archives and OCI image layouts."""

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import pyoci
from pyoci.testing import make_rootfs
from tests.support.image import ARCHITECTURES

MACHINE = os.uname().machine
ARCHITECTURE = ARCHITECTURES.get(MACHINE, MACHINE)


def member(name: str, content: bytes | None = b"", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a layer; a directory without content."""
    made = tarfile.TarInfo(name)
    made.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    made.mode = 0o755 if content is None else 0o644
    made.size = len(content or b"")
    for key, value in facts.items():
        setattr(made, key, value)
    return made, content or b""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of these members."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


class Layout:
    """An OCI image layout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": "x", "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, *layers: bytes, tag: str = "latest", **platform: str) -> "Layout":
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(b"{}"),
            "layers": [self.blob(content) for content in layers],
        }
        entry = self.blob(json.dumps(manifest).encode())
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if platform:
            entry["platform"] = platform
        self.entries.append(entry)
        self.write(self.entries)
        return self

    def write(self, entries: list[dict[str, Any]]) -> None:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def files(root: Path) -> dict[str, str]:
    """Every regular file with its content."""
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_layers_lie_upon_each_other(tmp_path: Path) -> None:
    """Later files replace earlier ones; whiteouts hide what is below, wherever they stand in their layer."""
    first = layer(
        member("a/", None), member("a/kept", b"1"), member("a/gone", b"1"), member("b", None), member("b/old", b"1"),
        member("c", None), member("c/deep", None), member("c/deep/file", b"1"), member("d", b"file"),
    )  # fmt: skip
    second = layer(
        member("./a/kept", b"2"), member("a/.wh.gone"), member("b/new", b"2"), member("b/.wh..wh..opq"),
        member(".wh.c"), member("d", None), member("d/inside", b"2"), member("none/.wh.none"),
    )  # fmt: skip
    Layout(tmp_path / "image").image(first, gzip.compress(second))
    root = make_rootfs(tmp_path / "image", tmp_path / "rootfs")

    assert {"a/kept": "2", "b/new": "2", "d/inside": "2"} == files(root)


def test_a_layer_may_hide_and_replace_one_file(tmp_path: Path) -> None:
    """A whiteout concerns the layers below alone."""
    Layout(tmp_path / "image").image(layer(member("x", b"1")), layer(member("x", b"2"), member(".wh.x")))

    assert {"x": "2"} == files(make_rootfs(tmp_path / "image", tmp_path / "rootfs"))


@pytest.mark.parametrize(
    "members",
    [
        [symlink("out", "OUTSIDE"), member("out/file", b"bad")],
        [symlink("out", "../../../../../../../../OUTSIDE"), member("out/file", b"bad")],
        [symlink("file", "OUTSIDE/file"), member("file", b"bad")],
        [symlink("out", "OUTSIDE"), member("out/.wh.file")],
        [symlink("out", "OUTSIDE"), member("out/.wh..wh..opq")],
        [symlink("out", "OUTSIDE"), member("link", type=tarfile.LNKTYPE, linkname="out/file"), member("link", b"bad")],
        [symlink("out", "OUTSIDE/file"), member("out", mode=0o777)],
        [symlink("out", "OUTSIDE"), member("out", None, mode=0o777)],
        [member("../outside/file", b"bad")],
        [member("OUTSIDE/file", b"bad")],
        [member("x", type=tarfile.LNKTYPE, linkname="../outside/file")],
        [member(".wh...")],
        [member("a", None), member("a/.wh..")],
    ],
)
def test_nothing_outside_changes(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Links and names that lead out of the root filesystem do not: they end below it, or are refused."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "file").write_text("canary")
    before = [(path.stat().st_mode, path.stat().st_nlink, path.stat().st_ino) for path in (outside, outside / "file")]
    for entry, _ in members:
        entry.name = entry.name.replace("OUTSIDE", str(outside))
        entry.linkname = entry.linkname.replace("OUTSIDE", str(outside))
    layout = Layout(tmp_path / "image").image(*(layer(each) for each in members))
    try:
        make_rootfs(layout.path, tmp_path / "rootfs")
    except (pyoci.PyociError, OSError):
        pass

    assert "canary" == (outside / "file").read_text()
    assert before == [(p.stat().st_mode, p.stat().st_nlink, p.stat().st_ino) for p in (outside, outside / "file")]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")
def test_an_archive_keeps_what_root_may_set(tmp_path: Path) -> None:
    """Owners, modes, devices, links, times and file capabilities."""
    capability = b"\x01\x00\x00\x02" + b"\x00\x04\x00\x00" + bytes(12)
    (tmp_path / "x.tar").write_bytes(
        layer(
            member("suid", b"x", uid=5, gid=6, mode=0o4755, mtime=1000),
            member("hard", type=tarfile.LNKTYPE, linkname="suid"),
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("dir", None, mode=0o1777),
            member("locked", None, mode=0o500),
            member("locked/file", b"x"),
            member(
                "cap",
                b"x",
                pax_headers={"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")},
            ),
        )
    )
    root = make_rootfs(tmp_path / "x.tar", tmp_path / "rootfs")
    suid, null = (root / "suid").stat(), (root / "null").stat()

    assert (5, 6, 0o4755, 1000, 2) == (
        suid.st_uid,
        suid.st_gid,
        stat.S_IMODE(suid.st_mode),
        suid.st_mtime,
        suid.st_nlink,
    )
    assert (True, os.makedev(1, 3)) == (stat.S_ISCHR(null.st_mode), null.st_rdev)
    assert (0o1777, 0o500) == tuple(stat.S_IMODE((root / name).stat().st_mode) for name in ("dir", "locked"))
    assert capability == os.getxattr(root / "cap", "security.capability")


def test_an_image_for_this_machine(tmp_path: Path) -> None:
    """Of several in an index, also one below another; a tag chooses among several."""
    layout = Layout(tmp_path / "image")
    layout.image(layer(member("x", b"other")), os="linux", architecture="none")
    layout.image(layer(member("x", b"ours")), os="linux", architecture=ARCHITECTURE)
    nested = json.dumps({"schemaVersion": 2, "manifests": layout.entries}).encode()
    layout.write([layout.blob(nested)])
    assert {"x": "ours"} == files(make_rootfs(layout.path, tmp_path / "nested"))

    layout.write([*layout.entries])
    layout.image(layer(member("x", b"tagged")), tag="mine")
    assert {"x": "tagged"} == files(make_rootfs(f"{layout.path}:mine", tmp_path / "tagged"))
    with pytest.raises(pyoci.PyociError, match="has 2 images for this machine"):
        make_rootfs(layout.path, tmp_path / "several")


def test_a_blob_that_is_not_its_digest(tmp_path: Path) -> None:
    """Damaged or forged."""
    layout = Layout(tmp_path / "image").image(layer(member("x", b"1")))
    for blob in (layout.path / "blobs/sha256").iterdir():
        if b"ustar" in blob.read_bytes():
            blob.write_bytes(layer(member("x", b"2")))

    with pytest.raises(pyoci.PyociError, match="does not have the digest of its name"):
        make_rootfs(layout.path, tmp_path / "rootfs")


def test_compressed_archives(tmp_path: Path) -> None:
    """Whatever the name is."""
    (tmp_path / "gz").write_bytes(gzip.compress(layer(member("x", b"1"))))
    assert {"x": "1"} == files(make_rootfs(tmp_path / "gz", tmp_path / "one"))
    (tmp_path / "zst").write_bytes(b"\x28\xb5\x2f\xfd")
    if not shutil.which("zstd"):
        with pytest.raises(pyoci.PyociError, match="compressed with zstd"):
            make_rootfs(tmp_path / "zst", tmp_path / "two")
    else:
        (tmp_path / "plain").write_bytes(layer(member("x", b"2")))
        subprocess.run(["zstd", "-q", "-f", tmp_path / "plain", "-o", tmp_path / "zst"], check=True)
        assert {"x": "2"} == files(make_rootfs(tmp_path / "zst", tmp_path / "two"))


def test_a_directory_is_copied(tmp_path: Path) -> None:
    """With its links and modes."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (source / "file").chmod(0o640)
    (source / "link").symlink_to("/file")
    root = make_rootfs(source, tmp_path / "rootfs")

    assert ("/file", 0o640) == (os.readlink(root / "link"), stat.S_IMODE((root / "file").stat().st_mode))


@pytest.mark.parametrize("source", ["none", "none:tag", "/etc/passwd"])
def test_a_wrong_source_is_an_error(tmp_path: Path, source: str) -> None:
    """One error of pyoci."""
    with pytest.raises(pyoci.PyociError, match=r"cannot (create|unpack)"):
        make_rootfs(source, tmp_path / "rootfs")
