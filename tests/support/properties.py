"""How properties are judged: by their result for an example, not by the time that it took."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pyoci",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # what fails there is the change's, and not the example's
)
settings.load_profile("pyoci")
