"""For tests that need containers: a pytest plugin with the fixtures `rootfs`, `bundle`, `runtime` and `container`.

docs/python.md describes it. The plugin is `pyoci.testing.plugin`, which pytest finds by its entry point.
"""

from pyoci.testing.bundle import Bundle
from pyoci.testing.rootfs import make_rootfs

__all__ = ["Bundle", "make_rootfs"]
