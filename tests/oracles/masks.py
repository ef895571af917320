"""Pairs of small masks to score: noise of several densities, and balls that are hit, missed or false."""

import numpy as np
import torch
from monai.data import MetaTensor

CUBIC = (1.0, 1.0, 1.0)
SHAPE = (24, 12, 12)
EMPTY = np.zeros(SHAPE, dtype=bool)
SPACINGS = [(1.0, 1.0, 1.0), (0.9375, 0.9375, 1.2), (0.5, 2.0, 3.25)]


def noise(seed):
    """A pair of noise masks, from empty to full; sides from 1 to 11 voxels."""
    draw = np.random.default_rng(seed)
    shape = draw.integers(1, 12, size=3)
    return tuple(draw.random(shape) < draw.choice([0.0, 0.01, 0.03, 0.1, 0.3, 0.7, 1.0]) for _ in range(2))


def balls(seed):
    """A pair of masks with up to six balls each; shared balls are shifted and frayed; the edge may cut balls."""
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(12, 20, size=3))
    both, missed, false = (ball(shape, draw, count) for count in draw.integers(0, 4, size=3))
    found = np.roll(both, draw.integers(-1, 2, size=3), axis=(0, 1, 2)) & (draw.random(shape) < 0.97)
    return found | false, both | missed


def ball(shape, draw, count):
    mask = np.zeros(shape, dtype=bool)
    for _ in range(count):
        centre, radius, stretch = draw.uniform(-1, shape), draw.uniform(0.5, 4), draw.uniform(0.6, 1.5, size=3)
        places = np.stack(np.indices(shape), axis=-1)
        mask |= (((places - centre) / stretch) ** 2).sum(axis=-1) <= radius**2
    return mask


def pairs(count):
    """(prediction, reference, spacing), half of them noise."""
    for seed in range(count):
        yield *(noise if seed % 2 else balls)(seed), SPACINGS[seed % len(SPACINGS)]


def box(shape, *corners):
    """A mask of boxes, each from its first to its last voxel inclusive."""
    mask = np.zeros(shape, dtype=bool)
    for first, last in corners:
        mask[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))] = True
    return mask


def cube(first, edge=4):
    """A cube that starts at a voxel along x."""
    return box(SHAPE, [(first, 4, 4), (first + edge - 1, 3 + edge, 3 + edge)])


KINDS = {  # conversions of a boolean array to other types and memory layouts
    "uint8": lambda mask: mask.astype(np.uint8),
    "view": lambda mask: np.repeat(mask.astype(np.uint8), 2, axis=1)[:, ::2],
    "bfloat16": lambda mask: torch.from_numpy(mask).to(torch.bfloat16),
    "strided tensor": lambda mask: torch.from_numpy(np.ascontiguousarray(mask.T)).permute(2, 1, 0),
    "MetaTensor": lambda mask: MetaTensor(torch.from_numpy(mask).float()),
}
