"""Options of a filesystem that are longer than the 255 bytes which fsconfig(2) takes at once."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_mounts import mounted
from tests.support.kernels import KERNEL
from tests.support.rootless import Plain
from tests.support.runtime import Bundle, Host, MountPoint, Runtime

pytestmark = pytest.mark.root

APPENDS_LAYERS = KERNEL >= (6, 8)
LONG = "long" * 50  # a directory's name


@pytest.fixture
def plain(pyoci: str, tmp_path: Path, bundle: Bundle, host_clean: Host) -> Iterator[Plain]:
    """The runtime of a plain user, whose containers are deleted afterwards."""
    made = Plain(pyoci, tmp_path, bundle, host_clean)
    yield made
    made.clean_up()


def folders(folder: Path, *names: str) -> list[str]:
    """Directories, each with a file of its own name, as long as that is a plain one."""
    made = []
    for n, name in enumerate(names):
        path = folder / name
        path.mkdir(parents=True)
        (path / f"from-{n}").touch()
        os.chmod(path, 0o755)
        made.append(str(path))
    return made


def layers_of(points: dict[str, MountPoint], destination: str) -> list[str]:
    """The layers of an overlay as mountinfo has them."""
    options = points[destination].super_options
    return [option for option in options if option.startswith(("lowerdir", "datadir"))]


def upper(folder: Path) -> list[str]:
    """An upper and a work directory with long paths, as options of an overlay."""
    made = []
    for name in ("upper", "work"):
        path = folder / LONG / name
        path.mkdir(parents=True)
        made.append(f"{name}dir={path}")
    return made


def test_an_overlay_of_many_layers(runtime: Runtime, bundle: Bundle) -> None:
    """Each layer goes to the kernel by itself if it accepts that, else all of them at once."""
    layers = folders(runtime.folder, *(f"layer-{n}" for n in range(30)))
    bundle.mount("/m", "overlay", "nosuid", f"lowerdir={':'.join(layers)}")
    points, out = mounted(runtime, "ls /m")
    assert sorted(f"from-{n}" for n in range(30)) == sorted(out.split())
    assert "nosuid" in points["/m"].options
    assert {f"lowerdir+={layer}" for layer in layers} == set(layers_of(points, "/m")) or not APPENDS_LAYERS


def test_more_layers_than_mount_2_takes(runtime: Runtime, bundle: Bundle) -> None:
    """Where the kernel takes one layer at a time there may be more than a page of them; else the length is named."""
    layers = folders(runtime.folder, *(f"layer-{n}" for n in range(120)))
    option = f"lowerdir={':'.join(layers)}"
    bundle.mount("/m", "overlay", option)
    if APPENDS_LAYERS:
        assert "120\n" == runtime.shell("ls /m | wc -l")
        return
    where = f"/mounts/{len(bundle.config['mounts']) - 1}/options/0"
    assert runtime.create_fails() == (
        f"{where}: cannot mount overlay on /m: option `lowerdir` has {len(option) - 9} bytes "
        "(hint: use shorter paths: the kernel takes 255 bytes, or 4095 in all options together)"
    )


@pytest.mark.parametrize("how", [(), ("--no-pivot",)], ids=["pivot", "no pivot"])
def test_an_overlay_with_a_long_path(runtime: Runtime, bundle: Bundle, how: tuple[str, ...]) -> None:
    """A layer, an upper and a work directory of more than 255 bytes each. Of the way there nothing is left."""
    lower = folders(runtime.folder, f"lower/{LONG}")
    bundle.mount("/m", "overlay", f"lowerdir={lower[0]}", *upper(runtime.folder), "noatime")
    points, out = mounted(runtime, "ls /m; touch /m/new; ls /; mkdir /m/x && stat -c %a /", *how)
    assert "from-0" == out.split()[0]
    assert "noatime" in points["/m"].options
    assert (runtime.folder / LONG / "upper/new").exists()
    expected = {entry["destination"] for entry in bundle.config["mounts"]} | {"/"}
    assert expected <= points.keys()
    assert all(path in expected or path.startswith(("/proc/", "/sys/")) for path in points)


def test_layers_in_the_root_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    """A long path may lead into the container's own root filesystem, as a short one may."""
    lower = folders(bundle.rootfs, "lower")
    bundle.mount("/m", "overlay", f"lowerdir={lower[0]}", *upper(bundle.rootfs))
    assert "from-0\n" == runtime.shell("ls /m")


def test_names_with_colons_commas_and_backslashes(runtime: Runtime, bundle: Bundle) -> None:
    """A backslash keeps them apart from what separates layers and options, whichever way the layers take."""
    names = ("a:b", "c,d", "e\\f", "long" * 30)
    layers = folders(runtime.folder, *names)
    escaped = [path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for path in layers]
    bundle.mount("/m", "overlay", f"lowerdir={':'.join(escaped)}")
    bundle.mount("/n", "overlay", f"lowerdir={':'.join(escaped)}", *upper(runtime.folder))
    expected = [f"from-{n}" for n in range(4)]
    assert (expected, expected) == tuple(part.split() for part in runtime.shell("ls /m; echo -; ls /n").split("-\n"))


@pytest.mark.may_skip("data-only layers came with Linux 6.5")
def test_layers_of_data_alone(runtime: Runtime, bundle: Bundle) -> None:
    """What stands behind `::` holds data and shows no names of its own."""
    if KERNEL < (6, 5):
        pytest.skip("no layers of data alone")
    layers = folders(runtime.folder, "a", "b", "c", "d", "long" * 30)
    lower = f"{layers[0]}:{layers[1]}:{layers[4]}::{layers[2]}::{layers[3]}"
    bundle.mount("/m", "overlay", f"lowerdir={lower}", "metacopy=on", "redirect_dir=on")
    points, out = mounted(runtime, "ls /m")
    assert ["from-0", "from-1", "from-4"] == out.split()
    if APPENDS_LAYERS:
        assert {f"datadir+={layers[2]}", f"datadir+={layers[3]}"} <= set(layers_of(points, "/m"))


