"""Session keyrings, as keyctl(2) tells of them."""

import ctypes
import os

CALL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
_GET_KEYRING_ID, _SESSION = 0, -3

# Run with a name: as nobody, a session keyring of this name, with all permissions for everybody, while stdin is open.
PLANT = f"""
import ctypes, os, sys
keyctl = lambda *words: ctypes.CDLL(None).syscall({CALL}, *words)
os.setgid(65534), os.setuid(65534)
keyring = keyctl(1, sys.argv[1].encode())
assert keyring > 0 and keyctl(5, keyring, 0x3F3F3F3F) == 0
print(keyring, flush=True)
sys.stdin.read()
"""


def own() -> int:
    """The number of this process' session keyring."""
    return int(ctypes.CDLL(None).syscall(CALL, _GET_KEYRING_ID, _SESSION, 0))
