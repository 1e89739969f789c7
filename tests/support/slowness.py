"""How many times as long as usual a command may take: tests multiply their bounds of time by it.

On an emulated processor, tests/foreign sets it.
"""

import os

SLOWNESS = float(os.environ.get("PYOCI_SLOWNESS", "1"))
