"""Signals by number or name, as `kill` accepts them: 9, KILL, SIGKILL, sigkill, RTMIN+3."""

from pyoci.errors import UsageError

# asm-generic/signal.h, which x86 and Arm use
SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD":
    17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25,
    "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip
# The C library reserves the kernel's 32 and 33, so SIGRTMIN is 34 there and in kill(1).
_REALTIME = {"RTMIN": 34, "RTMAX": 64}


def parse_signal(text: str) -> int:
    """The number of the signal that `text` names, 0 to 64. Raises UsageError."""
    number = _number(text)
    if number is None or not 0 <= number <= 64:
        from pyoci.config import spelling

        hint = spelling.hint(text.upper().removeprefix("SIG"), (*SIGNALS, *_REALTIME))
        raise UsageError(f"cannot use signal `{text}`: unknown signal", hint=hint)
    return number


def _number(text: str) -> int | None:
    if _is_decimal(text):
        return int(text[:9])
    name = text.upper().removeprefix("SIG") if text.isascii() else ""
    if name in SIGNALS:
        return SIGNALS[name]
    for sign, factor in (("+", 1), ("-", -1)):
        base, _, offset = name.partition(sign)
        if base in _REALTIME and (_is_decimal(offset) or name == base):
            number = _REALTIME[base] + factor * int(offset[:9] or "0")
            return number if 34 <= number <= 64 else None
    return None


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit()
