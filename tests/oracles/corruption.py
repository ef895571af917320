"""Inner cut-out as the method describes it, box by box."""

import math
import random


def drop(sides, draw: random.Random):
    """Draw boxes (start, edges) until they reach a random share of the crop, overlaps counted twice."""
    target = draw.uniform(0, 0.3) * math.prod(sides)
    dropped, covered = [], 0
    while covered < target:
        start, edges = [], []
        for side in sides:
            first = draw.randrange(0, side - int(0.05 * side))
            end = min(first + draw.randrange(int(0.05 * side), int(0.25 * side)), side)
            start.append(first)
            edges.append(end - first)
        dropped.append((tuple(start), tuple(edges)))
        covered += math.prod(edges)
    return dropped


def inside(box):
    """Index of a box (start, edges) in [C, x, y, z]."""
    return (slice(None), *(slice(first, first + edge) for first, edge in zip(*box, strict=True)))


def shares(noise, dropped):
    """Split noise [C, voxels of all boxes], crop by crop in the order of dropping, into {(crop, box): [C, *edges]}."""
    split, first = {}, 0
    for number, of_crop in enumerate(dropped):
        for box in of_crop:
            voxels = math.prod(box[1])
            split[number, box] = noise[:, first : first + voxels].reshape(len(noise), *box[1])
            first += voxels
    assert first == noise.shape[1]
    assert len(split) == sum(map(len, dropped))  # no box was dropped twice on one crop
    return split


def corrupted(crops, dropped, noise, partners, swapped):
    """Put noise into the boxes `dropped` of crops [B, C, x, y, z], then copy the boxes `swapped` from partners.

    `noise` maps (number of the crop, box) to [C, *edges]. Partners are copied as they were before any swap.
    """
    noisy = crops.copy()
    for number, clean in enumerate(crops):
        for box in dropped[number]:
            drawn = noise[number, box]
            lowest, highest = drawn.min(), drawn.max()
            for channel in range(len(clean)):
                low, high = clean[channel].min(), clean[channel].max()
                place = (channel, *inside(box)[1:])
                noisy[number][place] = low + (drawn[channel] - lowest) / (highest - lowest) * (high - low)
    result = noisy.copy()
    for number, partner in enumerate(partners):
        if partner != number:
            for box in swapped[number]:
                result[number][inside(box)] = noisy[partner][inside(box)]
    return result
