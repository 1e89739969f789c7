"""--no-pivot: a chroot on a moved root, which must be as hard to leave as one that was pivoted."""

import subprocess

import pytest

from pyoci.config.constants import CAPABILITIES
from tests.support.hostile import Attack

pytestmark = pytest.mark.root

CHROOT = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
/* The ways out of a chroot that root has: a second chroot with the first one's directory open, "..", and unmounting. */
int main(int argc, char **argv)
{
    struct stat status;
    int root = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/jail", 0755);
    if (chroot("/jail") == 0 && fchdir(root) == 0)
        for (int i = 0; i < 64; i++)
            if (chdir("..") < 0)
                break;
    chroot(".");
    printf("chroot: %s\\n", stat(argv[1], &status) == 0 ? "out" : "in");
    for (int i = 0; i < 64; i++)
        umount2("/", MNT_DETACH);
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    chroot(".");
    printf("umount: %s\\n", stat(argv[1], &status) == 0 ? "out" : "in");
    return 0;
}
"""


@pytest.fixture
def jail(attack: Attack) -> Attack:
    """A container whose program tries to leave its root."""
    source = attack.folder / "chroot.c"
    source.write_text(CHROOT)
    subprocess.run(["gcc", "-static", "-o", str(attack.rootfs / "bin/leave"), str(source)], check=True)
    attack.process["args"] = ["/bin/leave", str(attack.outside)]
    attack.process["env"] = ["PATH=/bin", "HOME=/"]
    return attack


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
@pytest.mark.parametrize("user_namespace", [False, True])
def test_leaving_the_root(jail: Attack, options: list[str], user_namespace: bool) -> None:
    """CAP_SYS_CHROOT, which Docker gives, does not lead out of the root."""
    if user_namespace:
        jail.bundle.in_user_namespace()
    result = jail.run(*options)
    assert (0, ["chroot: in", "umount: in"]) == (result.status, result.out.splitlines()), result


def test_everything_allowed(jail: Attack) -> None:
    """Even with every capability a pivoted container has nothing below its root to unmount."""
    jail.process["capabilities"] = {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    result = jail.run()
    assert (0, ["chroot: in", "umount: in"]) == (result.status, result.out.splitlines()), result


@pytest.mark.parametrize("user_namespace", [False, True])
def test_no_unmasked_procfs_of_the_host(attack: Attack, user_namespace: bool) -> None:
    """Without pivot_root the host's procfs and sysfs are detached or covered before the container's root is entered."""
    if user_namespace:
        attack.bundle.in_user_namespace()
    attack.bundle.shell("cat /proc/self/mountinfo")
    result = attack.run("--no-pivot")
    assert 0 == result.status, result
    points = [line.split(" ")[4] for line in result.out.splitlines()]
    assert {"/", "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/shm"} <= set(points)
    assert not [point for point in points if str(attack.folder) in point]