@pytest.mark.parametrize("lower", ["/a::/b:/c", ":/a", "/a:::/b", "/a:"])
def test_layers_that_overlayfs_refuses(runtime: Runtime, bundle: Bundle, lower: str) -> None:
    """The kernel says so, as it does of a short string."""
    folders(runtime.folder, LONG)
    bundle.mount("/m", "overlay", f"lowerdir={lower.replace('/', f'{runtime.folder}/{LONG}/')}")
    assert "cannot mount overlay on /m: mount: " in runtime.create_fails()


def test_a_layer_that_is_missing_among_many(runtime: Runtime, bundle: Bundle) -> None:
    """The error has the place of the option, and names the layer where the kernel takes them one at a time."""
    layers = [*folders(runtime.folder, *(f"layer-{n}" for n in range(30))), "/no/such"]
    bundle.mount("/m", "overlay", "ro", f"lowerdir={':'.join(layers)}")
    failed = runtime.create_fails()
    place = f"/mounts/{len(bundle.config['mounts']) - 1}"
    if APPENDS_LAYERS:
        assert failed.startswith(f"{place}/options/1: cannot mount overlay on /m: fsconfig: no such file or directory")
    else:
        assert failed.startswith(f"{place}: cannot mount overlay on /m: mount: no such file or directory")


@pytest.mark.parametrize("namespace", ["host", "user"])
def test_any_filesystem(runtime: Runtime, bundle: Bundle, namespace: str) -> None:
    """A tmpfs with a long source and a long size is what it would be with short ones: read-only at last, with the
    target's mode and, for tmpcopyup, its content."""
    for name, mode in (("kept", 0o1751), ("copied", 0o700)):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name).chmod(mode)
    (bundle.rootfs / "copied/file").touch()
    if namespace == "user":
        bundle.in_user_namespace()
    size = f"size={'0' * 300}100k"
    bundle.mount("/kept", "tmpfs", "nosuid", "noexec", "strictatime", size, source=LONG * 2)
    bundle.mount("/copied", "tmpfs", "ro", "tmpcopyup", "nr_inodes=77", size)
    bundle.mount("/copied/below", "tmpfs")
    points, out = mounted(runtime, "stat -c %a /kept; ls /copied; touch /copied/x 2>&1; true")
    assert {"rw", "nosuid", "noexec"} == points["/kept"].options
    assert LONG * 2 == points["/kept"].source
    assert {"rw", "size=64k"} <= points["/kept"].super_options
    assert ["1751", "below", "file"] == out.split()[:3]
    assert "Read-only file system" in out
    assert "nr_inodes=77" in points["/copied"].super_options


@pytest.mark.may_skip("a tmpfs can be idmapped since Linux 6.3")
def test_an_idmapped_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    """A mount with a long option can have its ids mapped, like any other."""
    if KERNEL < (6, 3):
        pytest.skip("no idmapped tmpfs")
    bundle.mount("/m", "tmpfs", f"size={'0' * 300}100k", "mode=755", "idmap")
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    bundle.config["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    assert "1000:1000\n" == runtime.shell("stat -c %u:%g /m")


def test_flags_of_the_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    """What fsconfig takes as an option is a flag of mount(2)."""
    lower = folders(runtime.folder, "lower")
    bundle.mount("/m", "overlay", "ro", f"lowerdir={lower[0]}", *upper(runtime.folder))
    bundle.mount("/t", "tmpfs", "sync", "dirsync", "lazytime", f"size={'0' * 300}100k")
    points, _ = mounted(runtime)
    assert "ro" in points["/m"].options & points["/m"].super_options
    assert {"rw", "sync", "dirsync", "lazytime"} <= points["/t"].super_options


def test_an_option_that_is_too_long_for_all(runtime: Runtime, bundle: Bundle) -> None:
    """The error names the option and its length, and says what to do."""
    bundle.mount("/m", "tmpfs", "mode=700", f"size={'0' * 5000}100k")
    assert runtime.create_fails() == (
        f"/mounts/{len(bundle.config['mounts']) - 1}/options/1: cannot mount tmpfs on /m: option `size` has 5004 bytes "
        "(hint: use shorter paths: the kernel takes 255 bytes, or 4095 in all options together)"
    )


def test_a_long_option_of_a_remount(runtime: Runtime, bundle: Bundle) -> None:
    """A remount has one way only, and says so."""
    bundle.mount("/m", "tmpfs")
    bundle.config["mounts"].append({"destination": "/m", "options": ["remount", f"size={'0' * 300}100k"]})
    assert runtime.create_fails() == (
        f"/mounts/{len(bundle.config['mounts']) - 1}/options/1: cannot remount /m: option `size` has 304 bytes "
        "(hint: use shorter paths: the kernel takes 255 bytes)"
    )


def test_overlays_of_a_plain_user(plain: Plain, bundle: Bundle) -> None:
    """In a user namespace the same: many layers, and long paths."""
    layers = folders(plain.folder, *(f"layer-{n}" for n in range(10)))
    long = folders(plain.folder, f"{LONG}/lower")
    for path in (plain.folder / LONG, plain.folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o711)
    bundle.mount("/m", "overlay", f"lowerdir={':'.join(layers)}")
    bundle.mount("/n", "overlay", f"lowerdir={long[0]}:{layers[0]}", "userxattr")
    assert "10\n1\n" == plain.shell("ls /m | wc -l; ls /n | wc -l")
