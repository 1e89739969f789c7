"""A program that runs one `create` and reports how each process it adopts ends.

The client needs it on kernels before 6.15, which give an exit status to the parent alone. Its arguments are
the number of a pipe and the runtime's command line. It

- exits with the runtime's exit status as soon as the runtime has ended,
- leaves a process behind, which is the parent of the container's first process once the runtime has ended,
- writes a line `PID STATUS` into the pipe for each child that ends, and ends when it has no more children.
"""

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the command line of the docstring above."""
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    result, ended = os.pipe()
    if os.fork():
        os.close(ended)
        os._exit(int(os.read(result, 16) or b"1"))
    os.setsid()  # Ctrl-C is for the foreground, where this is not
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    runtime = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # the container's, whose readers wait for the last one to close them
        os.dup2(null, stream)
    _watch(runtime, ended, report)


def _watch(runtime: int, ended: int, report: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
        if pid == runtime:
            os.write(ended, b"%d" % code)
            os.close(ended)
            continue
        try:
            os.write(report, b"%d %d\n" % (pid, code))
        except BrokenPipeError:  # the client has ended; its containers may live on
            pass


if __name__ == "__main__":
    main()
