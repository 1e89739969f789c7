"""Session keyrings, as keyctl(2) tells of them."""

import ctypes
import os

CALL, ADD_KEY = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]
_GET_KEYRING_ID, _JOIN_SESSION_KEYRING, _SESSION = 0, 1, -3

# Run with a name: as uid 65534, create a session keyring of this name, with all permissions for all users, until stdin
# is closed.
PLANT = f"""
import ctypes, os, sys
keyctl = lambda *words: ctypes.CDLL(None).syscall({CALL}, *words)
os.setgid(65534), os.setuid(65534)
keyring = keyctl(1, sys.argv[1].encode())
assert keyring > 0 and keyctl(5, keyring, 0x3F3F3F3F) == 0
print(keyring, flush=True)
sys.stdin.read()
"""

# Run with a uid: as this user, as many keys as it may have, while stdin is open.
EXHAUST = f"""
import ctypes, os, sys
call = ctypes.CDLL(None).syscall
os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
call({CALL}, 1, None)
made = 0
while call({ADD_KEY}, b"user", b"key%d" % made, b"x", 1, -3) > 0:
    made += 1
print(made, flush=True)
sys.stdin.read()
"""


def own() -> int:
    """The number of this process' session keyring."""
    return int(ctypes.CDLL(None).syscall(CALL, _GET_KEYRING_ID, _SESSION, 0))


def join_new() -> None:
    """Have a session keyring, as systemd gives one to each of its services."""
    ctypes.CDLL(None).syscall(CALL, _JOIN_SESSION_KEYRING, None)
