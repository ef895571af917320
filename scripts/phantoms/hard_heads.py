"""Heads of the difficult cohorts: several small and faint lesions, what resembles them, ventricles and atrophy.

The label of a lesion is the voxels that its outline encloses, as in `anatomy`; nothing of what resembles a lesion comes
closer to an outline than `CLEARANCE`. Contrast is how much of a lesion's signal shows over that of the tissue it
replaced, from 0 (isointense) to 1; it differs between lesions and modalities.

Sources: ATLAS v2.0 has lesions of 0.01 to 497 cm3 (Liew et al., Sci Data 2022); BraTS-METS 2023 has 3,076 tumours in
402 public studies (Moawad et al., arXiv:2306.00838); perivascular spaces are mostly narrower than 3 mm, lacunes 3-15
mm wide (STRIVE; Wardlaw et al., Lancet Neurol 2013). All values that name no source are our choice.
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
    STROKE,
    VENTRICLES,
    Head,
    PhantomGrid,
    Swelling,
    hyperintensities,
    make_head,
    seed_points,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LesionVolumes:
    """Log-normal volumes of lesions in cm3: `median`, standard deviation `spread` of the logarithm, clipped."""

    median: float
    spread: float
    least: float
    most: float

    def draw(self, rng: Generator, count: int) -> NDArray[np.float64]:
        """LesionVolumes in descending order, cm3."""
        drawn = np.exp(rng.normal(np.log(self.median), self.spread, count))
        return np.sort(np.clip(drawn, self.least, self.most))[::-1]


@dataclass(frozen=True)
class Difficulty:
    """What differs between the difficult cohorts: volumes of lesions by disease; least and most contrast (uniform)."""

    tumours: LesionVolumes
    strokes: LesionVolumes
    contrast: tuple[float, float]


DIFFICULT = {
    "medium": Difficulty(LesionVolumes(6.0, 1.0, 0.5, 60.0), LesionVolumes(5.0, 1.0, 0.5, 60.0), (0.6, 1.0)),
    "hard": Difficulty(LesionVolumes(0.8, 1.4, 0.03, 30.0), LesionVolumes(0.7, 1.5, 0.02, 40.0), (0.3, 0.9)),
}
LESIONS = (2, 3.0, 9)  # per subject: least, mean of the Poisson distribution of those beyond, most
ISOINTENSE = 0.35  # share of lesions that are faint in one modality, if there are several
FAINT = (0.0, 0.15)  # contrast of a lesion there, uniform
MIMICS = ("WMH", "PVS", "vessel")  # tissues that resemble lesions and carry no label
CLEARANCE = 1.0  # mm between lesions and what resembles them
FAR = 1000.0  # mm; distance from a lesion if there is none near


@dataclass(frozen=True)
class _Tubes:
    """Curved tubes: how many (least, most), radius and length in mm (least, most)."""

    count: tuple[int, int]
    radius: tuple[float, float]
    length: tuple[float, float]


SPACES = _Tubes((10, 60), (0.6, 1.5), (4.0, 15.0))
VESSELS = _Tubes((10, 40), (0.7, 1.6), (15.0, 45.0))


@dataclass
class HardHead:
    """A head with its lesions, and what each modality shows of them.

    Attributes:
        head: tissue fractions with lesions of full contrast, and the labels.
        host: tissue fractions without lesions.
        contrast: modality -> contrast (0..1) of the lesion in each voxel.
        count: number of lesions.
    """

    head: Head
    host: dict[str, Array]
    contrast: dict[str, Array]
    count: int = 0

    def seen_by(self, modality: str) -> Head:
        """The head with tissue fractions that give the lesions their contrast in this modality."""
        shown = self.contrast[modality]
        fractions = {
            name: share * shown + self.host.get(name, np.float32(0)) * (1 - shown)
            for name, share in self.head.fractions.items()
        }
        return replace(self.head, fractions=fractions)


@dataclass
class _Lesions:
    """Lesions as they are drawn: shares of tissues to add, in order, and mm to the nearest outline, [voxels]."""

    head: Head
    difficulty: Difficulty
    contrast: dict[str, Array]
    clearance: Array
    shares: dict[str, Array] = field(default_factory=dict)
    count: int = 0


def make_hard_head(
    rng: Generator,
    grid: PhantomGrid,
    skull_stripped: bool,
    disease: str | None,
    modalities: Sequence[str],
    difficulty: str = "hard",
) -> HardHead:
    """A head of any age with what resembles lesions, and with lesions.

    Args:
        rng: the subject's generator.
        grid: where to sample it.
        skull_stripped: cover the brain's voxels only; otherwise every voxel, air included.
        disease: tumours (labels 1, 2 and 4), strokes (label 1), or None for a head without lesions.
        modalities: those that the subject is scanned with.
        difficulty: one of `DIFFICULT`.
    """
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), rng.uniform(-0.1, 0.45))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    _widen_sulci(head, rng.uniform(0, 0.8))
    size = len(head.depth)
    contrast = {name: np.ones(size, np.float32) for name in modalities}
    lesions = _Lesions(head, DIFFICULT[difficulty], contrast, np.full(size, FAR, dtype=np.float32))
    if disease is not None:
        _place(rng, lesions, disease)
    _add_mimics(rng, head, lesions.clearance)
    host = dict(head.fractions)
    for tissue, share in lesions.shares.items():
        head.replace(tissue, share)
    return HardHead(head, host, lesions.contrast, lesions.count)


def _widen_sulci(head: Head, atrophy: float) -> None:
    """Let fluid take up to `atrophy` (0..1) of voxels that are part fluid, part brain."""
    fluid = head.fractions["CSF"]
    head.replace("CSF", np.float32(atrophy) * 4 * fluid * np.clip(1 - fluid, 0, 1) * (head.depth > 0))


def _place(rng: Generator, lesions: _Lesions, disease: str) -> None:
    """Draw lesions, the largest first, each where it stays apart from the others; those without room are left out."""
    least, beyond, most = LESIONS
    spacing = lesions.head.grid.spacing
    ranges = {"tumours": lesions.difficulty.tumours, "strokes": lesions.difficulty.strokes}[disease]
    volumes = ranges.draw(rng, min(least + rng.poisson(beyond), most))
    radii = np.cbrt(3 * volumes * 1000 / (4 * np.pi))  # mm
    places = seed_points(rng, spacing, 20 * len(volumes), (6, 60), white=False)
    draw = {"tumours": _draw_tumour, "strokes": _draw_stroke}[disease]
    taken: list[tuple[Array, float]] = []
    for volume, radius in zip(volumes, radii, strict=True):
        free = [
            place
            for place in places
            if all(np.linalg.norm(place - other) > 1.7 * (radius + size) + 2 * spacing for other, size in taken)
        ]
        if free:
            taken.append((free[0], radius))
            draw(rng, lesions, free[0], float(volume), float(radius))
            lesions.count += 1


def _outline(
    rng: Generator, lesions: _Lesions, centre: Array, reach: float, stretch: float
) -> tuple[NDArray[np.intp], Array]:
    """Indices of the voxels around a place, and their distance from it (mm) as an irregular body sees it."""
    from scipy.spatial.transform import Rotation  # here and below, as `--help` need not wait for it

    axes = np.exp(rng.normal(0, stretch, 3))
    axes /= np.prod(axes) ** (1 / 3)
    head = lesions.head
    offset = head.positions - centre[:, None]
    near = np.flatnonzero(np.sum(offset**2, axis=0) < reach**2)
    turn = Rotation.random(rng=rng).as_matrix() / axes[:, None]
    distance = np.sqrt(np.sum((turn.astype(np.float32) @ offset[:, near]) ** 2, axis=0))
    rough = np.float32(0.2) * _waves(rng, head.positions[:, near], max(reach / 2, 6.0))
    fluid = head.fractions["CSF"][near]
    outside = 30 * head.soft(-head.depth[near]) + np.where(lesions.clearance[near] < 2 * head.grid.spacing, FAR, 0)
    return near, np.asarray(distance * np.exp(rough) * (1 + 0.6 * fluid) + outside, np.float32)


def _waves(rng: Generator, positions: Array, scale: float) -> Array:
    """A random field of standard deviation 1 from six plane waves at least `scale` mm long."""
    directions = rng.normal(0, 2.0 / scale, (6, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (6, 1)).astype(np.float32)
    return np.sum(np.sin(directions @ positions + phases), axis=0) / np.float32(np.sqrt(3))


def _enclosing(radius: Array, volume: float, spacing: float) -> float:
    """The level of `radius` (mm) that encloses `volume` (cm3), and one voxel at least."""
    count = min(max(round(volume * 1000 / spacing**3), 1), len(radius) - 1)
    return float(np.mean(np.partition(radius, (count - 1, count))[count - 1 : count + 1]))


def _contrast(rng: Generator, lesions: _Lesions, near: NDArray[np.intp], body: NDArray[np.bool_]) -> None:
    """Give a lesion its contrast in each modality, with partial volume at the outline."""
    whole = rng.uniform(*lesions.difficulty.contrast)
    shown = {name: np.clip(whole * rng.normal(1, 0.1), 0, 1) for name in lesions.contrast}
    if len(shown) > 1 and rng.random() < ISOINTENSE:
        shown[str(rng.choice(list(shown)))] = rng.uniform(*FAINT)
    for name, value in shown.items():
        lesions.contrast[name][near[body]] = value


def _add_share(lesions: _Lesions, tissue: str, near: NDArray[np.intp], share: Array) -> None:
    shares = lesions.shares.setdefault(tissue, np.zeros(len(lesions.head.depth), np.float32))
    shares[near] = np.maximum(shares[near], share)


def _finish(rng: Generator, lesions: _Lesions, near: NDArray[np.intp], from_outline: Array) -> None:
    """Record the room that a lesion takes, and its contrast; `from_outline` is mm, positive outside."""
    lesions.clearance[near] = np.minimum(lesions.clearance[near], from_outline)
    _contrast(rng, lesions, near, from_outline < lesions.head.grid.spacing)


def _draw_tumour(rng: Generator, lesions: _Lesions, centre: Array, volume: float, size: float) -> None:
    """A tumour of `volume` (cm3) with its oedema; the enhancing core is 0.25-0.7 of it, and necrotic if large."""
    head, spacing = lesions.head, lesions.head.grid.spacing
    near, radius = _outline(rng, lesions, centre, 3 * size + 4 * spacing, 0.2)
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


def _draw_stroke(rng: Generator, lesions: _Lesions, centre: Array, volume: float, size: float) -> None:
    """A chronic stroke of `volume` (cm3): gliosis, in half of them around a cavity."""
    head, spacing = lesions.head, lesions.head.grid.spacing
    near, radius = _outline(rng, lesions, centre, 3 * size + 4 * spacing, 0.35)
    edge = _enclosing(radius, volume, spacing)
    rim = rng.uniform(0.3, 0.7) * edge
    _add_share(lesions, "gliosis", near, head.soft(edge - radius) * np.float32(0.9))
    if rng.random() < 0.5:
        _add_share(lesions, "cavity", near, head.soft(edge - rim - radius))
    head.labels[near[radius < edge]] = STROKE
    _finish(rng, lesions, near, radius - edge)


def _add_mimics(rng: Generator, head: Head, clearance: Array) -> None:
    """White-matter hyperintensities, perivascular spaces and vessels, none of them in or at a lesion."""
    away = ((head.labels == 0) & (clearance > CLEARANCE)).astype(np.float32)
    head.replace("WMH", hyperintensities(rng, head, rng.uniform(0.2, 1.2)) * away)
    for tissue, tubes, depth, white in (("PVS", SPACES, (12, 60), True), ("vessel", VESSELS, (0, 30), False)):
        count = int(rng.integers(*tubes.count, endpoint=True))
        starts = seed_points(rng, head.grid.spacing, count, depth, white)
        head.replace(tissue, _tubes(rng, head, starts, tubes) * away * head.soft(head.depth))


def _tubes(rng: Generator, head: Head, starts: Array, tubes: _Tubes) -> Array:
    """The share (0..1) of curved tubes, each from its start (mm, [tubes, 3]), in each voxel."""
    from scipy.spatial import KDTree

    points, radii = [], []
    for start in starts:
        length, radius = rng.uniform(*tubes.length), rng.uniform(*tubes.radius)
        along, bend = (each / np.linalg.norm(each) for each in rng.normal(0, 1, (2, 3)))
        run = np.arange(0.0, length, 0.5)[:, None]  # mm
        points.append(start + run * along + run**2 / (2 * length) * bend)
        radii.append(np.full(len(run), radius))
    size = np.concatenate(radii).astype(np.float32)
    bound = tubes.radius[1] + head.grid.spacing
    inside = np.flatnonzero(head.depth > -head.grid.spacing)
    distance, nearest = KDTree(np.concatenate(points)).query(head.positions[:, inside].T, distance_upper_bound=bound)
    found = np.isfinite(distance)
    radius = size[nearest[found]]
    share = np.zeros(len(head.depth), np.float32)
    filled = np.minimum(1, (2 * radius / head.grid.spacing) ** 2)  # a thin tube fills no voxel
    share[inside[found]] = head.soft(radius - distance[found].astype(np.float32)) * filled
    return share
