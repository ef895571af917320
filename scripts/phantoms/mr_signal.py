"""MR scans of the embedded cohort: signal equations, contrast agent, receive field, noise, scanner units."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.phantoms.anatomy import Head

RELAXIVITY = 4.5  # 1 / (mM s); gadolinium chelates in blood at 3 T (Rohrer et al., Invest Radiol 2005)

# Scanners of the medium cohort. Our choice around published values: thick slices as in clinical archives, receive
# fields up to the 40 % of BrainWeb (Collins et al., IEEE Trans Med Imaging 1998), Rician noise (Gudbjartsson and Patz,
# Magn Reson Med 1995).
SNR = (10.0, 40.0)  # of white matter, log-uniform
GAMMA = (0.7, 1.4)  # exponent of the signal relative to white matter, log-uniform
FIELD = (0.05, 0.3)  # standard deviation of the logarithm of the receive field
SMOOTHING = (0.0, 2.0)  # mm; full width at half maximum in all directions
SLICE = (1.0, 5.0)  # mm; full width at half maximum across slices, along one of the axes
WIDTH_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))  # full width at half maximum to sigma of a Gaussian


@dataclass(frozen=True)
class Tissue:
    """Proton density (water = 1), relaxation times (ms), and uptake of contrast agent (enhancing tumour = 1)."""

    density: float
    t1: float
    t2: float
    uptake: float = 0.0


@dataclass(frozen=True)
class Sequence:
    """Repetition, echo and inversion times in ms; no inversion time: spin echo; `enhanced`: with contrast agent."""

    repetition: float
    echo: float
    inversion: float | None = None
    enhanced: bool = False


# Healthy brain at 3 T: Wansapura et al., J Magn Reson Imaging 1999 (grey and white matter); fluid, fat, muscle and
# blood: Stanisz et al., Magn Reson Med 2005, and textbook values. PVS: perivascular space, which holds fluid.
# Lesions: our choice, in the radiological order from white matter to free water.
TISSUES = {
    "GM": Tissue(0.82, 1331, 110, 0.04),
    "WM": Tissue(0.70, 832, 80, 0.02),
    "CSF": Tissue(1.00, 4200, 2000),
    "WMH": Tissue(0.82, 1300, 145),
    "NCR": Tissue(0.95, 2900, 380, 0.05),
    "ED": Tissue(0.88, 1550, 165, 0.03),
    "ET": Tissue(0.86, 1450, 125, 1.0),
    "cavity": Tissue(0.98, 3700, 1200),
    "gliosis": Tissue(0.88, 2100, 190),
    "PVS": Tissue(1.00, 4200, 2000),
    "vessel": Tissue(0.85, 1932, 275, 1.5),
    "fat": Tissue(0.55, 380, 70),
    "muscle": Tissue(0.75, 1400, 45, 0.1),
    "bone": Tissue(0.06, 1000, 10),
    "air": Tissue(0.0, 1000, 10),
}
# Typical 3 T protocols: inversion-prepared T1 (as MPRAGE), turbo spin echo T2, FLAIR that nulls fluid.
SEQUENCES = {
    "T1": Sequence(2300, 3, 1100),
    "T1ce": Sequence(2300, 3, 1100, enhanced=True),
    "T2": Sequence(5000, 90),
    "FLAIR": Sequence(9000, 110, 2500),
}


def signal(tissue: Tissue, sequence: Sequence, agent: float = 0.0) -> float:
    """Return the magnitude of a tissue's signal, relative to fully relaxed water; `agent` is contrast agent, mM.

    Spin echo: density (1 - exp(-TR/T1)) exp(-TE/T2); after an inversion: density |1 - 2 exp(-TI/T1) + exp(-TR/T1)|
    exp(-TE/T2) (Bernstein et al., Handbook of MRI Pulse Sequences, 2004).
    """
    rate = 1 / tissue.t1 + RELAXIVITY * agent * tissue.uptake * sequence.enhanced / 1000  # 1/ms
    recovery = 1 - np.exp(-sequence.repetition * rate)
    if sequence.inversion is not None:
        recovery += 2 * (np.exp(-sequence.repetition * rate) - np.exp(-sequence.inversion * rate))
    return float(tissue.density * abs(recovery) * np.exp(-sequence.echo / tissue.t2))


def vary(rng: Generator, sequence: Sequence) -> Sequence:
    """Return a pulse sequence with a random error of 3 % (SD) in repetition, echo and inversion time."""
    return replace(
        sequence,
        repetition=sequence.repetition * rng.normal(1, 0.03),
        echo=sequence.echo * rng.normal(1, 0.03),
        inversion=sequence.inversion and sequence.inversion * rng.normal(1, 0.03),
    )


def scan(rng: Generator, head: Head, sequence: Sequence, agent: float) -> NDArray[np.float32]:
    """Return a scan of a head, [x, y, z], in arbitrary units; zero outside the head.

    `agent` is the concentration of contrast agent in enhancing tumour, mM. Sequence times vary by 3 %, the receive
    field by 12 % over 90 mm, tissue texture by 2 %. Rician noise is 2-4 % of white matter, which is scaled to 300-900.
    """
    used = vary(rng, sequence)
    image = sum(np.float32(signal(TISSUES[name], used, agent)) * share for name, share in head.fractions.items())
    image = image * np.exp(0.12 * head.field(rng, 90.0) + 0.02 * head.field(rng, 10.0))
    white = signal(TISSUES["WM"], used, agent)
    noise = np.float32(white * rng.uniform(0.02, 0.04)) * rng.standard_normal((2, len(image)), dtype=np.float32)
    volume = np.zeros(head.grid.shape, np.float32)
    volume[head.inside] = np.hypot(image + noise[0], noise[1]) * np.float32(rng.uniform(300, 900) / white)
    return volume


@dataclass(frozen=True)
class Scanner:
    """A scanner's noise, contrast, receive field and resolution (mm); slices are stacked along `axis`."""

    snr: float
    gamma: float
    field: float
    smoothing: float
    slice_width: float
    axis: int


def draw_scanner(rng: Generator) -> Scanner:
    """Draw a random scanner, with axial slices (axis 2) in half of the draws."""
    return Scanner(
        snr=float(np.exp(rng.uniform(*np.log(SNR)))),
        gamma=float(np.exp(rng.uniform(*np.log(GAMMA)))),
        field=rng.uniform(*FIELD),
        smoothing=rng.uniform(*SMOOTHING),
        slice_width=rng.uniform(*SLICE),
        axis=int(rng.choice(3, p=(0.25, 0.25, 0.5))),
    )


def scan_on(rng: Generator, head: Head, sequence: Sequence, agent: float, scanner: Scanner) -> NDArray[np.float32]:
    """Return a scan by a given scanner; shape, units and `agent` as in `scan`.

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
    """Return the image blurred within the head alone, so that a skull-stripped brain does not darken at its edge."""
    from scipy import ndimage  # slow import; `--help` does without

    widths = np.full(3, scanner.smoothing)
    widths[scanner.axis] = np.hypot(scanner.smoothing, scanner.slice_width)
    sigma = widths * WIDTH_TO_SIGMA / head.grid.spacing  # voxels
    volume = np.zeros((2, *head.grid.shape), np.float32)
    volume[:, head.inside] = image, np.ones_like(image)
    total, weight = (ndimage.gaussian_filter(array, sigma)[head.inside] for array in volume)
    return np.asarray(total / weight, np.float32)
