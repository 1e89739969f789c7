"""Run a command where the kernel refuses a memfd that may be executed: memfds.py COMMAND...

Linux 6.3 to 6.5 do so with vm.memfd_noexec=2, even if the caller passes no flag. A seccomp filter shows the same on any
Linux: memfd_create without MFD_NOEXEC_SEAL fails with EACCES.
"""

import ctypes
import os
import struct
import sys
from errno import EACCES

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
MFD_NOEXEC_SEAL = 0x8
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
NUMBER, SECOND_ARGUMENT = 0, 24  # places in struct seccomp_data
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
FILTER = (
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 3, MEMFD_CREATE),
    (LOAD, 0, 0, SECOND_ARGUMENT),
    (JUMP_IF_SET, 1, 0, MFD_NOEXEC_SEAL),
    (RETURN, 0, 0, FAIL | EACCES),
    (RETURN, 0, 0, ALLOW),
)


def main() -> None:
    """Load the filter, and execute the command."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in FILTER))
    loaded = struct.pack("@HP", len(FILTER), ctypes.addressof(program))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, loaded):
        raise OSError(ctypes.get_errno(), "cannot load the filter")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
