"""Training: optimiser step, checkpoints, exact resume, handlers, records."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "averaging": "Average",
        "checkpoints": "BestModel EarlyStop RunStates",
        "distributed": "Processes leave_process_group",
        "finetuning": "frozen parameters",
        "handlers": "Forecast LossTerms Pictures Progress RegionScores",
        "plan": "Plan",
        "random_states": "random_state set_random_state",
        "records": "RunRecord TrainingRecord peak_memory",
        "resume": "resumable saved_states",
        "signals": "PREEMPTED StopRequest",
        "step": "Step accumulation_steps precision",
        "trackers": "Tracker WeightsAndBiases untracked",
        "workflows": "prediction_handlers training_handlers",
    },
)
