"""Versions for `--version` and `features`."""

from pyoci import __version__

VERSION = __version__
SPEC = "1.3.0"
"""The version of the runtime specification that pyoci implements."""
COMMIT = ""
"""The commit that this was built from, or "" if unknown. A release build fills it in."""
