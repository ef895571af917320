"""One optimiser step, checkpoints and exact resume, handlers, records."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    {
        "checkpoints": "BestModel RunStates",
        "curves": "Curves",
        "distributed": "Processes leave_process_group",
        "endings": "BestValidation Ending",
        "handlers": "Forecast LossTerms Pictures Progress RegionScores UnlearningWarning",
        "plan": "Plan",
        "random_states": "random_state set_random_state",
        "records": "EvaluationRecord RunRecord TrainingRecord peak_memory",
        "resume": "resumable saved_states",
        "signals": "PREEMPTED StopRequest",
        "step": "Step accumulation_steps precision",
        "tracking": "Tracking WandBRun",
    },
)
