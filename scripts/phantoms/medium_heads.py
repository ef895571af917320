"""Heads of the medium cohort: tumours of all sizes, mimics (structures that resemble lesions) and atrophy.

A lesion's label covers the voxels inside its outline; mimics stay `CLEARANCE` away from outlines. A lesion's contrast,
from 0 (isointense) to 1, is the share of lesion tissue in the signal; the tissue that it replaces gives the rest. The
contrast varies by lesion and modality.

Sources: BraTS-METS 2023 has 3,076 tumours in 402 public studies (Moawad et al., arXiv:2306.00838); perivascular spaces
are mostly narrower than 3 mm (STRIVE; Wardlaw et al., Lancet Neurol 2013). Values without a source are our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.phantoms.anatomy import (
    ENHANCING,
    NECROSIS,
    OEDEMA,
    VENTRICLES,
    Array,
    Head,
    PhantomGrid,
    Swelling,
    hyperintensities,
    make_head,
    random_axes,
    seed_points,
)

MEDIAN, SPREAD, LEAST, MOST = 6.0, 1.0, 0.5, 60.0  # cm3; log-normal volumes of tumours, clipped
CONTRAST = (0.6, 1.0)  # uniform
LESIONS = (2, 3.0, 9)  # per subject: minimum, Poisson mean of additional lesions, maximum
ISOINTENSE = 0.35  # fraction of lesions that are faint in one of several modalities
FAINT = (0.0, 0.15)  # contrast in that modality, uniform
CLEARANCE = 1.0  # mm between lesions and mimics
FAR = 1000.0  # mm; effectively infinite


@dataclass(frozen=True)
class _Tubes:
    """Curved tubes: ranges of their number, radius (mm) and length (mm)."""

    count: tuple[int, int]
    radius: tuple[float, float]
    length: tuple[float, float]


SPACES = _Tubes((10, 60), (0.6, 1.5), (4.0, 15.0))
VESSELS = _Tubes((10, 40), (0.7, 1.6), (15.0, 45.0))


@dataclass
class MediumHead:
    """A head with lesions, and their visibility in each modality."""

    head: Head  # with lesions at full contrast, once `shares` are added
    contrast: dict[str, Array]  # modality -> contrast (0 to 1) of the lesion in each voxel
    clearance: Array  # mm to the nearest outline, [voxels]
    shares: dict[str, Array] = field(default_factory=dict)  # tissue fractions of the lesions, to add in this order
    host: dict[str, Array] = field(default_factory=dict)  # tissue fractions without lesions

    def seen_by(self, modality: str) -> Head:
        """Return the head as this modality shows it: lesions mixed with the replaced tissue by their contrast."""
        shown = self.contrast[modality]
        fractions = {
            name: share * shown + self.host.get(name, np.float32(0)) * (1 - shown)
            for name, share in self.head.fractions.items()
        }
        return replace(self.head, fractions=fractions)


def make_medium_head(
    rng: Generator, grid: PhantomGrid, skull_stripped: bool, modalities: Sequence[str], has_tumours: bool
) -> MediumHead:
    """Return a head of random age with mimics and, with `has_tumours`, tumours (labels 1, 2 and 4)."""
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), rng.uniform(-0.1, 0.45))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    _widen_sulci(head, rng.uniform(0, 0.8))
    size = len(head.depth)
    contrast = {name: np.ones(size, np.float32) for name in modalities}
    medium = MediumHead(head, contrast, np.full(size, FAR, dtype=np.float32))
    if has_tumours:
        _place_tumours(rng, medium)
    _add_mimics(rng, head, medium.clearance)
    medium.host = dict(head.fractions)
    for tissue, share in medium.shares.items():
        head.replace(tissue, share)
    return medium


def _widen_sulci(head: Head, atrophy: float) -> None:
    """Replace up to `atrophy` (0 to 1) of the tissue in voxels with partial fluid by fluid."""
    fluid = head.fractions["CSF"]
    head.replace("CSF", np.float32(atrophy) * 4 * fluid * np.clip(1 - fluid, 0, 1) * (head.depth > 0))


def _place_tumours(rng: Generator, lesions: MediumHead) -> None:
    """Draw tumours, the largest first and apart from each other; skip a tumour if there is no room."""
    least, beyond, most = LESIONS
    spacing = lesions.head.grid.spacing
    drawn = np.exp(rng.normal(np.log(MEDIAN), SPREAD, min(least + rng.poisson(beyond), most)))
    volumes = np.sort(np.clip(drawn, LEAST, MOST))[::-1]  # cm3
    radii = np.cbrt(3 * volumes * 1000 / (4 * np.pi))  # mm
    candidates = seed_points(rng, spacing, 20 * len(volumes), (6, 60), white=False)
    taken: list[tuple[Array, float]] = []
    for volume, radius in zip(volumes, radii, strict=True):
        free = [
            point
            for point in candidates
            if all(np.linalg.norm(point - centre) > 1.7 * (radius + size) + 2 * spacing for centre, size in taken)
        ]
        if free:
            taken.append((free[0], radius))
            _draw_tumour(rng, lesions, free[0], float(volume), float(radius))


def _outline(rng: Generator, lesions: MediumHead, centre: Array, reach: float) -> tuple[NDArray[np.intp], Array]:
    """Return the indices of the voxels within `reach` mm of `centre`, and their distances from it in mm.

    The distances are distorted, so that lesions become irregular.
    """
    axes, head = random_axes(rng, 0.2), lesions.head
    offset = head.positions - centre[:, None]
    near = np.flatnonzero(np.sum(offset**2, axis=0) < reach**2)
    distance = np.sqrt(np.sum((axes @ offset[:, near]) ** 2, axis=0))
    rough = np.float32(0.2) * _waves(rng, head.positions[:, near], max(reach / 2, 6.0))
    fluid = head.fractions["CSF"][near]
    outside = 30 * head.soft(-head.depth[near]) + np.where(lesions.clearance[near] < 2 * head.grid.spacing, FAR, 0)
    return near, np.asarray(distance * np.exp(rough) * (1 + 0.6 * fluid) + outside, np.float32)


def _waves(rng: Generator, positions: Array, scale: float) -> Array:
    """Return a random field of standard deviation 1 from six plane waves, mostly longer than `scale` mm."""
    directions = rng.normal(0, 2.0 / scale, (6, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (6, 1)).astype(np.float32)
    return np.sum(np.sin(directions @ positions + phases), axis=0) / np.float32(np.sqrt(3))


def _enclosing(radius: Array, volume: float, spacing: float) -> float:
    """Return the level of the distance map `radius` (mm) that encloses `volume` (cm3), at least one voxel."""
    count = min(max(round(volume * 1000 / spacing**3), 1), len(radius) - 1)
    return float(np.mean(np.partition(radius, (count - 1, count))[count - 1 : count + 1]))


def _add_share(lesions: MediumHead, tissue: str, near: NDArray[np.intp], share: Array) -> None:
    shares = lesions.shares.setdefault(tissue, np.zeros(len(lesions.head.depth), np.float32))
    shares[near] = np.maximum(shares[near], share)


def _finish(rng: Generator, lesions: MediumHead, near: NDArray[np.intp], from_outline: Array) -> None:
    """Record a lesion's clearance, and its contrast per modality; `from_outline` is in mm, positive outside."""
    lesions.clearance[near] = np.minimum(lesions.clearance[near], from_outline)
    body = near[from_outline < lesions.head.grid.spacing]
    overall = rng.uniform(*CONTRAST)
    shown = {name: np.clip(overall * rng.normal(1, 0.1), 0, 1) for name in lesions.contrast}
    if len(shown) > 1 and rng.random() < ISOINTENSE:
        shown[str(rng.choice(list(shown)))] = rng.uniform(*FAINT)
    for name, value in shown.items():
        lesions.contrast[name][body] = value


