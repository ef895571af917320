"""Find the config and the key that MONAI is resolving; the only module that relies on internals of MONAI's bundles.

MONAI passes a component only its arguments, but `common.options.read` needs all options, so it takes the resolver from
the call stack. tests/common/test_resolver.py names the MONAI version.
"""

import inspect
from traceback import walk_tb
from typing import Any

from .errors import chain_of


def resolver() -> Any:
    """Return the `monai.bundle.ReferenceResolver` that evaluates the calling component; None outside a config."""
    from monai.bundle import ReferenceResolver  # imported here because it is slow

    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), ReferenceResolver):
            return caller
        frame = frame.f_back
    return None


def key_of(error: BaseException) -> str:
    """Return the config key that MONAI was resolving when an exception was raised; empty if there is none."""
    frames = [frame for link in chain_of(error) for frame, _ in walk_tb(link.__traceback__)]
    keys = [frame.f_locals["id"] for frame in frames if frame.f_code.co_name == "_resolve_one_item"]
    return keys[-1] if keys else ""
