"""What the bundles' configs reference: `common.<module>.<name>`. A module is imported when it is first asked for."""

from importlib import import_module
from types import ModuleType

__all__ = [
    "checkpoints",
    "checks",
    "datalists",
    "datasets",
    "embeddings",
    "handlers",
    "inference",
    "lesions",
    "losses",
    "metrics",
    "networks",
    "pictures",
    "preflight",
    "records",
    "results",
    "segmentations",
    "surfaces",
    "training",
    "transforms",
    "views",
    "weights",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__} has no attribute {name}")
