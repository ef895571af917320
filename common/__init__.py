"""Import subpackages and modules on first use; configs refer to exported names as `common.PACKAGE.NAME`."""

import getpass
import os
from collections.abc import Callable
from importlib import import_module
from os.path import relpath
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

__version__ = "0.1.0"  # also in pyproject.toml and CITATION.cff
ROOT = Path(__file__).resolve().parents[1]  # the repository, also if a bundle links to this package


def lazy(package: str, **exports: str) -> Callable[[str], Any]:
    """Return `__getattr__` for a package: it imports a module, or a name from the module that exports it."""
    sources = {name: module for module, names in exports.items() for name in names.split()}

    def get(name: str) -> Any:
        if name in exports:
            return import_module(f"{package}.{name}")
        if name in sources:
            return getattr(import_module(f"{package}.{sources[name]}"), name)
        raise AttributeError(f"module {package} has no attribute {name}")

    return get


def bundle_root() -> str:
    """Return the folder of the bundle that contains this package, relative to the current folder."""
    return relpath(Path(__path__[0]).parent)


try:  # `import monai` needs a user name; a container started with `docker run --user` may have none
    getpass.getuser()
except (KeyError, OSError):  # OSError from Python 3.13 on
    os.environ["USER"] = f"uid{os.getuid()}"

__getattr__ = lazy(__name__, **{module.name: "" for module in iter_modules(__path__)})
