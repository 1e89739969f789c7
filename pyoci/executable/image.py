"""Put the image of a started Python (image.c) into an executable, at build time."""

import secrets
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# struct elf64_phdr: type, flags, offset, virtual and physical address, size in file and in memory, alignment.
SEGMENT = struct.Struct("=IIQQQQQQ")
PT_LOAD = 1
ATTEMPTS = 4  # to make an image: in a few of a hundred processes, a number in it looks like an address
# Addresses of the image and, within it, of the list of pages that commands write to.
ADDRESSES = struct.Struct("=QQ")


def put_image(executable: Path) -> None:
    """Run the executable until Python has loaded the modules, and make every later process begin there.

    Replaces the segment of the image, the last of the file, with its contents at that moment. Removes the section
    headers: they would be wrong, and strip would believe them.
    """
    with tempfile.TemporaryDirectory(prefix="pyoci.") as name:
        directory = Path(name)
        shutil.copy(HERE / "docker.json", directory / "config.json")
        seed = str(1 + secrets.randbelow((1 << 32) - 1))
        (directory / "order").write_bytes(_run_for(executable, directory, seed))
        place = _put_data(executable, _image(executable, directory, seed))
        touched = _run_for(executable, directory)
        with executable.open("r+b") as file:
            file.seek(place)
            file.write(touched)


def _image(executable: Path, directory: Path, seed: str) -> bytes:
    """Return the image. If it seems to contain pointers to memory of one process, tries again in other ones."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _run_for(executable, directory, seed, str(directory / "order"))
        except RuntimeError:
            continue
    return _run_for(executable, directory, seed, str(directory / "order"))


def _put_data(executable: Path, image: bytes) -> int:
    """Replace the segment of the image. Return the file offset of the list of pages that commands write to."""
    first: int
    touched: int
    first, touched = ADDRESSES.unpack_from(image)
    elf = bytearray(executable.read_bytes())
    at, fields = image_segment(elf)
    kind, flags, offset, virtual, physical, _, in_memory, alignment = fields
    if first != virtual:
        raise RuntimeError(f"the image of {executable} begins at {first:#x}, but its segment at {virtual:#x}")

    content = image[ADDRESSES.size :]
    SEGMENT.pack_into(elf, at, kind, flags, offset, virtual, physical, len(content), in_memory, alignment)
    struct.pack_into("=Q", elf, 40, 0)
    struct.pack_into("=HHH", elf, 58, 0, 0, 0)
    elf[offset:] = content
    executable.write_bytes(elf)

    return offset + touched - virtual


def image_segment(elf: bytes | bytearray) -> "tuple[int, tuple[int, ...]]":
    """The last loaded segment: where its program header is in the file, and the header's fields."""
    table, entries = struct.unpack_from("=Q", elf, 32)[0], struct.unpack_from("=H", elf, 56)[0]
    headers = [(at, SEGMENT.unpack_from(elf, at)) for at in range(table, table + entries * SEGMENT.size, SEGMENT.size)]
    return max((header for header in headers if header[1][0] == PT_LOAD), key=lambda header: header[1][3])


def _run_for(executable: Path, directory: Path, *arguments: str) -> bytes:
    """Run the unfinished executable; return the file that it writes."""
    made = directory / "made"
    command = [str(executable), str(made), str(directory), *arguments]
    status = subprocess.call(command, env={}, stdin=subprocess.DEVNULL)
    if status != 0:
        raise RuntimeError(f"cannot make the image of {executable}: status {status}")
    content = made.read_bytes()
    made.unlink()
    return content
