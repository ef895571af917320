"""One thread a test process: the networks here are too small to gain from more."""

import torch

torch.set_num_threads(1)
