"""Hooks, run by the child inside the container or by the runtime on the host."""

from pyoci.compiler.verbs.base import ChildOp, Op, ParentOp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Environment, Natural, Slot, Vector


class _Hook(Op):
    path: str
    argv: "Vector"
    envp: "Environment"
    timeout_ms: "Natural"
    fails = "run hook {path}"

    def shown(self) -> str:
        timeout = f"  (at most {self.timeout_ms // 1000} s)" if self.timeout_ms else ""
        return f"{self.path} {' '.join(self.argv[1:])}".rstrip() + timeout


class RunHook(_Hook, ChildOp):
    """Run a hook in the container, in a process group of its own, and wait for it.

    Takes: `timeout_ms`, 0 for none; `state`, the slot of the container's state, which the hook reads from standard
        input; `add_home`, to add the HOME that `set_home` has found.
    Does: kills the hook's process group after the timeout. Keeps the first 3072 bytes of its output.
    Fails with: pipe2, clone, execve; waitpid, with the wait status in the detail and the output in the payload.
    Calls: pipe2 pipe2 clone close close (poll | read | close | kill)* wait4+ read close close close?
    """

    state: "Slot"
    add_home: bool


class RunHostHook(_Hook, ParentOp):
    """Run a hook on the host, in the runtime's namespaces, and wait for it.

    Takes: `timeout_ms`, 0 for none.
    Fails with: HookError, with the hook's output.
    Calls: clone
    """
