"""What the bundles' configs reference: `common.<module>.<name>`."""

from common import datalists, handlers, losses, metrics, networks, pictures, preflight, transforms, views, weights

__all__ = [
    "datalists",
    "handlers",
    "losses",
    "metrics",
    "networks",
    "pictures",
    "preflight",
    "transforms",
    "views",
    "weights",
]
