"""contrib/install.sh: it verifies a release's archive, installs it, returns to the version before, and uninstalls.

It runs in a Debian of its own, where nothing else of pyoci is. Archives have the layout that tools/release gives them.
"""

import functools
import hashlib
import http.server
import os
import platform
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import installed, sleeper

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = installed.CHECKOUT
INSTALLER = CHECKOUT / "contrib/install.sh"
MACHINE = platform.machine()
SHELLS = (["dash"], ["bash"], ["busybox", "sh"])
PREFIX = "/usr/local"
RELEASE = "/srv/release"
SCRIPT = '#!/bin/sh\n[ "$1" != --version ] || echo "pyoci version {}"\n'  # in place of the executable


def archive(directory: Path, version: str, executable: bytes, *, machine: str = MACHINE, extra: str = "") -> str:
    """Make the archive of a release with its line in SHA256SUMS, and return its name."""
    name = f"pyoci-{version}-linux-{machine}"
    tree = directory / name
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/pyoci").write_bytes(executable)
    (tree / "bin/pyoci").chmod(0o755)
    subprocess.run([sys.executable, CHECKOUT / "tools/share", tree / "share"], check=True)
    if extra:
        (tree / extra).write_text("of this version only\n")
    quick = {**os.environ, "XZ_OPT": "-0"}
    subprocess.run(["tar", "-C", directory, "-cJf", directory / f"{name}.tar.xz", name], env=quick, check=True)
    shutil.rmtree(tree)
    digest = hashlib.sha256((directory / f"{name}.tar.xz").read_bytes()).hexdigest()
    with (directory / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  {name}.tar.xz\n")
    return f"{name}.tar.xz"


class System:
    """A Debian with the installer, and a directory with the archives of two versions."""

    def __init__(self, root: installed.Root) -> None:
        self.root = root
        self.release = Path(f"{root.path}{RELEASE}")
        self.release.mkdir(parents=True)
        self.old = archive(self.release, "1.0.0", SCRIPT.format("1.0.0").encode(), extra="share/old")
        self.new = archive(self.release, "1.1.0", SCRIPT.format("1.1.0").encode(), extra="share/new")
        self.other = archive(self.release, "1.1.0", b"", machine="mips")
        (self.script,) = root.copy(INSTALLER)

    def install(self, *arguments: str, shell: "list[str] | None" = None, **environment: str) -> tuple[int, str]:
        """Run the installer: its exit status, and what it prints."""
        done = self.root.run(*(shell or ["sh"]), self.script, *arguments, environment=environment, check=False)
        return done.returncode, done.stdout

    def version(self) -> str:
        """What the installed executable prints."""
        return self.root.run(f"{PREFIX}/bin/pyoci", "--version").stdout.splitlines()[0]

    def files(self) -> dict[str, str]:
        """Describe every file and every directory below the prefix."""
        prefix = Path(f"{self.root.path}{PREFIX}")
        return {str(path.relative_to(prefix)): f"{path.lstat().st_mode:o}" for path in prefix.rglob("*")}


@pytest.fixture(scope="module")
def debian() -> Iterator[System]:
    """Make the system once."""
    packages = ["xz-utils", "busybox", "curl", "wget", "openssl", "ca-certificates", "netbase"]
    packages += installed.SHELLS_AND_MANUAL
    with installed.Root("trixie", *packages) as root:
        yield System(root)


@pytest.fixture
def system(debian: System) -> Iterator[System]:
    """Show a system without pyoci, and check that the test leaves it so."""
    before = debian.files()
    yield debian
    if (Path(f"{debian.root.path}{PREFIX}/.pyoci-install/files")).exists():
        assert (0, f"removed pyoci from {PREFIX}\n") == debian.install("--uninstall")
    assert before == debian.files()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_installer_changes_versions_and_uninstalls(system: System, shell: list[str]) -> None:
    """In every shell that a system may have as /bin/sh."""
    before = system.files()
    old = system.install(f"{RELEASE}/{system.old}", shell=shell)
    with_old = system.files()
    new = system.install("--version", "1.1.0", RELEASE, shell=shell)
    with_new = system.files()
    back = system.install("--rollback", shell=shell)
    again = system.version(), system.files()
    forward = system.install("--rollback", shell=shell)
    end = system.install("--uninstall", shell=shell)

    assert (0, "installed pyoci version 1.0.0 in /usr/local\n") == old == back
    assert (0, "installed pyoci version 1.1.0 in /usr/local\n") == new == forward
    assert {
        "bin/pyoci": "100755",
        "share/old": "100644",
        "share/man/man8/pyoci-run.8": "100644",
    }.items() <= with_old.items()
    assert "share/new" in with_new
    assert "share/old" not in with_new
    assert "pyoci version 1.0.0" == again[0]
    assert "share/old" in again[1]
    assert "share/new" not in again[1]
    assert (0, "removed pyoci from /usr/local\n") == end
    assert before == system.files()


def test_installer_keeps_files_that_are_not_its_own(system: System) -> None:
    """A copy by hand, and files that a user adds in its directories."""
    by_hand = Path(f"{system.root.path}{PREFIX}/bin/pyoci")
    by_hand.write_text("by hand")
    status, output = system.install("--version", "1.0.0", RELEASE)

    assert 1 == status
    assert output.startswith(
        "cannot write /usr/local/bin/pyoci: it exists, and this installer did not install it (hint: "
    )
    assert "by hand" == by_hand.read_text()
    by_hand.unlink()
    system.install("--version", "1.0.0", RELEASE)
    added = Path(f"{system.root.path}{PREFIX}/share/doc/pyoci/notes")
    added.write_text("mine")
    assert 0 == system.install("--uninstall")[0]
    assert "mine" == added.read_text()
    shutil.rmtree(added.parent)
    added.parent.parent.rmdir()


FAULTS = {
    "a changed archive": (
        ["/srv/faults/a/pyoci-1.0.0-linux-{machine}.tar.xz"],
        r"cannot use pyoci-1.0.0-linux-{machine}.tar.xz: its SHA-256 sum is [0-9a-f]{{64}}, expected [0-9a-f]{{64}}",
    ),
    "an archive without a sum": (
        ["/srv/faults/b/pyoci-1.0.0-linux-{machine}.tar.xz"],
        r"cannot verify pyoci-1.0.0-linux-{machine}.tar.xz: SHA256SUMS does not have it",
    ),
    "no file of sums": (["/srv/faults/c/x.tar.xz"], "cannot read /srv/faults/c/SHA256SUMS"),
    "a wrong sum": (
        ["--sha256", "0" * 64, RELEASE + "/pyoci-1.0.0-linux-{machine}.tar.xz"],
        r"cannot use pyoci-1.0.0-linux-{machine}.tar.xz: its SHA-256 sum is [0-9a-f]{{64}}, expected 0{{64}}",
    ),
    "no archive for this machine": (
        ["/srv/faults/d"],
        "cannot install pyoci: /srv/faults/d/SHA256SUMS has no archive for {machine}",
    ),
    "no such version": (
        ["--version", "2.0.0", RELEASE],
        "cannot install pyoci 2.0.0: /srv/release/SHA256SUMS has no archive for {machine}",
    ),
    "several archives": ([RELEASE], "cannot choose an archive: /srv/release has several, name one with --version"),
    "a missing source": (["/srv/nothing"], "cannot read /srv/nothing: no such file or directory"),
    "http without a sum": (
        ["http://localhost/"],
        "cannot use http://localhost/: http protects nothing, use https or pass --sha256",
    ),
    "an executable for another machine": (
        ["/srv/faults/e"],
        "cannot install pyoci-1.0.0-linux-{machine}.tar.xz: its executable does not run on this machine",
    ),
    "a damaged archive": (["/srv/faults/f"], "cannot unpack pyoci-1.0.0-linux-{machine}.tar.xz"),
    "nothing to roll back": (["--rollback"], "cannot roll back: there is no previous version in /usr/local"),
    "nothing to uninstall": (
        ["--uninstall"],
        "cannot uninstall pyoci: this installer has not installed it in /usr/local",
    ),
    "a missing prefix": (["--prefix", "/nothing", RELEASE], "cannot use /nothing: it is not a directory"),
}


@pytest.fixture(scope="module")
def faults(debian: System) -> None:
    """Make directories with archives that can't be installed."""
    folder = Path(f"{debian.root.path}/srv/faults")
    good = f"pyoci-1.0.0-linux-{MACHINE}.tar.xz"
    for name in "abcdf":
        (folder / name).mkdir(parents=True)
    shutil.copy(debian.release / "SHA256SUMS", folder / "a")
    (folder / "a" / good).write_bytes((debian.release / good).read_bytes()[:-1])
    shutil.copy(debian.release / good, folder / "b")
    (folder / "b/SHA256SUMS").write_text(f"{'0' * 64}  x{good}\n")
    (folder / "c/x.tar.xz").touch()
    archive(folder / "d", "1.0.0", b"", machine="mips")
    (folder / "e").mkdir()
    archive(folder / "e", "1.0.0", b"\x7fELF")
    content = (debian.release / good).read_bytes()[:5000]
    (folder / "f" / good).write_bytes(content)
    (folder / "f/SHA256SUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  {good}\n")


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("fault", FAULTS)
def test_installer_reports_faults_and_changes_nothing(system: System, fault: str) -> None:
    """The last line names the fault. The fixture checks that no file is left."""
    arguments, message = FAULTS[fault]
    status, output = system.install(*(argument.format(machine=MACHINE) for argument in arguments))

    assert 1 == status
    assert re.fullmatch(message.format(machine=MACHINE), output.splitlines()[-1]), output
    assert 1 == output.count("\n") or fault == "a damaged archive"  # tar has more to say


@pytest.mark.parametrize(
    "arguments", [[], ["--prefix"], ["--unknown", "x"], ["a", "b"], ["--rollback", "a"], ["--version", "1/2", RELEASE]]
)
def test_installer_shows_its_usage(system: System, arguments: list[str]) -> None:
    """The usage comes with status 2."""
    status, output = system.install(*arguments)

    assert 2 == status
    assert "install.sh [--prefix DIRECTORY] --rollback" in output


def test_installer_keeps_the_present_version_if_a_file_cannot_be_written(system: System) -> None:
    """Here a directory of the new version is a file."""
    system.install("--version", "1.0.0", RELEASE)
    folder = Path(f"{system.root.path}{PREFIX}/share/fish")
    shutil.rmtree(folder)
    folder.write_text("a file")
    before = system.files()
    status, output = system.install("--version", "1.1.0", RELEASE)

    assert (1, f"cannot write {PREFIX}/share/fish/vendor_completions.d/pyoci.fish\n") == (status, output)
    assert before == system.files()
    assert "pyoci version 1.0.0" == system.version()
    folder.unlink()


def test_installers_exclude_each_other(system: System) -> None:
    """The second one changes nothing, and says what to do if there is no first one."""
    lock = Path(f"{system.root.path}{PREFIX}/.pyoci-install/lock")
    lock.mkdir(parents=True)
    found = system.install("--version", "1.0.0", RELEASE)
    lock.rmdir()
    lock.parent.rmdir()

    assert (
        1,
        f"cannot change {PREFIX}: another installation runs (hint: if none does, remove {PREFIX}/.pyoci-install/lock)\n",
    ) == found


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without a log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def servers(debian: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Serve the archives over http and https: two URLs. The certificate is /srv/certificate.pem."""
    certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    certificate += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "/srv/key.pem",
        "-out",
        "/srv/certificate.pem",
    ]
    debian.root.run("openssl", *certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{debian.root.path}/srv/certificate.pem", f"{debian.root.path}/srv/key.pem")
    handler = functools.partial(Quiet, directory=str(debian.release))
    plain, secure = (http.server.ThreadingHTTPServer(("localhost", 0), handler) for _ in range(2))
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    threads = [threading.Thread(target=server.serve_forever) for server in (plain, secure)]
    for thread in threads:
        thread.start()
    yield f"http://localhost:{plain.server_port}", f"https://localhost:{secure.server_port}"
    for server, thread in zip((plain, secure), threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_installer_fetches_a_release(system: System, servers: tuple[str, str], program: str) -> None:
    """Over https with the sums beside the archive, over http with a sum from elsewhere."""
    plain, secure = servers
    other = {"curl": "wget", "wget": "curl"}[program]
    hidden = Path(f"{system.root.path}/usr/bin/{other}")
    hidden.rename(hidden.with_suffix(".hidden"))
    trust = {"CURL_CA_BUNDLE": "/srv/certificate.pem", "SSL_CERT_FILE": "/srv/certificate.pem"}
    if program == "wget":
        Path(f"{system.root.path}/root/.wgetrc").write_text("ca_certificate = /srv/certificate.pem\n")
    sums = dict(reversed(line.split()) for line in (system.release / "SHA256SUMS").read_text().splitlines())
    try:
        directory = system.install("--version", "1.0.0", secure, **trust)
        given = [] if program == "curl" else ["--sha256", sums[system.new]]
        file = system.install(*given, f"{secure}/{system.new}", **trust)
        with_sum = system.install("--sha256", sums[system.old], f"{plain}/{system.old}")
        wrong, message = system.install("--sha256", sums[system.old], f"{plain}/{system.new}")
        missing, reason = system.install(*given, f"{secure}/nothing.tar.xz", **trust)
        distrusted, _ = system.install(*given, f"{secure}/{system.new}".replace("localhost", "127.0.0.1"), **trust)
    finally:
        hidden.with_suffix(".hidden").rename(hidden)

    if program == "curl":
        assert (0, "installed pyoci version 1.0.0 in /usr/local\n") == directory
    else:  # it follows redirections to http
        no_curl = f"cannot verify {secure}/SHA256SUMS: there is no curl (hint: install it, or pass --sha256)\n"
        assert (1, no_curl) == directory
    assert (0, "installed pyoci version 1.0.0 in /usr/local\n") == with_sum
    assert (0, "installed pyoci version 1.1.0 in /usr/local\n") == file
    assert 1 == wrong
    assert f"cannot use {system.new}: its SHA-256 sum is {sums[system.new]}, expected {sums[system.old]}\n" == message
    assert 1 == missing
    assert f"cannot fetch {secure}/nothing.tar.xz" in reason
    assert 1 == distrusted
    assert "pyoci version 1.0.0" == system.version()


def test_installer_that_is_interrupted_leaves_nothing(system: System) -> None:
    """Here while it waits for a server that accepts the connection and never answers. The fixture looks for files."""
    with socket.create_server(("localhost", 0)) as server:
        url = f"http://localhost:{server.getsockname()[1]}/x.tar.xz"
        done = system.root.run("timeout", "2", "sh", system.script, "--sha256", "0" * 64, url, check=False)

    assert 124 == done.returncode, done.stdout


def newer(directory: Path) -> bytes:
    """Build an executable of the next version from the checkout, with the objects of its last build."""
    copy = directory / "checkout"
    for name in ("pyoci", "build/executable"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    version = copy / "pyoci/version.py"
    text = version.read_text()
    version.write_text(re.sub(r'(?m)^VERSION = ".*"$', 'VERSION = "99.0.0"', text))
    assert text != version.read_text()
    freeze = [sys.executable, "-m", "pyoci.executable.freeze", "--output", directory / "pyoci"]
    freeze += ["--temp", copy / "build/executable"]
    subprocess.run(freeze, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return (directory / "pyoci").read_bytes()


def state(system: System, id: str) -> str:
    """The status of a container, as the installed pyoci prints it."""
    return re.search(r'"status":\s*"(\w+)"', system.root.run("pyoci", "state", id).stdout)[1]


def test_installed_pyoci_works_and_containers_outlive_an_upgrade(pyoci: str, tmp_path: Path) -> None:
    """The next version controls what the last one has made. Uninstalling is refused while a container lives."""
    with installed.Root("trixie", "xz-utils", *installed.SHELLS_AND_MANUAL) as root:
        system = System(root)
        bundle = installed.bundle(root)
        before = root.files()
        old = subprocess.check_output([pyoci, "--version"], text=True).split()[2]
        archive(system.release, old, Path(pyoci).read_bytes())
        archive(system.release, "99.0.0", newer(tmp_path))

        assert f"installed pyoci version {old} in {PREFIX}\n" == system.install("--version", old, RELEASE)[1]
        words = installed.use(root, bundle)
        sleeper.make_bundle(root, f"{bundle}/rootfs")
        for name in ("first", "second"):
            sleeper.create(root, name)
        root.run("pyoci", "start", "first")
        assert "installed pyoci version 99.0.0 in /usr/local\n" == system.install("--version", "99.0.0", RELEASE)[1]

        assert ("running", "created") == (state(system, "first"), state(system, "second"))
        assert "lives\n" == root.run("pyoci", "exec", "first", "echo", "lives").stdout
        root.run("pyoci", "start", "second")
        root.run("pyoci", "kill", "second", "KILL")
        root.run("pyoci", "delete", "--force", "second")
        status, output = system.install("--uninstall")
        assert 1 == status
        assert output.startswith("cannot remove pyoci: containers live")
        assert "    running first in /run/pyoci\n" in output

        assert 0 == system.install("--rollback")[0]
        assert "lives\n" == root.run("pyoci", "exec", "first", "echo", "lives").stdout
        assert_guarded(system)
        forced, _ = system.install("--uninstall", PYOCI_FORCE_REMOVE="1")
        assert 0 == forced
        assert 0 == system.install("--version", "99.0.0", RELEASE)[0]
        root.run("pyoci", "delete", "--force", "first")
        assert 0 == system.install("--uninstall")[0]
        left = {path for path in root.files().items() ^ before.items() if not path[0].startswith("/srv/")}
    assert set() == left
    installed.assert_listed(installed.row("contrib/install.sh", "trixie", "—", {"installed", *words, "removed"}))


def assert_guarded(system: System) -> None:
    """Check that a container also counts if another user owns it, or if its state can't be read."""
    script = """
        rootless=/run/user/12345/pyoci
        mkdir -p $rootless
        cp -a /run/pyoci/first $rootless
        chown -R 12345:12345 /run/user/12345
        chmod 700 $rootless
        mkdir /run/pyoci/broken
        echo nothing >/run/pyoci/broken/record.json
    """
    system.root.run("sh", "-euc", script)
    status, output = system.install("--uninstall")
    system.root.run("rm", "-r", "/run/user", "/run/pyoci/broken")

    assert 1 == status
    lives = {"unknown broken in /run/pyoci", "running first in /run/pyoci", "running first in /run/user/12345/pyoci"}
    assert lives == {line.strip() for line in output.splitlines() if line.startswith("    ")}


@pytest.mark.nightly
def test_playbook_installs_each_version_once() -> None:
    """contrib/ansible runs the installer on a host that lacks the version, and leaves the host alone afterwards."""
    with installed.Root("trixie", "xz-utils", "ansible-core") as root:
        system = System(root)
        root.run("mkdir", "-p", "/srv/contrib/ansible")
        root.copy(INSTALLER, directory="/srv/contrib")
        (playbook,) = root.copy(CHECKOUT / "contrib/ansible/pyoci.yml", directory="/srv/contrib/ansible")
        local = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", playbook, "--extra-vars"]

        def play(archive: str) -> tuple[int, str]:
            done = root.run(*local, f"archive={RELEASE}/{archive}", check=False)
            return done.returncode, done.stdout

        root.run(*local[:-1], "--syntax-check")
        for archive in (system.old, system.new):
            status, output = play(archive)
            assert 0 == status, output
            assert re.search(r"changed=[1-9].*failed=0", output), output
            assert f"pyoci version {archive.split('-')[1]}" == system.version()
            status, output = play(archive)
            assert (0, True) == (status, "changed=0" in output), output

        (system.release / "SHA256SUMS").write_text(f"{'0' * 64}  {system.old}\n")
        status, output = play(system.old)
        assert 0 != status
        assert "its SHA-256 sum is" in output
        assert "pyoci version 1.1.0" == system.version()
        assert [] == list(Path(f"{root.path}/tmp").glob("ansible.*"))