def _draw_tumour(rng: Generator, lesions: MediumHead, centre: Array, volume: float, size: float) -> None:
    """Draw a tumour of `volume` (cm3) with oedema; 0.25-0.7 of it is the enhancing core, necrotic inside if large."""
    head, spacing = lesions.head, lesions.head.grid.spacing
    near, radius = _outline(rng, lesions, centre, 3 * size + 4 * spacing)
    core = _enclosing(radius, volume * rng.uniform(0.25, 0.7), spacing)
    rim = min(rng.uniform(1.5, 4), 0.6 * core)  # mm
    spread: Array = radius * (1 + np.float32(0.4) * head.fractions["GM"][near])
    spread[radius < core] = 0
    far = _enclosing(spread, volume, spacing)
    _add_share(lesions, "ED", near, head.soft(far - spread) * np.float32(0.9))
    _add_share(lesions, "ET", near, head.soft(core - radius) * np.float32(0.9))
    head.labels[near[spread < far]] = OEDEMA
    head.labels[near[radius < core]] = ENHANCING
    if core > 2 * spacing or core > 3:  # mm; a smaller core is solid
        _add_share(lesions, "NCR", near, head.soft(core - rim - radius))
        head.labels[near[radius < core - rim]] = NECROSIS
    _finish(rng, lesions, near, np.minimum(spread - far, radius - core))


def _add_mimics(rng: Generator, head: Head, clearance: Array) -> None:
    """Add white-matter hyperintensities, perivascular spaces and vessels, away from lesions."""
    away = ((head.labels == 0) & (clearance > CLEARANCE)).astype(np.float32)
    head.replace("WMH", hyperintensities(rng, head, rng.uniform(0.2, 1.2)) * away)
    for tissue, tubes, depth, white in (("PVS", SPACES, (12, 60), True), ("vessel", VESSELS, (0, 30), False)):
        count = int(rng.integers(*tubes.count, endpoint=True))
        starts = seed_points(rng, head.grid.spacing, count, depth, white)
        head.replace(tissue, _tubes(rng, head, starts, tubes) * away * head.soft(head.depth))


def _tubes(rng: Generator, head: Head, starts: Array, tubes: _Tubes) -> Array:
    """Return the fraction (0 to 1) of each voxel inside curved tubes that begin at `starts` (mm, [tubes, 3])."""
    from scipy.spatial import KDTree  # imported late to keep `--help` fast

    points, radii = [], []
    for start in starts:
        length, radius = rng.uniform(*tubes.length), rng.uniform(*tubes.radius)
        along, bend = (vector / np.linalg.norm(vector) for vector in rng.normal(0, 1, (2, 3)))
        run = np.arange(0.0, length, 0.5)[:, None]  # mm
        points.append(start + run * along + run**2 / (2 * length) * bend)
        radii.append(np.full(len(run), radius))
    size = np.concatenate(radii).astype(np.float32)
    bound = tubes.radius[1] + head.grid.spacing
    inside = np.flatnonzero(head.depth > -head.grid.spacing)
    distance, nearest = KDTree(np.concatenate(points)).query(head.positions[:, inside].T, distance_upper_bound=bound)
    is_near = np.isfinite(distance)
    radius = size[nearest[is_near]]
    share = np.zeros(len(head.depth), np.float32)
    filled = np.minimum(1, (2 * radius / head.grid.spacing) ** 2)  # a thin tube fills only part of a voxel
    share[inside[is_near]] = head.soft(radius - distance[is_near].astype(np.float32)) * filled
    return share
