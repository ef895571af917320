"""Mean Dice over cases, as the public trainers and MONAI count it."""

import numpy as np
import torch
from monai.metrics import DiceMetric


def of_all(predictions, references):
    """MONAI's mean by region of [case, region, x, y, z]; a case without the region gives 1 or 0."""
    return _metric(predictions, references, ignore_empty=False)[0]


def of_present(predictions, references):
    """MONAI's mean by region over the cases that have it, and their number; 0 if none has it."""
    return _metric(predictions, references, ignore_empty=True)


def of_public_trainers(predictions, references):
    """The running mean of SwinUNETR's trainer for BraTS 2021: case by case, weighted by the number of valid values."""
    total, count = np.zeros(predictions.shape[1]), np.zeros(predictions.shape[1])
    for prediction, reference in zip(predictions, references, strict=True):
        figures, valid = of_present(prediction[None], reference[None])
        total, count = total + figures * valid, count + valid
    return np.where(count > 0, total / np.maximum(count, 1), 0)


def _metric(predictions, references, ignore_empty):
    metric = DiceMetric(reduction="mean_batch", get_not_nans=True, ignore_empty=ignore_empty)
    metric(y_pred=torch.as_tensor(predictions).float(), y=torch.as_tensor(references).float())
    means, valid = metric.aggregate()
    return means.double().numpy(), valid.numpy()
