"""Build the `pyoci` executable: freeze the package, compile main.c, link CPython in.

    python3 -m pyoci.executable.freeze --output build/pyoci [--temp build/executable]

Needs Cython's pyoci/_native.c beside the package. Prefers a static libpython to a shared one. Runs at build time
under the Python that is embedded, because marshalled code is valid for one version only.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO

from pyoci.executable import POPULATING
from pyoci.executable.image import put_image
from pyoci.executable.layout import BASE, layout
from pyoci.executable.start import reason_against_start

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
HELPER = PACKAGE / "_helper"

COMPILER = shlex.split(os.environ.get("CC", "cc"))
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers"]
OPTIMISATION = ["-O2", "-ffunction-sections", "-fdata-sections", "-fno-plt", "-fno-pie"]
# The executable must not contain the directory of its build: __FILE__ begins with one of these names instead.
NEUTRAL = [
    f"-ffile-prefix-map={path}={name}"
    for path, name in ((PACKAGE.parent, "."), (sysconfig.get_path("include"), "python"))
]
OPTIMISATION += NEUTRAL
HARDENING = ["-D_FORTIFY_SOURCE=3", "-fstack-protector-strong", "-fstack-clash-protection"]
# Control flow: Intel's CET, Arm's BTI and pointer authentication. The linker marks the executable only if all objects
# of libpython and the C library have them, too.
HARDENING += {"x86_64": ["-fcf-protection=full"], "aarch64": ["-mbranch-protection=standard"]}.get(
    os.uname().machine, []
)
# For the extension: Cython 3.2 would compress its strings with zlib, which the executable lacks.
EXTENSION = ["-DCYTHON_COMPRESS_STRINGS=0"]
IMAGE = ("build_host.c", "image.c", "hashes.c", "small.c", "heap.c")  # heap.c comes last: see there
# For the image: allocations while Python makes it (heap.c), and hashes of strings (hashes.c).
HASH = "_Py_HashBytes" if sys.version_info < (3, 14) else "Py_HashBuffer"
WRAPPING = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "free", HASH)]
# For the image, too: what Python learns of the host that makes it (build_host.c).
HOST = """
    open openat access faccessat stat lstat fstat fstatat statfs getxattr getuid geteuid getgid getegid getpid uname
    clock_gettime getrandom syscall PyThread_get_thread_ident
""".split()
if platform.libc_ver()[0] == "glibc":
    HOST += "open64 openat64 __open64_2 stat64 lstat64 fstat64 fstatat64 statfs64".split()
if sys.version_info >= (3, 13):
    HOST.append("PyThread_get_thread_ident_ex")
WRAPPING += [f"-Wl,--wrap={name}" for name in HOST]
# For a static executable: shared libraries (static.c).
UNAVAILABLE = [f"-Wl,--wrap={name}" for name in ("dlopen", "dlsym", "dlerror")]
# Tables for unwinding the stack (static.c).
UNWINDING = ["-Wl,--eh-frame-hdr", "-Wl,--wrap=__register_frame_info", "-Wl,--wrap=__deregister_frame_info"]
LINKING = ["-Wl,--gc-sections", "-Wl,-O1", "-Wl,--as-needed", "-Wl,--build-id=none", "-s"]
# The dynamic linker resolves all symbols at start, then makes the table of their addresses read-only.
SAFE_LINKING = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
LINKING += SAFE_LINKING

# The built-in modules of a static executable: CPython's core, and what pyoci imports besides. In the library's table
# there are more, among them modules that look up users and groups, which needs shared libraries.
BUILT_IN = """
    _abc _codecs _collections _functools _imp _io _locale _operator _signal _sre _stat _string _symtable _sysconfig
    _thread _tracemalloc _types _typing _warnings _weakref atexit builtins errno faulthandler gc itertools marshal posix
    sys time
""".split()
IMPORTED = ["_socket", "_struct", "fcntl", "math", "select", "unicodedata"]  # the last one for \N{NAME} in `re`

# Debian's static libpython has these modules, but not the archives with their algorithms (3.13 lacks that of `_sha2`).
# So they are left out; Python has OpenSSL's algorithms in `_hashlib`.
ORPHANS = {f"libHacl_Hash_{name.upper()}.a": f"_{name}" for name in ("md5", "sha1", "sha2", "sha3", "blake2")}


class NoLibpython(Exception):
    """This Python has no library to embed."""


# Modules of the standard library that cold commands import. With them, all commands work without an installed Python.
# Packages are complete: Python looks for no file of a frozen package.
REGULAR_EXPRESSIONS = """
    re re._casefix re._compiler re._constants re._parser
    _collections_abc abc collections copyreg enum functools keyword operator reprlib types warnings
