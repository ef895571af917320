"""Training: optimiser step, checkpoints, exact resume, records."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    distributed="Processes",
    plan="Plan",
    records="RunRecord",
    step="Step average parameters precision",
    workflows="tracked training_handlers",
)
