"""Turns and overlaps of volumes, voxel by voxel."""

import numpy as np


def quarter_turn(volume, turns):
    """[x, y, z] turned `turns` times by 90 degrees about z, from the x axis towards the y axis."""
    size = len(volume)
    for _ in range(turns):
        turned = np.empty_like(volume)
        for x in range(size):
            for y in range(size):
                # relative to the centre, (x, y) moves to (-y, x)
                turned[size - 1 - y, x] = volume[x, y]
        volume = turned
    return volume


def dice(prediction, reference):
    """2 |A and B| / (|A| + |B|) over voxels; 1 if both are empty."""
    both = sum(1 for p, r in zip(prediction.flat, reference.flat, strict=True) if p and r)
    total = sum(1 for p in prediction.flat if p) + sum(1 for r in reference.flat if r)
    return 1.0 if total == 0 else 2 * both / total
