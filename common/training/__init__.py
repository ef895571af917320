"""Training: order of cases, optimiser step, checkpoints, exact resume, records, pictures."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    distributed="Processes",
    handlers="training_handlers",
    order="CaseSampler Steps fixed_draws",
    pictures="Pictures draw_inpainting draw_segmentation",
    plan="Plan",
    records="RunRecord tracked",
    step="Step average parameters precision",
)
