"""The Debian package: built with Debian's tools alone, checked by lintian, installed, used by Docker, and purged."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import engines, installed, sleeper

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = installed.CHECKOUT
# Each change is tested in the stable release; the other suites are tested at night.
SUITES = [pytest.param("trixie"), pytest.param("sid", marks=pytest.mark.nightly)]
# What apt and man write, and what the test itself has put there.
NOT_COMPARED = re.compile(r"/var/(log|cache)/|/var/lib/(apt|dpkg)/|/etc/ld\.so\.cache$|/srv/")


def sources() -> list[str]:
    """Every file of the checkout that a package is made of."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (CHECKOUT / ".git").exists():
        names = subprocess.check_output(listing, cwd=CHECKOUT, text=True).split("\0")
    else:
        names = [str(path.relative_to(CHECKOUT)) for path in CHECKOUT.rglob("*") if path.is_file()]
        names = [name for name in names if not re.match(r"build/|\.venv|.*/__pycache__/", name)]
    return [name for name in names if name and (CHECKOUT / name).exists()]


def build_depends() -> list[str]:
    """Return the packages that debian/control names, without versions and profiles."""
    field = re.search(r"(?m)^Build-Depends:\n((?: .*\n)+)", (CHECKOUT / "debian/control").read_text())[1]
    names = re.findall(r"(?m)^ ([\w.+-]+)", field)
    return ["debhelper" if name == "debhelper-compat" else name for name in names]


def build(root: installed.Root, **environment: str) -> Path:
    """Build the package in a copy of the sources, and return its path."""
    folder = Path(f"{root.path}/srv/build/pyoci")
    folder.mkdir(parents=True)
    names = "\0".join(sources()).encode()
    tar = ["tar", "-C", CHECKOUT, "--null", "--files-from=-", "-cf"]
    subprocess.run([*tar, folder.parent / "sources.tar"], input=names, check=True)
    root.run("tar", "-xf", "../sources.tar", directory="/srv/build/pyoci")
    # without a route, so that the build can't fetch anything
    command = ["unshare", "--net", "dpkg-buildpackage", "--build=binary", "--unsigned-changes"]
    root.run(*command, directory="/srv/build/pyoci", environment=environment)
    (package,) = folder.parent.glob("pyoci_*.deb")
    return package


@dataclass
class Package:
    """A package, and what tools say about it."""

    suite: str
    path: Path
    python: str
    lintian: str
    fields: dict[str, str]
    content: str