""".split()
if sys.version_info < (3, 13):  # newer versions of the package create this module themselves
    REGULAR_EXPRESSIONS.append("collections.abc")
BUILD = [("executable", "freeze"), ("executable", "image"), ("executable", "layout"), ("executable", "start")]
API = ("client", "testing", "types")  # the Python API, which runs the executable and is not in it
NOWHERE = "/nonexistent"  # for paths that nothing uses
# A complete initialisation imports them first; before 3.13 it does so before sys.path exists.
ENCODINGS = ["encodings", "encodings.aliases", "encodings.utf_8"]


def modules(package: Path) -> list[tuple[str, Path, bool]]:
    """The modules to freeze: (dotted name, file, is it a package)."""
    found = []
    for name in (*ENCODINGS, *REGULAR_EXPRESSIONS):
        path = Path(sysconfig.get_path("stdlib"), *name.split("."))
        is_package = path.is_dir()
        found.append((name, path / "__init__.py" if is_package else path.with_suffix(".py"), is_package))
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        if file.name == "__main__.py" or parts[1:] in BUILD or parts[1] in API:
            continue
        is_package = parts[-1] == "__init__"
        found.append((".".join(parts[:-1] if is_package else parts), file, is_package))
    return found


def freeze(package: Path, temp: Path, *, static: bool) -> None:
    """Write frozen.h and frozen.bin: every module's marshalled code, and the table that CPython looks them up in.

    A `static` executable imports nothing from files, so it gets no paths of this Python.
    """
    found = modules(package)
    sizes = _marshal([(name, str(file)) for name, file, _ in found], temp / "frozen.bin")
    rows, at = [], 0
    for (name, _, is_package), size in zip(found, sizes, strict=True):
        rows.append(f'    {{"{name}", frozen_code + {at}, {size}, {int(is_package)}}},')
        at += size

    blob_file = _quoted(str(temp / "frozen.bin")).replace("\\", "\\\\").replace('"', '\\"')
    header = [
        "/* Generated by freeze.py. */",
        f"#define PYOCI_PREFIX {_quoted(NOWHERE if static else sys.base_prefix)}",
        f"#define PYOCI_STDLIB {_quoted(NOWHERE if static else sysconfig.get_path('stdlib'))}",
        f"#define PYOCI_DYNLOAD {_quoted(NOWHERE if static else sysconfig.get_config_var('DESTSHARED'))}",
        f"#define PYOCI_POPULATING {{{', '.join(_quoted(command) for command in POPULATING)}}}",
        "extern const unsigned char frozen_code[];",
        # .incbin, because a compiler needs seconds for an array of this size
        f'__asm__(".pushsection .frozen, \\"a\\"\\n.balign 16\\nfrozen_code: .incbin {blob_file}\\n.popsection");',
        "static const struct _frozen PYOCI_FROZEN[] = {",
        *rows,
        "    {NULL, NULL, 0, 0},",
        "};",
    ]
    (temp / "frozen.h").write_text("\n".join(header) + "\n")


# Runs in a process of its own. marshal notes which objects have other references, and in a process that has imported
# more modules, more strings do. Stripping docstrings saves a tenth of a hot command's load time.
MARSHAL = """
import json, marshal, sys
sizes = []
with open(sys.argv[1], "wb") as output:
    for name, path in json.load(sys.stdin):
        with open(path, "rb") as file:
            code = compile(file.read(), f"<frozen {name}>", "exec", dont_inherit=True, optimize=2)
        sizes.append(output.write(marshal.dumps(code)))
print(json.dumps(sizes))
"""


def _marshal(files: list[tuple[str, str]], output: Path) -> list[int]:
    """Compile modules, given by name and path, and write their marshalled code to `output`. Return the sizes."""
    command = [sys.executable, "-IS", "-c", MARSHAL, str(output)]
    done = subprocess.run(command, input=json.dumps(files), stdout=subprocess.PIPE, text=True, check=True)
    sizes: list[int] = json.loads(done.stdout)
    return sizes


def _quoted(text: str) -> str:
    """`text` as a C string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _site_directories() -> list[str]:
    """Where the script finds the package: the directories of this Python's libraries.

    Debian has one directory for local and one for packaged libraries.
    """
    paths = sysconfig.get_paths()
    found = [paths["purelib"], paths["platlib"]]
    if sys.prefix == sys.base_prefix:
        local = f"/usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}/dist-packages"
        found += [path for path in (local, "/usr/lib/python3/dist-packages") if path in sys.path]
    return list(dict.fromkeys(found))


