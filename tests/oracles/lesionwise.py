"""Lesion-wise scores on whole volumes, step by step as the challenges define them; see `common.metrics`."""

import numpy as np
from scipy import ndimage

from tests.oracles.surfaces import hd95
from tests.oracles.volumes import dice

FACES = ndimage.generate_binary_structure(3, 1)  # 6 neighbours
EDGES = ndimage.generate_binary_structure(3, 2)  # 18 neighbours
CORNERS = np.ones((3, 3, 3))  # 26 neighbours

CHALLENGES = {"GLI": (3, 50), "SSA": (3, 50), "PED": (3, 50), "MEN": (1, 50), "MET": (1, 2)}


def components(mask, structure):
    labels, count = ndimage.label(mask, structure)
    return [labels == label for label in range(1, count + 1)]


def dilated(mask, times):
    # for SciPy, 0 iterations mean until nothing changes
    return ndimage.binary_dilation(mask, EDGES, iterations=times) if times else mask


def lesions(prediction, reference, spacing, structure, dilations=0, smallest=0, penalty=np.inf):
    """Rows (reference?, mm3, centre, scored?, found?, Dice, HD95): lesions, then false components; by size."""
    predicted = components(prediction, structure)
    voxel = np.prod(spacing)
    hit, rows = set(), []
    for extent in components(dilated(reference, dilations), structure):
        lesion = extent & reference
        zone = dilated(lesion, dilations)
        matches = [number for number, component in enumerate(predicted) if (component & zone).any()]
        scores = (0.0, penalty)
        if matches:
            together = np.any([predicted[number] for number in matches], axis=0)
            scores = dice(together, lesion), hd95(together, lesion, spacing)
        hit.update(matches)
        volume = lesion.sum() * voxel
        rows.append((True, volume, centre(lesion), volume > smallest, bool(matches), *scores))
    false = [
        (False, component.sum() * voxel, centre(component), True, False, 0.0, penalty)
        for number, component in enumerate(predicted)
        if number not in hit
    ]
    return [*by_size(rows), *by_size(false)]


def centre(mask):
    return tuple(round(float(places.mean())) for places in np.nonzero(mask))


def by_size(rows):
    return sorted(rows, key=lambda row: (-row[1], row[2]))


def brats(prediction, reference, spacing, challenge):
    """The figures, and the rows of `lesions`."""
    dilations, smallest = CHALLENGES[challenge]
    rows = lesions(prediction, reference, spacing, CORNERS, dilations, smallest, penalty=374)
    kept = [row for row in rows if row[0] and row[1] > smallest]
    false = [row for row in rows if not row[0]]
    distance = hd95(prediction, reference, spacing)
    figures = {
        "lesionwise_dice": 1.0,
        "lesionwise_hd95": 0.0,
        "dice": dice(prediction, reference),
        "hd95": 374 if distance == np.inf else distance,
    }
    if kept or false:
        figures["lesionwise_dice"] = sum(row[5] for row in kept) / (len(kept) + len(false))
        total = sum(row[6] for row in kept) + 374 * len(false)
        figures["lesionwise_hd95"] = total / (len(kept) + len(false))
    return figures, rows


def atlas(prediction, reference, spacing):
    """The figures, and the rows of `lesions`; the volume difference is in voxels."""
    figures = by_components(prediction, reference, FACES)
    figures["volume_difference"] = differing(prediction, reference)
    return figures, lesions(prediction, reference, spacing, FACES)


def isles(prediction, reference, spacing):
    """The figures, and the rows of `lesions`; the volume difference is in ml."""
    figures = by_components(prediction, reference, CORNERS)
    figures["volume_difference"] = differing(prediction, reference) * np.prod(spacing) / 1000
    return figures, lesions(prediction, reference, spacing, CORNERS)


def by_components(prediction, reference, structure):
    predicted, true = components(prediction, structure), components(reference, structure)
    tp = sum(1 for component in true if (component & prediction).any())
    fn = sum(1 for component in true if not (component & prediction).any())
    fp = sum(1 for component in predicted if not (component & reference).any())
    return {
        "dice": dice(prediction, reference),
        "lesion_f1": tp / (tp + (fp + fn) / 2) if predicted or true else 1.0,
        "lesion_count_difference": abs(len(predicted) - len(true)),
    }


def differing(prediction, reference):
    return abs(sum(prediction.ravel().tolist()) - sum(reference.ravel().tolist()))


def assert_same(lesions, rows):
    """Check scored lesions against the rows of `lesions`."""
    actual = [
        (lesion.is_reference, lesion.volume, lesion.centre, lesion.is_scored, lesion.is_found, lesion.dice, lesion.hd95)
        for lesion in lesions
    ]
    assert [(row[0], *row[2:5]) for row in actual] == [(row[0], *row[2:5]) for row in rows]
    for column in (1, 5, 6):
        np.testing.assert_allclose([row[column] for row in actual], [row[column] for row in rows], rtol=0, atol=1e-6)
