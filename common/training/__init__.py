"""Training: optimiser step, checkpoints, exact resume, records."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    distributed="Processes",
    handlers="training_handlers",
    plan="Plan",
    records="RunRecord tracked",
    step="Step average parameters precision",
)
