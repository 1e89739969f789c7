"""The executable: isolated, and on CPython's core (pyoci/executable)."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyoci.executable import freeze

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

# Stands in for pyoci.cli: the last argument is code to execute.
CLI = """
import posix, sys

def main(argv):
    def say(*values):
        posix.write(1, (repr(values) + "\\n").encode())

    exec(argv[-1], {"argv": argv, "posix": posix, "say": say, "sys": sys})
    return 0
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


# How executables may be linked, from the best way to the last resort.
KINDS = {"static": {}, "image": {"static": False}, "fresh": {"image": False}}
dynamic = pytest.mark.parametrize("probe", ["image", "fresh"], indirect=True)


@pytest.fixture(scope="module", params=KINDS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An executable like the real one, whose command line runs Python code in the place of pyoci.cli."""
    top = tmp_path_factory.mktemp("probe")
    package = top / "pyoci"
    for folder in ("executable", "host"):
        (package / folder).mkdir(parents=True)
    for name in ("__init__.py", "version.py", "executable/__init__.py", "host/__init__.py", "host/trust.py"):
        shutil.copy(ROOT / "pyoci" / name, package / name)
    (package / "cli.py").write_text(CLI)
    (package / "part").mkdir()
    (package / "part" / "__init__.py").write_text("")
    (package / "part" / "first.py").write_text("from pyoci.part import second\nNAME = 'first'\n")
    (package / "part" / "second.py").write_text("import pyoci.part.first as first\nNAME = 'second'\n")
    (package / "part" / "broken.py").write_text("1 / 0\n")
    executable = top / "prefix" / "bin" / "pyoci"
    executable.parent.mkdir(parents=True)
    native = ROOT / "build" / "executable" / "_native.o"
    assert native.exists(), "run tools/build"
    freeze.build(executable, top / "temp", package=package, native=native, **KINDS[request.param])
    return executable


@pytest.fixture
def run(probe: Path) -> Run:
    """Run the probe with arguments, the last of which is code; behind a prefix such as `unshare -U`, if given."""

    def run(*arguments: str, prefix: tuple[str, ...] = (), **options: object) -> subprocess.CompletedProcess[str]:
        command = [*prefix, str(probe), *arguments]
        return subprocess.run(command, **{"capture_output": True, "text": True, "env": {}, "timeout": 60, **options})

    return run


def said(result: subprocess.CompletedProcess[str]) -> tuple[object, ...]:
    """What the code said; nothing may be on standard error, and the status must be 0."""
    assert ("", 0) == (result.stderr, result.returncode)
    return ast.literal_eval(result.stdout)


# The interpreter


def test_core_only(run: Run) -> None:
    """Without need only built-in and frozen modules are loaded, and nothing that a full start would load."""
    (modules,) = said(run("state", "say(sorted(sys.modules))"))

    assert {"pyoci", "pyoci.cli", "pyoci.executable", "posix", "sys"} <= set(modules)
    assert not {"os", "io", "encodings", "codecs", "abc", "site", "zipimport"} & set(modules)


def test_opens_no_files(run: Run, probe: Path, request: pytest.FixtureRequest) -> None:
    """A hot command opens at most the C library: no standard library, no configuration."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    result = run("state", "pass", prefix=("strace", "-z", "-e", "trace=execve,open,openat,stat,newfstatat,readlink"))
    calls = [line for line in result.stderr.splitlines() if line.startswith(("execve", "open", "stat", "readlink"))]

    files = {line.split('"')[1] for line in calls}

    assert str(probe) in files
    # CPython 3.13's allocator asks how memory is committed
    files -= {str(probe), "/proc/self/exe", "/etc/ld.so.cache", "/proc/sys/vm/overcommit_memory"}
    if request.node.callspec.params["probe"] == "fresh":
        files -= {"/proc/self/maps"}  # CPython 3.14 looks for its stack
    assert [] == [file for file in files if not (file.startswith(("/lib", "/usr/lib")) and ".so" in file)]


@dynamic
def test_isolated(run: Run, tmp_path: Path) -> None:
    """No variable, working directory, home or user site can bring in code."""
    for module in ("json", "os", "encodings", "sitecustomize", "usercustomize", "cli"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "evil.pth").write_text("import sys; sys.exit('hijacked')")
    names = "PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPLATLIBDIR HOME TMPDIR PATH"
    hostile = dict.fromkeys(names.split(), str(tmp_path))
    hostile |= {"PYTHONINSPECT": "1", "PYTHONVERBOSE": "1", "PYTHONIOENCODING": "latin-1"}

    code = "import json, os; say(json.__file__, sys.flags.isolated, sys.flags.no_site, sys.path)"
    json, isolated, no_site, search = said(run("state", code, env=hostile, cwd=tmp_path))

    assert (1, 1) == (isolated, no_site)
    assert f"{sys.base_prefix}/lib/{PYTHON}/json/__init__.py" == json
    assert str(tmp_path) not in str(search)


@pytest.mark.parametrize("arguments", [[b"a", b"", b"--b=c d"], ["é—語".encode()], [b"\xff\xfe"], [b"\xff", b"create"]])
def test_arguments(probe: Path, arguments: list[bytes]) -> None:
    """Arguments arrive as they were given, whatever their bytes."""
    code = b"posix.write(1, b'|'.join(a.encode('utf-8', 'surrogateescape') for a in argv[:-1]))"

    output = subprocess.check_output([str(probe).encode(), *arguments, code], env={})

    assert b"|".join(arguments) == output


@pytest.mark.parametrize("command", ["state", "create"])
def test_closed_descriptors(run: Run, tmp_path: Path, command: str) -> None:
    """Descriptors 0 to 2 that are closed are opened on /dev/null, and no other descriptor is open."""
    code = (
        "links = []\n"
        "for fd in posix.listdir('/proc/self/fd'):\n"
        "    try: links.append((fd, posix.readlink('/proc/self/fd/' + fd)))\n"
        "    except FileNotFoundError: pass\n"
        f"file = posix.open({str(tmp_path / 'out')!r}, posix.O_CREAT | posix.O_WRONLY, 0o600)\n"
        "posix.write(file, repr(sorted(links)).encode())\n"
    )
    run(command, code, prefix=("/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'), check=True)

    links = ast.literal_eval((tmp_path / "out").read_text())

    assert [("0", "/dev/null"), ("1", "/dev/null"), ("2", "/dev/null")] == links


def test_codec_errors(run: Run) -> None:
    """Bad UTF-8 and lone surrogates are errors as usual, and load no codecs."""
    code = """
names = []
for wrong in (lambda: b"\\xff".decode(), lambda: "\\udc80".encode(), lambda: "é".encode("ascii")):
    try: wrong()
    except UnicodeError as error: names.append(type(error).__name__)
names.append("\\udcff".encode("utf-8", "surrogateescape"))
names.append(b"\\xff".decode("utf-8", "backslashreplace"))
say(names, [m for m in sys.modules if m.startswith("encodings")])
"""
    names, loaded = said(run("state", code))

    assert ["UnicodeDecodeError", "UnicodeEncodeError", "UnicodeEncodeError", b"\xff", "\\xff"] == names
    assert [] == loaded


@dynamic
def test_completion(run: Run) -> None:
    """The first cold import gives the whole Python: path, codecs, standard streams; garbage is collected again."""
    code = """
import gc
before = gc.isenabled(), hasattr(sys, "path")
import json
say(before, gc.isenabled(), len("é".encode("idna")) > 0, "x".encode("cp1252"), open("/dev/null").read(), sys.argv[-2])
print("printed", file=sys.stderr)
"""
    result = run("state", "two", code)

    assert ((False, False), True, True, b"x", "", "two") == ast.literal_eval(result.stdout)
    assert "printed\n" == result.stderr


@dynamic
def test_completion_after_codec_error(run: Run) -> None:
    """A codec's error before the completion does not spoil it."""
    code = """
try: b"\\xff".decode()
except UnicodeError: pass
try: "x".encode("no-such-codec")
except LookupError: pass
import json
say("x".encode("utf-16-le"), json.loads("[1]"))
"""
    assert (b"x\0", [1]) == said(run("state", code))


def test_missing_module(run: Run) -> None:
    """A module that is nowhere is an ordinary ImportError."""
    code = """
try: import no_such_module
except ModuleNotFoundError as error: say(str(error))
"""
    assert ("No module named 'no_such_module'",) == said(run("state", code))


@pytest.mark.skipif(not freeze.Libpython().allows_static, reason="there is no static library to link")
@pytest.mark.parametrize("probe", ["static"], indirect=True)
def test_static_executable_loads_no_file(run: Run, probe: Path) -> None:
    """It needs no dynamic linker, and an import of a module outside of it fails and opens nothing."""
    code = """
failures = []
for name in ("json", "pwd", "_ctypes", "encodings.idna"):
    try: __import__(name)
    except ImportError as error: failures.append(str(error))
say(failures)
"""
    names = ["json", "pwd", "_ctypes", "encodings.idna"]
    assert ([f"No module named '{name}'" for name in names],) == said(run("state", code))

    listing = subprocess.check_output(["readelf", "--program-headers", probe], text=True)
    assert not {"INTERP", "DYNAMIC"} & set(listing.split())

    result = run("state", "import re, pyoci.part.first", prefix=("strace", "-z", "-e", "trace=%file"))
    calls = [line for line in result.stderr.splitlines() if "(" in line and not line.startswith("execve")]
    # CPython 3.13's allocator asks how memory is committed
    files = {line.split('"')[1] for line in calls} - {"/proc/sys/vm/overcommit_memory"}
    assert {"/proc/self/exe"} == files


@pytest.mark.skipif(not freeze.Libpython().allows_static, reason="there is no static library to link")
@pytest.mark.parametrize("probe", ["static"], indirect=True)
def test_static_executable_looks_up_no_names(run: Run) -> None:
    """Functions that would load shared libraries fail as documented."""
    code = """
import _socket
failures = 0
for call in (
    lambda: posix.initgroups("root", 0),
    lambda: _socket.getaddrinfo(b"localhost", b"http"),
    lambda: _socket.getnameinfo(("127.0.0.1", 80), 0),
    lambda: _socket.gethostbyname_ex(b"localhost"),
    lambda: _socket.gethostbyaddr(b"127.0.0.1"),
    lambda: _socket.getprotobyname("tcp"),
    lambda: _socket.getservbyname("http"),
    lambda: _socket.getservbyport(80),
    lambda: _socket.gethostbyname(b"localhost"),
):
    try: call()
    except OSError: failures += 1
say(posix.getgrouplist("root", 7), failures)
"""
    assert ([7], 9) == said(run("state", code))


@pytest.mark.parametrize("missing", ["libc", "select"])
def test_without_static_libraries(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without an archive of the C library, or with modules in files, the executable is linked dynamically."""
    if missing == "libc":
        monkeypatch.setattr(freeze, "_archive", lambda name: "" if name == "c" else f"lib{name}.a")
    else:
        monkeypatch.setattr(sys, "builtin_module_names", [n for n in sys.builtin_module_names if n != "select"])
    library = freeze.Libpython()

    assert not library.allows_static
    assert library.allows_image == (library.is_static and missing == "libc")


def test_native_is_built_in(run: Run) -> None:
    """The extension is part of the executable."""
    assert ("built-in",) == said(run("state", "from pyoci import _native; say(_native.__spec__.origin)"))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import pyoci.part.second; say(pyoci.part.second.NAME)", "second"),
        ("import pyoci.part.second as module; say(module.NAME)", "second"),
        ("from pyoci.part import first, second; say(first.second is second and first.NAME)", "first"),
        ("from pyoci.part.first import NAME as name; say(name)", "first"),
        ("say(__import__('pyoci.part.first').__name__)", "pyoci"),
        ("import pyoci.part.broken", "ZeroDivisionError: division by zero"),
        ("from pyoci.part import broken", "ZeroDivisionError: division by zero"),
        ("import pyoci.part.no", "ModuleNotFoundError: No module named 'pyoci.part.no'"),
        ("import pyoci.no.no", "ModuleNotFoundError: No module named 'pyoci.no'"),
        ("from pyoci.part import no", "ImportError: cannot import name 'no' from 'pyoci.part'"),
        ("from pyoci.part.first import no", "ImportError: cannot import name 'no' from 'pyoci.part.first'"),
        ("import pyocino", "ModuleNotFoundError: No module named 'pyocino'"),
    ],
)
def test_own_modules(run: Run, statement: str, expected: str) -> None:
    """Our modules take a short way in, with the same results: also circular, broken and missing ones."""
    code = f"""
try:
    {statement}
except Exception as error: say(f"{{type(error).__name__}}: {{error}}")
"""
    (outcome,) = said(run("state", code))

    assert expected == str(outcome).removesuffix(" (unknown location)")


@pytest.mark.parametrize(
    ("code", "status"), [("1/0", 1), ("raise SystemExit(7)", 7), ("import re; 1/0", 1), ("pass", 0)]
)
def test_status(run: Run, code: str, status: int) -> None:
    """An exception that the command line does not catch is printed to standard error, without reading source files."""
    result = run("state", code)

    assert status == result.returncode
    assert ("ZeroDivisionError" in result.stderr) == ("1/0" in code)


def test_broken_pipe(run: Run) -> None:
    """A reader who went away is an error, not a signal that kills the runtime in the middle of its work."""
    code = """
reader, writer = posix.pipe()
posix.close(reader)
try: posix.write(writer, b"x")
except BrokenPipeError: say("caught")
"""
    assert ("caught",) == said(run("state", code))


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_setuid(probe: Path, tmp_path: Path) -> None:
    """A setuid executable refuses to run: its caller is not to be trusted."""
    copy = tmp_path / "pyoci"
    shutil.copy(probe, copy)
    os.chown(copy, 65534, 65534)
    copy.chmod(0o4755)

    result = subprocess.run([copy, "state", "pass"], capture_output=True, text=True)

    assert 1 == result.returncode
    assert "pyoci: cannot run with the privileges of a setuid or setgid file\n" == result.stderr


# Who may bring in code


@dynamic
def test_site_directory(run: Run, probe: Path) -> None:
    """pyoci uses no libraries: nothing is imported from the directories beside the executable."""
    site = probe.parent.parent / "lib" / PYTHON / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (site / "library.py").write_text("")
    code = """
try:
    import library
except ImportError: say("not found")
"""
    assert ("not found",) == said(run("state", code))


# The same under an ordinary Python


def ordinary(*arguments: str, isolated: bool = True, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    flags = ["-I"] if isolated else []
    places = [str(ROOT), str(directory)]
    path = f"import sys; sys.path[:0] = {places!r}; sys.argv = ['pyoci', *sys.argv[1:]]; "
    code = path + "from pyoci.__main__ import main; sys.exit(main())"
    return subprocess.run([sys.executable, *flags, "-c", code, *arguments], capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("command", [["--version"], ["create", "--help"]])
def test_ordinary_python(command: list[str], pyoci: str) -> None:
    """`python3 -I -m pyoci` says what the executable says."""
    result = ordinary(*command)

    expected = subprocess.run([pyoci, *command], capture_output=True, text=True)
    assert (expected.stdout, "", 0) == (result.stdout, result.stderr, result.returncode)


@pytest.mark.skipif(not AS_ROOT, reason="only root is refused")
def test_ordinary_python_as_root() -> None:
    """Root is refused where the environment could say what is imported. Only a package that is installed can run."""
    result = ordinary("--version", isolated=False)

    expected = f"cannot run {ROOT}/pyoci as root: the environment or the working directory says where it is"
    hint = "install pyoci, or run build/pyoci of a checkout"
    assert (1, "", f"pyoci: {expected} (hint: {hint})\n") == (result.returncode, result.stdout, result.stderr)


def test_unbuilt_checkout_names_tools_build(tmp_path: Path) -> None:
    """One line names the command that builds it."""
    shutil.copytree(ROOT / "pyoci", tmp_path / "pyoci", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pyoci.__main__ import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)

    assert (1, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith("pyoci: cannot import the extension for Python ")
    assert result.stderr.endswith(f" (hint: in a checkout, run tools/build with PYTHON={sys.executable})\n")


@pytest.mark.skipif(not AS_ROOT, reason="root is the strictest")
@pytest.mark.parametrize(
    ("mode", "owner", "complaint"),
    [
        (0o755, 0, ""),
        (0o775, 0, "can be written by others"),
        (0o757, 0, "can be written by others"),
        (0o1777, 0, "can be written by others"),
        (0o755, 65534, "belongs to user 65534"),
    ],
)
def test_directory_of_others(tmp_path: Path, mode: int, owner: int, complaint: str) -> None:
    """Nothing is imported if others than root can put code into a directory that Python searches."""
    place = tmp_path / "library"
    place.mkdir()
    place.chmod(mode)
    os.chown(place, owner, owner)

    result = ordinary("--version", directory=place)

    assert result.stderr == (f"pyoci: cannot import from {place}: {place} {complaint}\n" if complaint else "")
    assert result.returncode == bool(complaint)


@pytest.mark.parametrize("command", [["--version"], ["create", "--help"]])
def test_script(tmp_path: Path, pyoci: str, command: list[str]) -> None:
    """Where Python can't be embedded, a script finds the installed package, and says the same."""
    library = tmp_path / "lib" / PYTHON / "site-packages"
    library.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    shutil.copytree(ROOT / "pyoci", library / "pyoci", ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    freeze.write_script(tmp_path / "bin" / "pyoci")
    link = tmp_path / "link"
    link.symlink_to("bin/pyoci")

    result = subprocess.run([link, *command], capture_output=True, text=True, env={}, cwd="/")

    expected = subprocess.run([pyoci, *command], capture_output=True, text=True)
    assert (expected.stdout, "", 0) == (result.stdout, result.stderr, result.returncode)


@pytest.mark.skipif(not freeze.Libpython().allows_static, reason="there is no static library to link")
@pytest.mark.parametrize("probe", ["static"], indirect=True)
def test_static_executable_needs_no_procfs(probe: Path, tmp_path: Path) -> None:
    """It starts in an empty root directory, and has no path of the Python that built it."""
    if not AS_ROOT:
        pytest.skip("needs root")
    shutil.copy(probe, tmp_path / "pyoci")
    code = "import _pyoci_executable, re; say(_pyoci_executable.stdlib, re.sub('a', 'b', 'a'))"

    done = subprocess.run(
        ["/usr/sbin/chroot", tmp_path, "/pyoci", "state", code], capture_output=True, text=True, env={}
    )

    assert (freeze.NOWHERE, "b") == said(done)
    assert str(probe.parent).encode() not in probe.read_bytes()


@dynamic
@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_dynamic_executable_needs_no_procfs(run: Run) -> None:
    """Only `sys.executable` is empty then, and only the whole Python has it."""
    code = "import json; say(sys.executable, json.loads('1'))"
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$0" "$@"')
    assert ("", 1) == said(run("state", code, prefix=hidden))


@pytest.mark.skipif(not freeze.Libpython().is_static, reason="this Python has no static library")
def test_build_lists_what_it_has_linked() -> None:
    """tools/linked finds the packages of the C library and of Python, and of the compiler."""
    output = subprocess.check_output([sys.executable, ROOT / "tools/linked"], text=True)
    found = {kind: {each["name"]: each for each in packages} for kind, packages in json.loads(output).items()}

    assert {"libc6-dev", f"lib{PYTHON}-dev"} <= {*found["linked"]}
    assert {"Cython", "setuptools"} <= {*found["tools"]}
    assert any(name.startswith("gcc-") for name in found["tools"])
    assert "glibc" == found["linked"]["libc6-dev"]["source"]
    assert all(Path(each["licence"]).is_file() for each in found["linked"].values())


def test_no_library_to_embed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message about a Python without libpython names the files that were tried."""
    variables = {"LIBPL": str(tmp_path), "LIBRARY": "libpython.a", "LIBDIR": str(tmp_path), "INSTSONAME": "libpython.a"}
    monkeypatch.setattr(freeze.sysconfig, "get_config_vars", lambda: variables)

    with pytest.raises(freeze.NoLibpython, match=r"libpython\.a"):
        freeze.Libpython()
