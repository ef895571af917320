"""What the bundles' configs reference: `common.<module>.<name>`."""

from common import preflight

__all__ = ["preflight"]
