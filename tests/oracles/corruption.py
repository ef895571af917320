"""Inner cut-out as the method's description says it, one box after the other."""

import math
import random


def drop(sides, draw: random.Random):
    """Boxes (start, edges) until the share that was drawn is reached, overlaps counted twice."""
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
    """Where a box (start, edges) is in [C, x, y, z]."""
    return (slice(None), *(slice(first, first + edge) for first, edge in zip(*box, strict=True)))


def corrupted(crops, dropped, noise, partners, swapped):
    """Crops [B, C, x, y, z] with noise in the boxes `dropped` of each, then with the partners' places `swapped`.

    `noise` is what was drawn, by number of the crop and box. The partner's place is taken as it was before any swap.
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
