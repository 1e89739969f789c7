"""The devices of contrib/cdi/example.json, and what a container that has one of them sees."""

from tests.support.engines import CHECKOUT

NVIDIA = CHECKOUT / "contrib/nvidia"
EXAMPLE = CHECKOUT / "contrib/cdi/example.json"
# Engines look here, and in /etc/cdi, which belongs to the Debian that all tests share.
DIRECTORY = "/var/run/cdi"
SENSOR = "example.com/sensor=zero"
SHOW_SENSOR = "ls -l /dev/sensor*; echo $SENSOR; head -c 3 $SENSOR | od -An -tx1; grep ^ID= /run/host/os-release"


def assert_sensor(printed: str) -> None:
    """Compare what SHOW_SENSOR prints with the example: /dev/zero under another name, a variable and a mount."""
    node, *rest = printed.splitlines()
    assert (True, True) == (node.startswith("c"), node.endswith("/dev/sensor0")), printed
    assert ["1,", "5"] == node.split()[4:6], printed
    assert ["/dev/sensor0", "00 00 00", "ID=debian"] == [line.strip() for line in rest], printed
