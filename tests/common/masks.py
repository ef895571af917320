"""Pairs of small masks to score: noise of several densities, and balls that a prediction hits, misses and invents."""

import numpy as np

SPACINGS = [(1.0, 1.0, 1.0), (0.9375, 0.9375, 1.2), (0.5, 2.0, 3.25)]


def noise(seed):
    """From single voxels to nearly full volumes; sides from 1 to 11 voxels."""
    draw = np.random.default_rng(seed)
    shape = draw.integers(1, 12, size=3)
    return tuple(draw.random(shape) < draw.choice([0.0, 0.01, 0.03, 0.1, 0.3, 0.7, 1.0]) for _ in range(2))


def balls(seed):
    """Up to six in each mask, some of them in both, moved by a voxel or frayed; they may reach over the edge."""
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
    """True from a first to a last voxel, both inside; for each pair of corners."""
    mask = np.zeros(shape, dtype=bool)
    for first, last in corners:
        mask[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))] = True
    return mask