class Libpython:
    """The library to embed: static if possible, else shared."""

    def __init__(self) -> None:
        variables = sysconfig.get_config_vars()
        self.static = Path(variables["LIBPL"] or "", variables["LIBRARY"] or "")
        self.shared = Path(variables["LIBDIR"] or "", variables["INSTSONAME"] or "")
        self.libraries = _system_libraries(variables)
        if not self.static.is_file() and not (self.shared.is_file() and ".so" in self.shared.name):
            raise NoLibpython(f"there is no {self.static} and no {self.shared}")

    @property
    def is_static(self) -> bool:
        return self.static.is_file()

    @property
    def allows_core_only(self) -> bool:
        """Whether the hot path can run on the core. A shared library of CPython 3.13 or later hides what that needs."""
        return self.is_static or sys.version_info < (3, 13)

    @property
    def allows_image(self) -> bool:
        """Whether the build can start Python in advance. Its memory and its code must belong to the executable."""
        return self.is_static and {*IMPORTED} <= {*sys.builtin_module_names} and _can_set_stack()

    @property
    def allows_static(self) -> bool:
        """Whether the executable can be static: it has an image, and imports no module from a file."""
        return self.allows_image and bool(_archive("c"))

    def table(self, temp: Path, *, static: bool) -> list[Path]:
        """Source of a table of built-in modules. It replaces the library's if some of those can't be linked."""
        if not self.is_static:
            return []
        missing = {ORPHANS[path.name] for path in _archives_of_modules() if not path.exists() and path.name in ORPHANS}
        if static:
            missing.update({*sys.builtin_module_names} - {*BUILT_IN, *IMPORTED})
        if not missing:
            return []
        lines = (self.static.parent / "config.c").read_text().splitlines(keepends=True)
        source = temp / "config.c"
        source.write_text("".join(line for line in lines if not line.strip().startswith(_entries(missing))))
        return [source]

    @property
    def archives(self) -> list[str]:
        """The archives of the system's libraries that the library needs."""
        return [name.removeprefix("-l:") for name in self.libraries if name.startswith("-l:")]

    def flags(self, *, static: bool) -> list[str]:
        """Linker flags. Symbols are exported, so that the standard library's extension modules find them."""
        if static:
            libraries = [name for name in self.libraries if name.startswith("-l:")]
            return ["-static", *UNAVAILABLE, *UNWINDING, str(self.static), *libraries, "-ldl", "-lpthread", "-lm"]
        # search the C library first: it has nearly all symbols
        if self.is_static:
            return ["-lc", "-Wl,--export-dynamic", str(self.static), *self.libraries]
        return ["-lc", str(self.shared), f"-Wl,-rpath,{self.shared.parent}", *self.libraries]

    def __str__(self) -> str:
        return f"static {self.static}" if self.is_static else f"shared {self.shared}"


# The helper has a start and a C library of its own (native/helper/libc.c). These define the stack protector's value,
# but not the checking variants of functions that -D_FORTIFY_SOURCE needs. Ubuntu's gcc sets that by itself.
HELPER_FLAGS = ["-O2", "-fPIE", "-ffunction-sections", "-fdata-sections", "-fvisibility=hidden"]
HELPER_FLAGS += NEUTRAL
HELPER_FLAGS += ["-fno-asynchronous-unwind-tables", *(flag for flag in HARDENING if "FORTIFY" not in flag)]
HELPER_FLAGS += ["-U_FORTIFY_SOURCE"]
GUARD = "-mstack-protector-guard"
# Except on x86-64, gcc would read a global value through a table that needs relocation. gcc for s390 has no choice.
HELPER_FLAGS += {
    "x86_64": [f"{GUARD}=global"],
    "aarch64": [f"{GUARD}=sysreg", f"{GUARD}-reg=tpidr_el0", f"{GUARD}-offset=0"],
    "riscv64": [f"{GUARD}=tls", f"{GUARD}-reg=tp", f"{GUARD}-offset=0"],
    "ppc64le": [f"{GUARD}=tls", f"{GUARD}-reg=r13", f"{GUARD}-offset=0"],
}.get(os.uname().machine, [])
# On POWER the linker keeps all functions, because the table of their addresses is one section: the compiler drops them.
WHOLE_PROGRAM = ["-flto"] if os.uname().machine == "ppc64le" else []
HELPER_LINKING = ["-static-pie", "-nostdlib", "-nostartfiles", "-s"]
HELPER_LINKING += ["-Wl,--gc-sections,--no-dynamic-linker,--build-id=none,-z,text,-z,noexecstack,-z,relro,-z,now"]
# The largest pages of a kernel. With larger ones than these, it could not map the helper; smaller ones save space.
LARGEST_PAGE = 1 << 12 if os.uname().machine in ("x86_64", "riscv64", "s390x") else 1 << 16
HELPER_LINKING.append(f"-Wl,-z,max-page-size={LARGEST_PAGE}")
LINKED = "linked"  # the file in which the linker lists what it has linked, for tools/linked
MAX_HELPER = 100_000  # bytes: each create and exec copies it


