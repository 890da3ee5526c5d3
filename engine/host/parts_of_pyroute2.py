"""pyroute2 by its parts: the package imports all it has, in 0.13 s, and a few classes of messages are wanted here."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def prepare() -> None:
    """Have `import pyroute2.netlink` and the like import what they name. What only the whole has is still there."""
    spec = None if "pyroute2" in sys.modules else find_spec("pyroute2")
    if spec is not None:
        sys.modules["pyroute2"] = _empty(spec)


def _empty(spec: ModuleSpec) -> ModuleType:
    package = module_from_spec(spec)

    def missing(name: str) -> object:
        """What is asked of the package and not there yet: a part, or else all of it (PEP 562)."""
        if name.startswith("__") or spec.loader is None:
            raise AttributeError(name)
        if find_spec(f"{spec.name}.{name}") is not None:
            return import_module(f"{spec.name}.{name}")
        del package.__getattr__
        spec.loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = missing  # type: ignore[method-assign]
    return package
