"""What the bundles' configs reference: `common.<package>.<name>`. A package is imported when it is first asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = [
    "baselines",
    "cli",
    "data",
    "errors",
    "files",
    "inference",
    "locks",
    "memory",
    "metrics",
    "options",
    "pages",
    "ssl",
    "training",
    "weights",
]


def lazy(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names are imported when they are first asked for.

    Configs name `common.PACKAGE.NAME`, whichever module of the package holds it; and a command that needs one module
    does not wait for the imports of the others.

    Args:
        package: its `__name__`.
        names: that each module offers, separated by blanks.
    """
    modules = {name: module for module, listed in names.items() for name in listed.split()}

    def get(name: str) -> Any:
        if name in names:
            return import_module(f"{package}.{name}")
        if name in modules:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package} has no attribute {name}")

    return get


__getattr__ = lazy(__name__, dict.fromkeys(__all__, ""))
