"""Scanners of the difficult cohort, which vary more than those of `mr_signal.scan`.

The ranges are our choice around published values: thick slices and protocols as in clinical archives, receive fields up
to the 40 % of BrainWeb (Collins et al., IEEE Trans Med Imaging 1998), Rician noise (Gudbjartsson and Patz, Magn Reson
Med 1995).
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.phantoms.anatomy import Head
from scripts.phantoms.mr_signal import TISSUES, Sequence, signal, vary

SNR = (10.0, 40.0)  # of white matter, log-uniform
GAMMA = (0.7, 1.4)  # exponent of the signal relative to white matter, log-uniform
FIELD = (0.05, 0.3)  # standard deviation of the logarithm of the receive field
SMOOTHING = (0.0, 2.0)  # mm; full width at half maximum in all directions
SLICE = (1.0, 5.0)  # mm; full width at half maximum across slices, along one of the axes
WIDTH_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))  # of a Gaussian


@dataclass(frozen=True)
class Scanner:
    """A scanner and its protocol, within the ranges above; `axis` is the slice direction."""

    snr: float
    gamma: float
    field: float
    smoothing: float
    slice_width: float
    axis: int


def draw_scanner(rng: Generator) -> Scanner:
    """A random scanner; half of them have axial slices (axis 2)."""
    return Scanner(
        snr=float(np.exp(rng.uniform(*np.log(SNR)))),
        gamma=float(np.exp(rng.uniform(*np.log(GAMMA)))),
        field=rng.uniform(*FIELD),
        smoothing=rng.uniform(*SMOOTHING),
        slice_width=rng.uniform(*SLICE),
        axis=int(rng.choice(3, p=(0.25, 0.25, 0.5))),
    )


def scan_on(rng: Generator, head: Head, sequence: Sequence, agent: float, scanner: Scanner) -> NDArray[np.float32]:
    """Scan a head, [x, y, z], in arbitrary units; zero outside the head. `agent` is contrast agent in tumour, mM.

    Applies signal, contrast (gamma), blur, receive field and Rician noise in this order. White matter is scaled to
    300-900, and sequence times vary by 3 %.
    """
    used = vary(rng, sequence)
    white = signal(TISSUES["WM"], used, agent)
    image = np.zeros(head.depth.shape, np.float32)
    for name, share in head.fractions.items():
        image += np.float32(signal(TISSUES[name], used, agent) / white) * share
    image = np.clip(image, 0, None) ** np.float32(scanner.gamma) * np.exp(0.02 * head.field(rng, 10.0))
    image = _blur(image, head, scanner) * np.exp(np.float32(scanner.field) * head.field(rng, 90.0))
    noise = rng.standard_normal((2, len(image)), dtype=np.float32) / np.float32(scanner.snr)
    volume = np.zeros(head.grid.shape, np.float32)
    volume[head.inside] = np.hypot(image + noise[0], noise[1]) * np.float32(rng.uniform(300, 900))
    return volume


def _blur(image: NDArray[np.float32], head: Head, scanner: Scanner) -> NDArray[np.float32]:
    """Blur, averaging only over the head's voxels, so that a skull-stripped brain does not darken at its edge."""
    from scipy import ndimage  # slow import; `--help` does without

    widths = np.full(3, scanner.smoothing)
    widths[scanner.axis] = np.hypot(scanner.smoothing, scanner.slice_width)
    sigma = widths * WIDTH_TO_SIGMA / head.grid.spacing  # voxels
    volume = np.zeros((2, *head.grid.shape), np.float32)
    volume[:, head.inside] = image, np.ones_like(image)
    total, weight = (ndimage.gaussian_filter(each, sigma)[head.inside] for each in volume)
    return np.asarray(total / weight, np.float32)
