"""Import packages lazily: configs name `common.PACKAGE.NAME`."""

import getpass
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from os.path import relpath
from pathlib import Path
from typing import Any

__version__ = "0.1.0"  # also in pyproject.toml and CITATION.cff

__all__ = [
    "baselines",
    "cli",
    "data",
    "errors",
    "files",
    "inference",
    "locks",
    "made",
    "memory",
    "metrics",
    "options",
    "pages",
    "ssl",
    "training",
    "weights",
]


def lazy(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__`, which imports each name on first use, and its `__dir__`.

    `names` maps a module to the names that it offers, separated by blanks.
    """
    modules = {name: module for module, listed in names.items() for name in listed.split()}

    def get(name: str) -> Any:
        if name in names:
            return import_module(f"{package}.{name}")
        if name in modules:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package} has no attribute {name}")

    return get, lambda: sorted({*names, *modules})


def bundle_root() -> str:
    """The folder of the bundle that Python imports this package from, relative to the current folder."""
    return relpath(Path(__path__[0]).parent)


try:  # `import monai` needs the user's name, which the machine may not know, as after `docker run --user`
    getpass.getuser()
except (KeyError, OSError):  # from Python 3.13 on OSError
    os.environ["USER"] = f"uid{os.getuid()}"

__getattr__, __dir__ = lazy(__name__, dict.fromkeys(__all__, ""))
