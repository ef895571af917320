"""A data set of random predictions and references, as an evaluator reads one."""

import numpy as np
import torch
from monai.data import Dataset, MetaTensor


class RandomCases(Dataset):
    """`count` cases of [3, 4, 4, 4], voxels of 2 mm."""

    def __init__(self, count):
        drawn = np.random.default_rng(0).random((2, count, 3, 4, 4, 4)) < 0.4
        self.predictions, self.references = drawn

    def __len__(self):
        return len(self.predictions)

    def __getitem__(self, index):
        image, label = (torch.as_tensor(part[index]).float() for part in (self.predictions, self.references))
        return {"image": image, "label": MetaTensor(label, affine=2 * torch.eye(4)), "subject": f"case{index}"}
