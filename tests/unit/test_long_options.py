"""Options of a filesystem that fsconfig(2) refuses for their length: what the plan makes of them."""

import pytest

from pyoci.compiler import facts, mounts, show
from pyoci.compiler.block import encode
from pyoci.compiler.operations import Slots
from pyoci.compiler.verbs import Mount
from pyoci.errors import PyociError
from pyoci.host.facts import kernel_version

OLD, NEW = (6, 1), (6, 12)
LONG = "/" + "x" * 253


def compiled(kind: str, *options: str, kernel: tuple[int, int] = NEW, source: str = "", label: str = "") -> Mount:
    """The operation for one mount of this type with these options."""
    entry = {"destination": "/m", "type": kind, "source": source, "options": list(options)}
    config = {"mounts": [entry], "linux": {"mountLabel": label} if label else {}}
    [op] = mounts.compile_mounts(config, Slots(), bundle="/bundle", kernel=kernel).part.child
    assert isinstance(op, Mount)
    return op


@pytest.mark.parametrize(
    ("lowerdir", "layers"),
    [
        ("/a:/b", ["lowerdir+=/a", "lowerdir+=/b"]),
        ("/a::/b::/c", ["lowerdir+=/a", "datadir+=/b", "datadir+=/c"]),
        (r"/a\:b:/c\,d:/e\\f", ["lowerdir+=/a:b", "lowerdir+=/c,d", r"lowerdir+=/e\f"]),
        (r"/a\\:/b", ["lowerdir+=/a\\", "lowerdir+=/b"]),
        ("/a=b:/c", ["lowerdir+=/a=b", "lowerdir+=/c"]),
        *((refused, []) for refused in ("", ":", "::", ":/a", "/a:", "/a::", "/a:::/b", "/a::/b:/c", "/a\\")),
    ],
)
def test_layers_of_an_overlay(lowerdir: str, layers: list[str]) -> None:
    """They are taken apart as overlayfs does it; what it refuses is left for it to refuse."""
    assert layers == mounts._layers(lowerdir)


def test_layers_go_one_by_one_where_the_kernel_takes_them_so() -> None:
    """In the place of `lowerdir`, which stays as it is if it is short."""
    option = f"lowerdir={LONG}:/b"
    assert ["metacopy=on", f"lowerdir+={LONG}", "lowerdir+=/b", "index=on"] == list(
        compiled("overlay", "metacopy=on", option, "index=on").options
    )
    assert ["lowerdir=/a:/b"] == list(compiled("overlay", "lowerdir=/a:/b").options)
    assert not compiled("overlay", option).one_string


@pytest.mark.parametrize(
    ("kind", "options", "kernel"),
    [
        ("overlay", [f"lowerdir={LONG}:/b"], OLD),
        ("overlay", [f"lowerdir={LONG}{LONG}:/b"], NEW),
        ("overlay", ["lowerdir=/a:/b", f"upperdir={LONG}{LONG}"], NEW),
        ("overlay", [f"lowerdir={LONG}:/b", "lowerdir=/c"], NEW),
        ("9p", [f"trans={LONG}{LONG}"], NEW),
        ("9p", ["k" * 256], NEW),
        ("tmpfs", [f"mpol=bind:{'0,' * 130}0"], NEW),
        ("tmpfs", ["size=" + "ä" * 128], NEW),
    ],
)
def test_long_options_go_in_one_string(kind: str, options: list[str], kernel: tuple[int, int]) -> None:
    """Those of any filesystem, exactly as the config has them."""
    op = compiled(kind, *options, kernel=kernel)
    assert op.one_string
    assert ["source=none", ",".join(options)] == list(op.options)


def test_the_longest_option_of_fsconfig() -> None:
    """255 bytes of a value are not too long, of a key neither."""
    for option in (f"size={'0' * 255}", f"{'k' * 255}={'v' * 255}", "ä" * 127):
        op = compiled("tmpfs", option)
        assert (False, [option]) == (op.one_string, list(op.options))


def test_flags_and_source_are_apart_from_the_string() -> None:
    """The last one of a pair wins; a label with commas is quoted, as mount(2) has it."""
    size = "size=" + "0" * 300
    op = compiled("xfs", "sync", "lazytime", "async", "ro", "dirsync", size, source="/dev/sda", label="u:r:t:s0:c1,c2")
    assert ["source=/dev/sda", f'{size},context="u:r:t:s0:c1,c2"'] == list(op.options)
    assert 1 | 0x80 | 1 << 25 == op.mount_flags
    assert f'\0source=/dev/sda\0{size},context="u:r:t:s0:c1,c2"\0'.encode() in encode([op])


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ([f"size={'0' * 4091}"], "", "/mounts/0/options/0: cannot mount tmpfs on /m: option `size` has 4091 bytes"),
        (["uid=5", f"gid={'0' * 5000}"], "", "/mounts/0/options/1: cannot mount tmpfs on /m: option `gid` has 5000 bytes"),
        ([], "x" * 4096, "/mounts/0: cannot mount tmpfs on /m: option `source` has 4096 bytes"),
    ],
)  # fmt: skip
def test_what_is_too_long_for_both(options: list[str], source: str, message: str) -> None:
    """The error names the option and its length, and what the kernel takes."""
    with pytest.raises(PyociError) as caught:
        compiled("tmpfs", *options, source=source)
    hint = "use shorter paths: the kernel takes 255 bytes, or 4095 in all options together"
    assert f"{message} (hint: {hint})" == str(caught.value)


def test_a_page_of_options_fits() -> None:
    """The string may have 4095 bytes."""
    [_, string] = compiled("tmpfs", f"size={'0' * 4090}").options
    assert 4095 == len(string)


def test_the_plan_says_how() -> None:
    """`pyoci plan` shows that the options are passed in one string."""
    op = compiled("overlay", f"lowerdir=/a:{LONG}", kernel=OLD, source="overlay")
    assert f"overlay → /m  (source=overlay, lowerdir=/a:{LONG}, in one string)" == show.phrase(op)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_layer_that_fails_has_the_place_of_lowerdir(number: int) -> None:
    """The kernel's reason about a layer goes with the option that names it."""
    entry = {"destination": "/m", "type": "overlay", "options": ["ro", f"index=on,lowerdir={LONG}:/b::/c"]}
    config = {"mounts": [entry]}
    [op] = mounts.compile_mounts(config, Slots(), bundle="/bundle", kernel=NEW).part.child
    assert op.options[number].startswith(("lowerdir+=", "datadir+="))
    assert "/mounts/0/options/1" == op.pointers[number]


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v769", (6, 18)), ("6.1.0-50-amd64", (6, 1)), ("6.12-rc3", (6, 12)), ("6.12+", (6, 12)), ("x", (0, 0)), ("6", (0, 0))],
)  # fmt: skip
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    """Whatever a distribution adds."""
    assert version == kernel_version(release)


def test_host_default_appends_layers() -> None:
    """Golden plans are for a new kernel."""
    assert facts.Host().kernel >= NEW
