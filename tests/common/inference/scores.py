"""Hand-made scores of two cases, as NumPy's numbers where the measures give them."""

import math

import numpy as np

from common.metrics import Scores, protocol
from common.metrics.lesions import Lesion

BRATS, ATLAS = protocol("brats", "MET"), protocol("atlas")


def lesion(is_reference=True, volume=8.0, is_scored=True, is_found=True, dice=0.5, hd95=1.5, centre=(1, 2, 3)):
    return Lesion(is_reference, volume, centre, is_scored, is_found, dice, hd95)


def atlas_scores(dice, *lesions, volumes=(0.0, 0.0)):
    values = {"dice": dice, "lesion_f1": 1.0, "lesion_count_difference": 0.0, "volume_difference": 12.0}
    return {"lesion": Scores(values, lesions, volumes)}


FIRST = lesion(volume=np.float64(0.1), dice=np.float64(0.75), hd95=np.float64(2))
LAST = lesion(is_found=False, hd95=math.inf, centre=(0, 0, 9))
CASES = {"b": atlas_scores(np.float64(0.25), FIRST, lesion(False)), "a": atlas_scores(1.0, LAST, volumes=(1 / 3, 2.5))}
