"""Find the config, and the key, that MONAI is resolving; the only module that relies on internals of MONAI's bundles.

MONAI passes a component only its own arguments, but `common.options.read` needs all options: the resolver is taken from
the call stack. tests/common/test_resolver.py names the version of MONAI.
"""

import inspect
from traceback import walk_tb
from typing import Any

from .errors import chain_of


def resolver() -> Any:
    """The `monai.bundle.ReferenceResolver` that evaluates the calling component; None outside of a config."""
    from monai.bundle import ReferenceResolver  # imported here because it is slow

    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ReferenceResolver):
            return found
        frame = frame.f_back
    return None


def key_of(error: BaseException) -> str:
    """The key of a config that was being resolved when an exception was raised; empty if there is none."""
    frames = [frame for link in chain_of(error) for frame, _ in walk_tb(link.__traceback__)]
    keys = [frame.f_locals["id"] for frame in frames if frame.f_code.co_name == "_resolve_one_item"]
    return keys[-1] if keys else ""
