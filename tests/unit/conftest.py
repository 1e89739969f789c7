"""Properties are judged as they are everywhere."""

from tests.support import properties

__all__ = ["properties"]