def build_helper(temp: Path, *, native: Path = PACKAGE / "_native.c", output: Path = HELPER) -> Path:
    """Link the helper, the static executable that runs the child's part of a plan. Return its path.

    The linker keeps what `pyoci_helper` reaches, and drops the rest of the extension with everything of Python.
    """
    folder = PACKAGE / "native" / "helper"
    newest = max(path.stat().st_mtime for path in (native, *folder.iterdir(), Path(__file__)))
    if output.exists() and output.stat().st_mtime > newest:
        return output
    temp.mkdir(parents=True, exist_ok=True)
    extension, library = temp / "helper.o", temp / "libc.o"
    include = f"-I{sysconfig.get_path('include')}"
    _run(*COMPILER, *HELPER_FLAGS, *WHOLE_PROGRAM, include, "-c", native, "-o", extension)
    _run(*COMPILER, *HELPER_FLAGS, *WARNINGS, "-ffreestanding", "-fno-builtin", "-c", folder / "libc.c", "-o", library)
    unfinished = output.with_name(output.name + ".new")
    _run(*COMPILER, *HELPER_FLAGS, *WHOLE_PROGRAM, *HELPER_LINKING, extension, library, "-o", unfinished)
    if unfinished.stat().st_size > MAX_HELPER:
        raise RuntimeError(f"the helper has {unfinished.stat().st_size} bytes, more than {MAX_HELPER}")
    unfinished.replace(output)
    return output


def compile_objects(temp: Path, native: Path, table: list[Path], definitions: list[str]) -> list[str]:
    """Compile the executable's C files, and the extension unless its object file is newer. Return the object files."""
    sources = [HERE / "main.c", HERE / "frozen_import.c", *table]
    objects = [compile_object(source, temp, definitions) for source in sources]
    helper = [f"-DPYOCI_HELPER={_quoted(str(build_helper(temp)))}"]
    objects.append(compile_object(PACKAGE / "native" / "helper" / "embed.c", temp, helper))
    if native.suffix == ".o":
        return [*objects, str(native)]
    target = temp / (native.stem + ".o")
    if not target.exists() or target.stat().st_mtime < native.stat().st_mtime:
        compile_object(native, temp, [*definitions, *EXTENSION], warnings=[])
    return [*objects, str(target)]


def compile_object(source: Path, temp: Path, definitions: list[str], *, warnings: list[str] = WARNINGS) -> str:
    """Compile one source. Return the path of its object file."""
    target = temp / (source.stem + ".o")
    includes = [f"-I{path}" for path in (sysconfig.get_path("include"), temp, HERE)]
    includes.append(f"-ffile-prefix-map={temp}=build")
    _run(*COMPILER, *OPTIMISATION, *HARDENING, *warnings, *definitions, *includes, "-c", source, "-o", target)
    return str(target)


def _can_set_stack() -> bool:
    """Whether a process can tell Python where its stack is. The first versions of 3.14 look it up only once."""
    header = Path(sysconfig.get_path("include"), "internal", "pycore_tstate.h")
    return sys.version_info < (3, 14) or (header.exists() and "c_stack_init_top" in header.read_text())


def _closed_to_others() -> str:
    """A warning if other users than the owner can't read the standard library, and so can't run the executable."""
    library = Path(sysconfig.get_path("stdlib"))
    closed = [path for path in (library, *library.parents) if not path.stat().st_mode & 0o001]
    return f", which other users cannot read: {closed[-1]} is closed to them" if closed else ""


def _archives_of_modules() -> list[Path]:
    """Archives of CPython's own that its built-in modules need."""
    variables = sysconfig.get_config_vars()
    names = (variables.get("MODLIBS") or "").split()
    names += [str(value) for key, value in variables.items() if key.startswith("LIBHACL_") and key.endswith("_STATIC")]
    return [Path(name) for name in names if name.endswith(".a")]


