"""A training of a toy network, assembled as in the bundles, with random numbers in each part."""

import random
from types import SimpleNamespace

import numpy as np
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised
from torch import nn

from common.data.datasets import CaseDataset
from common.options import Options
from common.ssl.views import TwoViews
from common.training.handlers import training_handlers
from common.training.order import CaseSampler, Steps
from common.training.plan import resumable
from common.training.step import Step
from common.weights.surgery import Report

CPU = torch.device("cpu")
METADATA = {"bundle": "toy", "modalities": ["T1"], "model_size": "micro"}


def plan_of(folder, resumed_from=None, **settings):
    """The attributes of a plan that a training reads."""
    values = {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), "iterations": "2 epochs"}
    options = Options(**values | {"save_interval": 3, "keep": 2, "batch_size": 2} | settings)
    facts = {"name": "toy", "settings": {**METADATA}, "resumed_from": resumed_from, "training_cases": 5}
    return SimpleNamespace(options=options, **facts)


def cases(count=5):
    """Four numbers, and a label."""
    return [
        {"subject": f"case{n}", "image": torch.arange(n, n + 4.0), "label": torch.tensor([4.0 * n])}
        for n in range(count)
    ]


def dataset(count=5):
    return CaseDataset(cases(count), Compose([RandGaussianNoised("image", prob=1.0)]))


class Training:
    """Two batches per step, three steps per epoch; `at_iteration` (number, action) acts when it starts.

    The validator's score is the next of `scores`, or 0.5.
    """

    def __init__(
        self,
        folder,
        max_epochs,
        scores=(),
        resume=False,
        lower_is_better=False,
        at_iteration=None,
        at_completion=None,
        network=None,
        **settings,
    ):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        self.network = network or nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.7)
        self.views = TwoViews(seed=1)
        self.losses, self.seen, self.drawn, self.scores = [], [], [], list(scores)
        validator = SupervisedEvaluator(
            device=CPU, val_data_loader=DataLoader(dataset(), batch_size=2), network=self.network, decollate=False
        )
        validator.add_event_handler(Events.EPOCH_COMPLETED, self.measure)
        plan = plan_of(folder, resumable(folder / "models", resume, METADATA), **settings)
        plan.options.make_folders()
        plan.length = SimpleNamespace(iterations=3 * max_epochs, epochs=2.4 * max_epochs)
        data, step = dataset(), Step()
        steps = Steps(DataLoader(data, batch_size=2, sampler=CaseSampler(data, seed=3)), accumulation_steps=2)
        best_metric, report = "score" if lower_is_better else None, Report("a.pt", ["x"])
        parts = (plan, self.network, optimizer, schedule, step, steps, validator, report)
        self.trainer = SupervisedTrainer(
            device=CPU,
            max_epochs=max_epochs,
            train_data_loader=steps,
            epoch_length=3,
            network=self.network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            prepare_batch=self.prepare,
            iteration_update=step,
            train_handlers=training_handlers(*parts, views=self.views, best_metric=best_metric),
            decollate=False,
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.look)
        if at_iteration:
            self.trainer.add_event_handler(Events.ITERATION_STARTED(once=at_iteration[0]), at_iteration[1])
        if at_completion:
            self.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=at_completion[0]), at_completion[1])
        self.trainer.run()

    def prepare(self, batch, device=None, non_blocking=False):
        self.seen += batch["subject"]
        self.drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
        self.views({"image": torch.zeros(1, 1, 4, 4, 4)})
        return batch["image"], batch["label"]

    def measure(self, engine):
        is_counted = self.scores and self.trainer.state.iteration > 0
        engine.state.metrics["score"] = self.scores.pop(0) if is_counted else 0.5
        engine.state.metrics_names = ["score"]
        engine.state.key_metric_name = "score"

    def look(self, trainer):
        self.losses.append(trainer.state.output["loss"].item())


def state_of(file):
    """A saved state without its record's times, which no two runs share."""
    content = torch.load(file, weights_only=True)
    record = content["record"]
    del record["seconds"], record["started"], record["train"]["seconds_per_step"]
    return content


def same(one, other):
    """Whether two states are equal to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
