"""MR scans of the embedded cohort: signal equations, contrast agent, receive field, noise, scanner units."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.phantoms.anatomy import Head

RELAXIVITY = 4.5  # 1 / (mM s); gadolinium chelates in blood at 3 T (Rohrer et al., Invest Radiol 2005)


class Tissue(NamedTuple):
    """Proton density (water = 1), relaxation times (ms), and uptake of contrast agent (enhancing tumour = 1)."""

    density: float
    t1: float
    t2: float
    uptake: float = 0.0


class Sequence(NamedTuple):
    """Repetition, echo and inversion times in ms; no inversion time: spin echo; `enhanced`: with contrast agent."""

    repetition: float
    echo: float
    inversion: float | None = None
    enhanced: bool = False


# Healthy brain at 3 T: Wansapura et al., J Magn Reson Imaging 1999 (grey and white matter); fluid, fat, muscle and
# blood: Stanisz et al., Magn Reson Med 2005, and textbook values.
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
    """Return a tissue's signal relative to water's (Bernstein et al., Handbook of MRI Pulse Sequences, 2004)."""
    rate = 1 / tissue.t1 + RELAXIVITY * agent * tissue.uptake * sequence.enhanced / 1000  # 1/ms
    recovery = 1 - np.exp(-sequence.repetition * rate)
    if sequence.inversion is not None:
        recovery += 2 * (np.exp(-sequence.repetition * rate) - np.exp(-sequence.inversion * rate))
    return float(tissue.density * abs(recovery) * np.exp(-sequence.echo / tissue.t2))


def scan(rng: Generator, head: Head, sequence: Sequence, agent: float) -> NDArray[np.float32]:
    """Return a scan of a head, [x, y, z], in arbitrary units, with Rician noise; `agent` in enhancing tumour, mM."""
    times = {name: getattr(sequence, name) for name in ("repetition", "echo", "inversion")}
    used = sequence._replace(**{name: time and time * rng.normal(1, 0.03) for name, time in times.items()})
    image = sum(np.float32(signal(TISSUES[name], used, agent)) * share for name, share in head.fractions.items())
    image = image * np.exp(0.12 * head.field(rng, 90.0) + 0.02 * head.field(rng, 10.0))
    white = signal(TISSUES["WM"], used, agent)
    noise = np.float32(white * rng.uniform(0.02, 0.04)) * rng.standard_normal((2, len(image)), dtype=np.float32)
    volume = np.zeros(head.grid.shape, np.float32)
    volume[head.inside] = np.hypot(image + noise[0], noise[1]) * np.float32(rng.uniform(300, 900) / white)
    return volume
