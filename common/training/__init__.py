"""Training: optimiser step, checkpoints, exact resume, handlers, records."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "averaging": "Average",
        "distributed": "Processes",
        "finetuning": "parameters",
        "handlers": "LossTerms Pictures RegionScores",
        "plan": "Plan",
        "records": "RunRecord",
        "step": "Step precision",
        "workflows": "prediction_handlers training_handlers validation_handlers",
    },
)
