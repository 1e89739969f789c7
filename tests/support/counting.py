"""A container that counts, to see whether it goes on where its checkpoint was made."""

from collections.abc import Callable

from tests.support.daemon import Client, until


def repeat(body: str, fifo: str = "/fifo", seconds: float = 0.05) -> str:
    """A shell's loop that runs `body` at that interval. It starts no program to wait: it reads a FIFO that it makes.

    CRIU can't stop a shell that waits for its child between vfork(2) and execve(2): it gives up after ten seconds.
    """
    return f"[ -p {fifo} ] || mkfifo {fifo}; exec 9<>{fifo}; while :; do {body}; read -t {seconds} line <&9; done"


# Answers on port 7001, and goes on once it listens.
LISTEN = "nc -lp 7001 -e cat & until grep -q ':1B59 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep .05; done"

# The counter is a variable of the shell, so only the memory of the process has it.
COUNT = ("sh", "-c", "i=0; " + repeat("i=$((i+1)); echo $i"))


def counted(client: Client, name: str) -> int:
    """The last number that a container has printed. Fails if it has begun again."""
    numbers = [int(line) for line in client("logs", name).split()]
    assert numbers == sorted(set(numbers)), f"{name} counted {numbers}"
    return numbers[-1] if numbers else 0


def await_count(client: Client, name: str, least: int) -> int:
    """Wait until a container has counted that far."""
    return until_count(lambda: counted(client, name), least)


def until_count(number: Callable[[], int], least: int) -> int:
    """Wait until a counter has reached a number, and return what it shows."""
    until(lambda: number() >= least, f"it counts to {least}")
    return number()
