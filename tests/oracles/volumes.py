"""Turns, boxes and overlaps of volumes, voxel by voxel or box by box."""

import random

import numpy as np


def quarter_turn(volume, turns):
    """[x, y, z] turned `turns` times by 90 degrees about z, from the x axis towards the y axis."""
    size = len(volume)
    for _ in range(turns):
        turned = np.empty_like(volume)
        for x in range(size):
            for y in range(size):
                # a voxel at (x, y) from the middle goes to (-y, x)
                turned[size - 1 - y, x] = volume[x, y]
        volume = turned
    return volume


def drop_boxes(sides, draw: random.Random):
    """The mask of boxes as the method describes them: dropped one by one until the share that was drawn is reached."""
    mask = np.zeros(sides, dtype=bool)
    target = draw.uniform(0, 0.3) * mask.size
    dropped = 0
    while dropped < target:
        place = []
        for side in sides:
            edge = draw.randint(int(0.05 * side), int(0.25 * side) - 1)
            start = draw.randint(0, side - int(0.05 * side) - 1)
            place.append(slice(start, min(start + edge, side)))
        mask[tuple(place)] = True
        dropped += int(np.prod([along.stop - along.start for along in place]))
    return mask


def dice(prediction, reference):
    """2 |A and B| / (|A| + |B|) over voxels; 1 where both are empty."""
    both = sum(1 for p, r in zip(prediction.flat, reference.flat, strict=True) if p and r)
    total = sum(1 for p in prediction.flat if p) + sum(1 for r in reference.flat if r)
    return 1.0 if total == 0 else 2 * both / total
