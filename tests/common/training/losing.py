"""A training on two ranks whose second one is killed: `torchrun -m tests.common.training.losing`."""

import os
import signal

import torch
from ignite.engine import Engine

from common.errors import explain_lost_process, report_in_one_line
from common.training.distributed import Processes
from common.training.signals import StopRequest


def main() -> None:
    report_in_one_line(explain=explain_lost_process)
    processes = Processes(multi_gpu=True)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))

    def step(engine, batch):
        if processes.rank == 1 and engine.state.iteration == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        model(torch.ones(1, 2)).sum().backward()

    trainer = Engine(step)
    StopRequest().watch(trainer)
    trainer.run([0, 1, 2])


main()
