"""Versions for `--version` and `features`."""

VERSION = "0.1.0"
SPEC = "1.3.0"
"""The version of the runtime specification that pyoci implements."""
COMMIT = ""
"""The commit that this was built from, or "" if unknown. A release build fills it in."""