@pytest.fixture(scope="module", params=SUITES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Build the package in a suite."""
    suite = request.param
    with installed.Root(suite, "build-essential", "lintian", *build_depends()) as root:
        made = build(root)
        inside = f"/srv/build/{made.name}"
        text = root.run("dpkg-deb", "--field", inside).stdout
        return Package(
            suite,
            Path(root_copy(made, tmp_path_factory.mktemp(suite))),
            root.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip(),
            root.run("lintian", "--allow-root", "--fail-on", "none", "--tag-display-limit", "0", inside).stdout,
            dict(re.findall(r"(?m)^([\w-]+): (.*)", text)),
            root.run("dpkg-deb", "--contents", inside).stdout,
        )


def root_copy(file: Path, folder: Path) -> Path:
    """Copy a file of a system that ends."""
    copy = folder / file.name
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o644)
    return copy


def test_lintian_finds_no_error(package: Package) -> None:
    """lintian reports neither errors nor warnings."""
    assert [] == [line for line in package.lintian.splitlines() if line.startswith(("E:", "W:"))]


def test_package_has_the_same_files_as_other_ways(package: Package) -> None:
    """The executable, a manual page for each command, completion, documentation and examples."""
    files = {line.split()[5].removeprefix(".") for line in package.content.splitlines()}

    assert {
        "/usr/bin/pyoci",
        "/usr/share/man/man8/pyoci-run.8.gz",
        "/usr/share/bash-completion/completions/pyoci",
        "/usr/share/zsh/vendor-completions/_pyoci",
        "/usr/share/fish/vendor_completions.d/pyoci.fish",
        "/usr/share/doc/pyoci/examples/docker/daemon.json",
        "/usr/share/doc/pyoci/copyright",
    } <= files
    assert len(list((CHECKOUT / "docs/man").glob("*.md"))) == len(
        [name for name in files if "/man8/" in name and name.endswith(".gz")]
    )
    assert not [name for name in files if "__pycache__" in name or "python" in name.rpartition("/")[0]]


def test_package_names_what_is_linked_into_it(package: Package) -> None:
    """With versions. It depends on no other package."""
    linked = package.fields["Static-Built-Using"] + package.fields["Built-Using"]

    assert "Depends" not in package.fields
    assert re.search(rf"\bpython{re.escape(package.python)} \(= \S+\)", linked)
    assert re.search(r"\bglibc \(= \S+\)", package.fields["Built-Using"])


def later(root: installed.Root, package: str) -> str:
    """Make the package again with a later version, and return its path."""
    root.run("dpkg-deb", "--raw-extract", package, "/tmp/later")
    control = Path(f"{root.path}/tmp/later/DEBIAN/control")
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 99.0", control.read_text()))
    root.run("dpkg-deb", "--build", "/tmp/later", "/tmp/later.deb")
    return "/tmp/later.deb"


def start_sleeper(root: installed.Root, bundle: str) -> None:
    """Start a container `web` that waits, with the root filesystem of a bundle."""
    sleeper.make_bundle(root, f"{bundle}/rootfs")
    sleeper.create(root, "web")
    root.run("pyoci", "start", "web")


def test_package_is_installed_upgraded_and_purged(package: Package) -> None:
    """apt does not remove it while a container lives. An upgrade keeps the container running."""
    install = ["apt-get", "-q", "-y", "install"]
    with installed.Root(package.suite, *installed.SHELLS_AND_MANUAL) as root:
        bundle = installed.bundle(root)
        before = root.files()
        (path,) = root.copy(package.path)
        root.run(*install, path)
        words = {"installed", *installed.use(root, bundle)}
        start_sleeper(root, bundle)

        refused = root.run("apt-get", "-q", "-y", "remove", "pyoci", check=False)
        assert 0 != refused.returncode
        assert "cannot remove pyoci: containers live" in refused.stdout
        assert "    running web in /run/pyoci\n" in refused.stdout
        assert "installed" == root.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "pyoci").stdout
        root.run(*install, later(root, path))
        assert "99.0" == root.run("dpkg-query", "-W", "-f", "${Version}", "pyoci").stdout
        assert "lives\n" == root.run("pyoci", "exec", "web", "echo", "lives").stdout
        root.run("dpkg", "--install", path)  # the version before
        assert "lives\n" == root.run("pyoci", "exec", "web", "echo", "lives").stdout

        root.run("pyoci", "delete", "--force", "web")
        root.run("apt-get", "-q", "-y", "purge", "pyoci")
        assert set() == {name for name in root.files().keys() ^ before.keys() if not NOT_COMPARED.match(name)}
        assert [] == [str(name) for name in Path(f"{root.path}/var/lib/dpkg/info").glob("pyoci*")]
    installed.assert_listed(installed.row("Debian package", package.suite, "—", {*words, "removed"}))


def test_package_can_be_removed_by_force(package: Package) -> None:
    """PYOCI_FORCE_REMOVE=1 removes it. A pyoci that is installed again finds the container."""
    with installed.Root(package.suite, *installed.SHELLS_AND_MANUAL) as root:
        bundle = installed.bundle(root)
        (path,) = root.copy(package.path)
        root.run("dpkg", "--install", path)
        start_sleeper(root, bundle)
        root.run("dpkg", "--purge", "pyoci", environment={"PYOCI_FORCE_REMOVE": "1"})
        root.run("dpkg", "--install", path)
        root.run("pyoci", "delete", "--force", "web")


# $1 is the package, $2 the command that installs it, $3 the content of daemon.json.
DOCKER = r"""
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cp "$1" /tmp
cd /mnt/root
for each in proc sys dev run tmp; do mount --rbind /$each $each; done
pivot_root . .
umount -l .
cd /tmp

export DEBIAN_FRONTEND=noninteractive
eval "$2" >log 2>&1 || { cat log; exit 1; }
mkdir -p /etc/docker
printf %s "$3" >/etc/docker/daemon.json
dockerd --data-root /tmp/docker --iptables=false --ip6tables=false --bridge=none >log 2>&1 &
until docker version >/dev/null 2>&1; do kill -0 $! || { cat log; exit 1; }; sleep 0.1; done
mkdir -p root/bin
cp /bin/busybox root/bin
for name in sh echo sleep; do ln -s busybox root/bin/$name; done
tar -C root -c . | docker import - busybox >/dev/null
docker run --rm --runtime pyoci --network none busybox /bin/sh -c 'sleep 0.2; echo ran by Docker'
docker run -d --runtime pyoci --network none --name web busybox /bin/sleep 600 >/dev/null
docker inspect --format 'runtime {{.HostConfig.Runtime}}' web
! apt-get -q -y remove pyoci >removal 2>&1
grep -o 'containers live' removal
grep -o 'running .* in /run/docker/.*' removal | sed 's/[0-9a-f]\{64\}/ID/'
docker rm -f web
apt-get -q -y purge pyoci >/dev/null
test ! -e /usr/bin/pyoci
"""


@pytest.mark.deadline(1200)
def test_docker_runs_containers_with_the_package(package: Package) -> None:
    """After what docs/install.md says: the installation, and the lines in daemon.json."""
    page = installed.PAGE.read_text().partition("## With the Debian package")[2]
    install = re.search(r"(?m)^    apt install \./(pyoci_.*\.deb)$", page)
    assert package.path.name == install[1].replace("amd64", package.fields["Architecture"])
    configuration = re.search(r"```json\n(.*?)```", page, re.DOTALL)[1]
    # the machine sees the checkout, and no other directory of the host
    shared = CHECKOUT / "build/packages"
    shared.mkdir(parents=True, exist_ok=True)
    copy = root_copy(package.path, shared)
    packages = [*engines.COMMON, *engines.ENGINES["docker"], "util-linux-extra"]  # for pivot_root
    machine = [engines.MACHINE, engines.SUITES["docker"], *packages, "--"]
    command = f"apt install -y ./{package.path.name}"
    try:
        done = subprocess.run(
            [*machine, "bash", "-euc", DOCKER, "bash", copy, command, configuration],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1100,
        )
    finally:
        copy.unlink()

    assert 0 == done.returncode, done.stdout
    assert [
        "ran by Docker",
        "runtime pyoci",
        "containers live",
        "running ID in /run/docker/runtime-runc/moby",
        "web",
    ] == done.stdout.splitlines()[-5:]


@pytest.mark.nightly
def test_package_is_built_without_tests() -> None:
    """DEB_BUILD_OPTIONS=nocheck skips them, and pytest need not be installed."""
    with installed.Root("trixie", "build-essential", *build_depends()) as root:
        root.run("dpkg", "--force-depends", "--remove", "python3-pytest", "python3-hypothesis")
        options = {"DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
        assert build(root, **options).exists()
