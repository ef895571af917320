"""The config that MONAI is resolving: the one module that counts on how MONAI works inside.

MONAI hands a component only the values that its entry in the config names. `common.options.read` needs every option of
the config; naming each there again would be a second list of them. So the resolver is taken from the call stack.
tests/common/test_resolver.py says which version of MONAI this is known to work with.
"""

import inspect
from typing import Any

__all__ = ["resolver"]


def resolver() -> Any:
    """The `monai.bundle.ReferenceResolver` of the config whose component or expression is being evaluated.

    Raises:
        RuntimeError: there is none.
    """
    from monai.bundle import ReferenceResolver  # here because it is slow to import

    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ReferenceResolver):
            return found
        frame = frame.f_back
    raise RuntimeError("called outside of a config")
