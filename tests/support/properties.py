"""How properties are judged: by what they say of an example, not by how long the machine took for it."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pyoci",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # what fails there is the change's, and not the example's
)
settings.load_profile("pyoci")
