"""The seccomp profiles that engines send, and those that the executable knows."""

import json
import platform
from pathlib import Path

from pyoci.compiler import known_filters


def described(config: Path) -> str:
    """Return which known profile the config has, such as `Podman, default capabilities`; "" if none."""
    sent = json.loads(config.read_text())["linux"]["seccomp"]
    found = (label for label, profile in known_filters.profiles(platform.machine()) if profile == sent)
    return next(found, "")
