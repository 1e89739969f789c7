"""pyoci: a low-level OCI container runtime.

`import pyoci` gives the API that docs/python.md describes; the design starts at docs/design.md. Every name is imported
when it is first used, because each command of the executable imports this package.
"""

from pyoci.version import VERSION as __version__  # noqa: N811 - the name that Python's tools look for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.client.container import Container as Container
    from pyoci.client.documents import Operation as Operation
    from pyoci.client.documents import Plan as Plan
    from pyoci.client.documents import features as features
    from pyoci.client.documents import plan as plan
    from pyoci.client.documents import spec as spec
    from pyoci.client.documents import validate as validate
    from pyoci.client.failures import UnsupportedError as UnsupportedError
    from pyoci.client.runtime import Runtime as Runtime
    from pyoci.client.types import Event as Event
    from pyoci.client.types import Stats as Stats
    from pyoci.errors import CgroupError as CgroupError
    from pyoci.errors import ConfigError as ConfigError
    from pyoci.errors import ContainerExists as ContainerExists
    from pyoci.errors import ContainerNotFound as ContainerNotFound
    from pyoci.errors import HookError as HookError
    from pyoci.errors import Problem as Problem
    from pyoci.errors import PyociError as PyociError
    from pyoci.errors import SetupError as SetupError
    from pyoci.errors import StateError as StateError
    from pyoci.errors import StatusError as StatusError
    from pyoci.errors import UsageError as UsageError
    from pyoci.types import Config as Config
    from pyoci.types import Features as Features
    from pyoci.types import Process as Process
    from pyoci.types import Resources as Resources
    from pyoci.types import State as State

# Where each public name is defined.
_PUBLIC = {
    "pyoci.client.container": ("Container",),
    "pyoci.client.documents": ("Operation", "Plan", "features", "plan", "spec", "validate"),
    "pyoci.client.failures": ("UnsupportedError",),
    "pyoci.client.runtime": ("Runtime",),
    "pyoci.client.types": ("Event", "Stats"),
    "pyoci.errors": (
        *("CgroupError", "ConfigError", "ContainerExists", "ContainerNotFound", "HookError", "Problem", "PyociError"),
        *("SetupError", "StateError", "StatusError", "UsageError"),
    ),
    "pyoci.types": ("Config", "Features", "Process", "Resources", "State"),
}

__all__ = ["__version__", *[name for names in _PUBLIC.values() for name in names]]  # noqa: PLE0604 - they are strings


if not TYPE_CHECKING:  # or a type checker would accept every name

    def __getattr__(name: str) -> object:
        for module, names in _PUBLIC.items():
            if name in names:
                value = getattr(__import__(module, fromlist=[name]), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
