"""Put the image of a started Python (image.c) into an executable, at build time.

Two builds of the same sources give the same bytes. So the processes that make the image see the model of a host
(build_host.c), and begin alike: with one seed, no variables, and a directory whose path has always the same length.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# struct elf64_phdr: type, flags, offset, virtual and physical address, size in file and in memory, alignment.
SEGMENT = struct.Struct("=IIQQQQQQ")
PT_LOAD = 1
ATTEMPTS = 16  # to make an image: in a few of a hundred processes, a number in it looks like an address
SEED = "1"  # of the hashes of the image's strings, which every user can read anyway (hashes.c)
PLACE = "/tmp"  # noqa: S108 - mkdtemp makes a directory of its own there
# Addresses of the image and, within it, of the list of pages that commands write to.
ADDRESSES = struct.Struct("=QQ")


# Files of the model, of the kind that the kernel provides. build_host.c has the same pid.
MODEL_PID = 4000000
CAPABILITIES = f"{(1 << 41) - 1:016x}"
MODEL = {
    f"proc/{MODEL_PID}/stat": f"{MODEL_PID} (pyoci) R 1 {'0 ' * 17}12345678 {'0 ' * 29}0\n",
    "proc/self/cgroup": "0::/\n",
    "proc/self/setgroups": "allow\n",
    "proc/self/status": f"Name:\tpyoci\nCapPrm:\t{CAPABILITIES}\nCapBnd:\t{CAPABILITIES}\n",
    "proc/self/uid_map": "         0          0 4294967295\n",
    "proc/sys/kernel/random/boot_id": "00000000-0000-4000-8000-000000000000\n",
}
MODEL_DIRECTORIES = ("sys/fs/cgroup",)


def put_image(executable: Path) -> None:
    """Run the executable until Python has loaded the modules, and make every later process begin there.

    Replaces the segment of the image, the last of the file, with its contents at that moment. Removes the section
    headers: they would be wrong, and strip would believe them.
    """
    with tempfile.TemporaryDirectory(prefix="pyoci.") as name:
        order = Path(name, "order")
        order.write_bytes(_run_for(executable, SEED))
        place = _put_data(executable, _image(executable, order))
        touched = _run_for(executable)
        with executable.open("r+b") as file:
            file.seek(place)
            file.write(touched)


def _image(executable: Path, order: Path) -> bytes:
    """Return the image. If it seems to contain pointers to memory of one process, tries again in other ones."""
    # Under tools/foreign, QEMU then has its stacks where none of these pointers lead. In other processes, it must not
    # move the memory, or the kernel's list of their pages would be that of other addresses.
    emulator = {name: value for name, value in os.environ.items() if name.startswith("QEMU_")}
    for _ in range(ATTEMPTS - 1):
        try:
            return _run_for(executable, SEED, str(order), **emulator)
        except RuntimeError:
            continue
    return _run_for(executable, SEED, str(order), **emulator)


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


def _run_for(executable: Path, *arguments: str, **variables: str) -> bytes:
    """Run the unfinished executable with these variables, in a directory of its own; return the file that it writes."""
    with tempfile.TemporaryDirectory(prefix="pyoci.", dir=PLACE if os.access(PLACE, os.W_OK) else None) as name:
        directory = Path(name)
        shutil.copy(HERE / "docker.json", directory / "config.json")
        _write_model(directory / "host")
        made = directory / "made"
        command = [str(executable.resolve()), str(made), name, *arguments]
        status = subprocess.call(command, env=variables, cwd="/", stdin=subprocess.DEVNULL)
        if status != 0:
            raise RuntimeError(f"cannot make the image of {executable}: status {status}")
        return made.read_bytes()


def _write_model(host: Path) -> None:
    """Write the files of the model of a host."""
    for path in MODEL_DIRECTORIES:
        (host / path).mkdir(parents=True)
    for path, text in MODEL.items():
        file = host / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