def _system_libraries(variables: dict[str, str]) -> list[str]:
    """Libraries that CPython needs. If the C compiler has an archive of one, it is linked statically.

    Each shared library costs a tenth of a millisecond at every start.
    """
    names = dict.fromkeys(
        flag
        for key in ("LIBS", "SYSLIBS", "MODLIBS")
        for flag in (variables.get(key) or "").split()
        if flag.startswith("-l") and flag not in {"-ldl", "-lpthread"}
    )
    found = []
    for flag in names:
        archive = _archive(flag[2:])
        found.append(f"-l:{archive}" if flag != "-lm" and archive else flag)
    return [*found, "-ldl", "-lpthread", "-lm"]


def _archive(library: str) -> str:
    """The file name of a library's archive; "" if the C compiler has none."""
    name = f"lib{library}.a"
    return name if "/" in _located(name) else ""


def _located(name: str) -> str:
    """Return the path of a file of the C compiler's libraries, or the name itself if it has no such file."""
    query = [*COMPILER, f"-print-file-name={name}"]
    return subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _entries(modules: set[str]) -> tuple[str, ...]:
    """How lines about these modules in CPython's table of built-in modules begin."""
    return tuple(f'{{"{name}",' for name in modules)


def _run(*command: "str | Path", stdout: "IO[str] | None" = None) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=stdout)


SCRIPT = """\
#!{python} -IS
# pyoci under an ordinary Python: when it was installed, there was no libpython to build its executable with.
import os
import sys

prefix = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
library = f"{{prefix}}/lib/python{{sys.version_info.major}}.{{sys.version_info.minor}}"
sys.path += [f"{{library}}/site-packages", f"{{library}}/dist-packages", *{sites}]

from pyoci.__main__ import main

sys.exit(main())
"""


def write_script(output: Path) -> None:
    """Write a script that runs the installed package. It serves a Python that can't be embedded.

    It is slower than the executable, but equally isolated.
    """
    python = os.path.realpath(sys.executable)  # the virtual environment of a build is temporary
    output.write_text(SCRIPT.format(python=python, sites=_site_directories()))
    output.chmod(0o755)


def build(
    output: Path,
    temp: Path,
    *,
    package: Path = PACKAGE,
    native: Path = PACKAGE / "_native.c",
    image: bool = True,
    static: bool = True,
) -> str:
    """Build the executable at `output`; generated files go to `temp`. Return a line that says how it is linked.

    Freezes `package`, with `native`, the C or object file of its extension. Without an image each process starts
    Python anew; with a shared libpython it always does. `static` links the C library statically, if there is an image
    and the C compiler has an archive of it. The executable then starts without CPUID if start.py allows start.c.

    Raises NoLibpython if this Python can't be embedded.
    """
    temp = temp.resolve()
    temp.mkdir(parents=True, exist_ok=True)
    library = Libpython()
    image = image and library.allows_image
    static = static and image and library.allows_static
    freeze(package, temp, static=static)
    facts = {"CORE_ONLY": library.allows_core_only, "IMAGE": image, "STATIC": static}
    definitions = [f"-DPYOCI_{name}={int(value)}" for name, value in facts.items()]
    objects = compile_objects(temp, native, library.table(temp, static=static), definitions)
    linked = "linked statically" if static else "linked dynamically"
    if not {*IMPORTED} <= {*sys.builtin_module_names}:
        linked += f", imports modules from {sysconfig.get_path('stdlib')}{_closed_to_others()}"
    if static:
        objects.append(compile_object(HERE / "static.c", temp, definitions))
        reason = reason_against_start(COMPILER, Path(_located("libc.a")))
        if not reason:
            objects.append(compile_object(HERE / "start.c", temp, definitions))
        linked += f", with the C library's start: {reason}" if reason else ", with a start of its own"
    linking = [*objects, *library.flags(static=static)]
    if image:
        last = [compile_object(HERE / name, temp, definitions) for name in IMAGE]
        script = temp / "image.ld"
        script.write_text(layout(str(library.static), library.archives, [*objects, *last]))
        linking = [*WRAPPING, f"-Wl,-T,{script}", f"-Wl,-Ttext-segment={BASE:#x}", *linking, *last]
    unfinished = output.with_name(output.name + ".new")
    with (temp / LINKED).open("w") as trace:
        _run(*COMPILER, "-no-pie", *LINKING, "-Wl,--trace,--trace", *linking, "-o", unfinished, stdout=trace)
    if image:
        put_image(unfinished)
    unfinished.replace(output)  # the kernel refuses to write to an executable that runs
    return f"{library}, {linked}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/pyoci"))
    parser.add_argument("--temp", type=Path, default=Path("build/executable"))
    options = parser.parse_args()
    print(f"{options.output}: {build(options.output, options.temp)}")
