"""Computer-made heads: a warped ICBM152 head with lesions, as tissue fractions per voxel, in MNI space, and its scans.

The template is the average of 152 young adults (ICBM152 2009a; Fonov et al., NeuroImage 2011), from nilearn. Scans have
the signal of an MR sequence, contrast agent, receive field and noise, in scanner units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Array = NDArray[np.float32]
# Centre and reach, mm, of a region magnified by 1 / (1 - amount) near its centre, such as ventricles in old age
Swelling = tuple[Sequence[float], Sequence[float], float]
ENHANCING, NECROSIS, OEDEMA, STROKE = 4, 1, 2, 1  # labels of BraTS 2021 and ATLAS v2.0
VENTRICLES = (0.0, -18.0, 14.0)  # mm, MNI; centre of the lateral ventricles
MASK_STEP = 2  # mm; grid of the distance map, coarse because its surface is smooth
SKULL, SCALP = (1.5, 3.5, 6.0, 8.0), 15.0  # mm outside the brain; ends of dura, inner table, marrow, outer table; skin
RELAXIVITY = 4.5  # 1 / (mM s); gadolinium chelates in blood at 3 T (Rohrer et al., Invest Radiol 2005)
FACE_AND_NECK = (((0, 42, -58), (62, 54, 60)), ((0, -25, -80), (66, 76, 62)))  # mm; centres and semi-axes


@dataclass(frozen=True)
class PhantomGrid:
    """A grid of voxels in MNI space."""

    shape: tuple[int, int, int]
    spacing: float  # mm
    affine: NDArray[np.float64]  # voxel to MNI space, mm

    def positions(self) -> Array:
        """Return the centres of all voxels in MNI space, mm, [3, x, y, z]."""
        indices = np.indices(self.shape, dtype=np.float32)
        turned = np.tensordot(self.affine[:3, :3].astype(np.float32), indices, axes=1)
        return turned + self.affine[:3, 3, None, None, None].astype(np.float32)

    def smooth_field(self, rng: Generator, scale: float) -> Array:
        """Return a random field of mean 0 and standard deviation 1 that varies over `scale` mm, [x, y, z]."""
        weights = []
        for size in self.shape:  # cubic B-spline of the points and of knots `scale` apart
            points = np.arange(size) * (self.spacing / scale) + 1.5
            distance = np.abs(points[:, None] - np.arange(int(np.ceil(points[-1])) + 3))
            near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
            weights.append(np.where(distance < 1, near, far).astype(np.float32))
        field = rng.standard_normal([weight.shape[1] for weight in weights], dtype=np.float32)
        for weight in weights:
            field = np.tensordot(field, weight, axes=(0, 1))
        return field / np.float32((151 / 315) ** 1.5)  # 151/315: integral of the squared kernel of a cubic B-spline


@dataclass
class Head:
    """Tissue fractions and labels of a synthetic head, at n voxels of a grid."""

    grid: PhantomGrid
    inside: NDArray[np.bool_]  # mask of the n voxels, [x, y, z]
    positions: Array  # mm, [3, n]
    origins: Array  # positions in the template, mm, [3, n]
    depth: Array  # distance from the brain's surface, mm, positive inside, [n]
    fractions: dict[str, Array]  # 0 to 1, by tissue, [n]
    labels: NDArray[np.uint8]

    def field(self, rng: Generator, scale: float) -> Array:
        return self.grid.smooth_field(rng, scale)[self.inside]

    def replace(self, tissue: str, share: Array) -> None:
        """Give `tissue` a `share` (0 to 1) of every voxel; the existing tissues keep the rest in proportion."""
        for name in self.fractions:
            self.fractions[name] = self.fractions[name] * (1 - share)
        self.fractions[tissue] = self.fractions.get(tissue, np.float32(0)) + share

    def mottled(self, rng: Generator, share: float) -> Array:
        """Return a fraction (0 to 1) of each voxel that varies by 0.1 over a centimetre, like diseased tissue."""
        return np.clip(share + 0.1 * self.field(rng, 10.0), 0, 1)

    def level(self, radius: Array, volume: float) -> np.float32:
        """Return the level of `radius` (mm) that encloses `volume` (cm3)."""
        count = min(round(volume * 1000 / self.grid.spacing**3), len(radius) - 1)
        return np.partition(radius, count)[count]

    def soft(self, signed_distance: Array) -> Array:
        """Return each voxel's fraction on the positive side of a surface."""
        return np.clip(signed_distance / np.float32(self.grid.spacing) + np.float32(0.5), 0, 1)


@cache
def _template(spacing: float) -> tuple[Array, Array, Array]:
    """Return grey and white matter at 1 mm, smoothed to `spacing`, and brain depth in mm at `MASK_STEP`."""
    from nilearn import datasets  # imported late to keep `--help` fast, as below

    images = (datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1))
    blur = 0.4 * np.sqrt(spacing**2 - 1)
    grey, white = (ndimage.gaussian_filter(image.get_fdata(dtype=np.float32), blur) for image in images)
    brain = datasets.load_mni152_brain_mask(resolution=1).get_fdata(dtype=np.float32)
    mask = brain[::MASK_STEP, ::MASK_STEP, ::MASK_STEP] > 0
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 6), iterations=3))[6:-6, 6:-6, 6:-6]
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return grey, white, MASK_STEP * depth.astype(np.float32)


def _sample(volume: Array, positions: Array, step: float = 1.0) -> Array:
    """Return the values of a template volume at positions in mm; the first voxel lies at (-98, -134, -72) mm."""
    origin = np.array([-98, -134, -72], np.float32).reshape(3, *[1] * (positions.ndim - 1))
    return ndimage.map_coordinates(volume, (positions - origin) / np.float32(step), order=1, mode="nearest")


def _seed_points(rng: Generator, spacing: float, count: int, depth: tuple[float, float], white: bool) -> Array:
    """Return positions in the cerebrum, [count, 3], within a range of distances from the brain's surface, mm."""
    grey_map, white_map, depth_map = _template(spacing)
    step = (slice(None, None, MASK_STEP),) * 3
    tissue = white_map[step] > 0.6 if white else grey_map[step] + white_map[step] > 0.8
    tissue = tissue & (depth_map > depth[0]) & (depth_map < depth[1])
    candidates = np.argwhere(tissue) * MASK_STEP + np.array([-98, -134, -72])
    above_cerebellum = candidates[:, 2] > np.where(candidates[:, 1] < -30, 0, -30)
    return rng.choice(candidates[above_cerebellum], count).astype(np.float32)


def _make_head(rng: Generator, grid: PhantomGrid, swellings: Sequence[Swelling], skull_stripped: bool) -> Head:
    """Return a randomly deformed head: the brain alone, or with skull, scalp, face and neck."""
    positions = grid.positions()
    warped = _warp(rng, grid, positions, swellings)
    grey_map, white_map, depth_map = _template(grid.spacing)
    depth = _sample(depth_map, warped, MASK_STEP)
    inside = depth > -grid.spacing / 2 if skull_stripped else np.ones(grid.shape, bool)
    warped, depth = warped[:, inside], depth[inside]
    head = Head(grid, inside, positions[:, inside], warped, depth, {}, np.zeros(len(depth), np.uint8))
    grey, white = (_sample(volume, warped) * head.soft(depth) for volume in (grey_map, white_map))
    head.fractions |= {"GM": grey, "WM": white, "CSF": np.clip(1 - grey - white, 0, 1)}
    if not skull_stripped:
        _add_skull(rng, head)
    return head


def _warp(rng: Generator, grid: PhantomGrid, positions: Array, swellings: Sequence[Swelling]) -> Array:
    """Map positions to the template, mm, by an affine, a smooth random deformation and the swellings."""
    turn = Rotation.from_euler("xyz", rng.normal(0, 2.0, 3), degrees=True).as_matrix()
    matrix = turn @ np.diag(1 + rng.normal(0, 0.03, 3)) @ (np.eye(3) + np.triu(rng.normal(0, 0.02, (3, 3)), 1))
    warped = np.tensordot(matrix.astype(np.float32), positions, axes=1)
    warped += rng.normal(0, 1.0, (3, 1, 1, 1)).astype(np.float32)
    for axis in range(3):
        warped[axis] += 3.0 * grid.smooth_field(rng, 45.0) + 1.2 * grid.smooth_field(rng, 18.0)
    for *region, amount in swellings:
        centre, reach = (np.array(mm, np.float32).reshape(3, 1, 1, 1) for mm in region)
        offset = positions - centre
        warped -= offset * (amount * np.exp(-0.5 * np.sum((offset / reach) ** 2, axis=0)))
    return warped


def _add_skull(rng: Generator, head: Head) -> None:
    """Add tissue outside the brain in place: skull with marrow, muscle, fat, air."""
    outside = -head.depth * (1 + 0.1 * head.field(rng, 40.0)) * np.float32(rng.uniform(0.9, 1.15))
    surface = np.float32(SCALP) - outside  # mm under the skin
    for centre, axes in FACE_AND_NECK:
        offset = (head.origins - np.array(centre, np.float32)[:, None]) / np.array(axes, np.float32)[:, None]
        surface = np.maximum(surface, (1 - np.sqrt(np.sum(offset**2, axis=0))) * min(axes))
    dura, inner, marrow, outer = SKULL
    head.replace("bone", head.soft(outside - dura))
    head.replace("fat", 0.6 * head.soft(outside - inner) * head.soft(marrow - outside))
    head.replace("muscle", head.soft(outside - outer))
    lobules = head.soft(4 * head.field(rng, 9.0) - 3)
    head.replace("fat", head.soft(outside - outer) * np.maximum(head.soft(6 - surface), lobules))
    head.replace("muscle", head.soft(outside - outer) * head.soft(1.5 - surface))
    head.replace("air", head.soft(-surface) * head.soft(outside - dura))


def _radius(rng: Generator, head: Head, centre: Array, stretch: float, roughness: float) -> Array:
    """Return the distance from `centre`, mm, distorted by random axes and noise; level sets are outlines of lesions."""
    axes = np.exp(rng.normal(0, stretch, 3))
    axes /= np.prod(axes) ** (1 / 3)  # keeps volumes
    turn = (Rotation.random(rng=rng).as_matrix() / axes[:, None]).astype(np.float32)
    offset = turn @ (head.positions - centre[:, None])
    distance = np.sqrt(np.sum(offset**2, axis=0))
    return distance * np.exp(roughness * (0.8 * head.field(rng, 22.0) + 0.6 * head.field(rng, 9.0)))


def _aged_head(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    """Return a head with white-matter hyperintensities and ventricles of its age."""
    age = rng.uniform()  # from 0 (45 years) to 1 (80 years), the range in UK Biobank's imaging
    ventricles = (VENTRICLES, (26.0, 42.0, 26.0), -0.1 + 0.45 * age + rng.normal(0, 0.04))
    head = _make_head(rng, grid, [ventricles], skull_stripped)
    offset = (head.positions - np.array(VENTRICLES, np.float32)[:, None]) / np.array([[30], [48], [26]], np.float32)
    periventricular = np.exp(-0.5 * np.sum(offset**2, axis=0)) * np.clip((head.depth - 12) / 6, 0, 1)
    level = head.field(rng, 7.0) + 0.5 * head.field(rng, 14.0) + 2.2 * periventricular
    share = np.clip(2 * (level - (4.2 - 1.6 * age)), 0, 1)
    head.replace("WMH", share * np.clip(2 * head.fractions["WM"] - 1, 0, 1))
    return head


def _head_with_glioma(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    """Return a head with a high-grade glioma of the size of those in BraTS 2021, sometimes with two foci."""
    centre = _seed_points(rng, grid.spacing, 1, (14, 60), white=True)
    second = centre + rng.normal(0, 1, (1, 3)).astype(np.float32) * 14
    foci = np.concatenate([centre, second]) if rng.random() < 0.3 else centre
    mass_effect = (centre[0], (32.0, 32.0, 32.0), rng.uniform(0.1, 0.3))
    head = _make_head(rng, grid, [mass_effect], skull_stripped)
    volume = float(np.clip(rng.lognormal(np.log(80), 0.45), 35, 150))
    core = volume * rng.uniform(0.25, 0.5)
    radius = np.min([_radius(rng, head, focus, 0.2, 0.18) for focus in foci], axis=0)
    radius = radius + np.clip(6 - head.depth, 0, 36)  # mm; keeps necrosis away from the brain's surface
    edge = head.level(radius, core)
    rim = min(rng.uniform(5, 8), 0.5 * float(edge)) * np.exp(0.15 * head.field(rng, 15.0))
    barrier = 0.4 * head.fractions["GM"] + 1.2 * head.fractions["CSF"]
    reach = radius * (1 + barrier) * np.exp(0.15 * head.field(rng, 14.0))
    reach = np.where(radius < edge, 0, reach)
    far = head.level(reach, volume)
    head.replace("ED", head.soft(far - reach) * head.mottled(rng, 0.8))
    head.replace("ET", head.soft(edge - radius) * head.mottled(rng, 0.85))
    head.replace("NCR", head.soft(edge - rim - radius))
    head.labels[reach < far] = OEDEMA
    head.labels[radius < edge] = ENHANCING
    head.labels[radius < edge - rim] = NECROSIS
    return head


def _head_with_strokes(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    """Return a head with chronic strokes, cavities with a gliotic rim: a territorial infarct, perhaps with lacunes."""
    head = _make_head(rng, grid, [(VENTRICLES, (26.0, 42.0, 26.0), rng.uniform(0, 0.3))], skull_stripped)
    first = _seed_points(rng, grid.spacing, 1, (6, 40), white=False)
    others = _seed_points(rng, grid.spacing, rng.poisson(0.7), (10, 60), white=True)
    territorial = np.clip(rng.lognormal(np.log(50), 0.6), 12, 150)
    lacunes = np.exp(rng.uniform(np.log(0.1), 0, len(others)))
    for centre, volume in zip((*first, *others), (territorial, *lacunes), strict=True):
        radius = _radius(rng, head, centre, 0.3, 0.25) * (1 + 0.3 * head.fractions["CSF"])
        radius += 30 * head.soft(-head.depth)
        edge = head.level(radius, float(volume))
        rim = min(rng.uniform(1.5, 5), 0.4 * float(edge)) * np.exp(0.3 * head.field(rng, 12.0))
        head.replace("gliosis", head.soft(edge - radius) * head.mottled(rng, 0.85))
        head.replace("cavity", head.soft(edge - rim - radius) * head.mottled(rng, 0.9))
        head.labels[radius < edge] = STROKE
    return head


HEADS = {"aged": _aged_head, "glioma": _head_with_glioma, "strokes": _head_with_strokes}  # values of `Cohort.head`


class Tissue(NamedTuple):
    """Proton density (water = 1), relaxation times (ms), and uptake of contrast agent (enhancing tumour = 1)."""

    density: float
    t1: float
    t2: float
    uptake: float = 0.0


class MRSequence(NamedTuple):
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
    "T1": MRSequence(2300, 3, 1100),
    "T1ce": MRSequence(2300, 3, 1100, enhanced=True),
    "T2": MRSequence(5000, 90),
    "FLAIR": MRSequence(9000, 110, 2500),
}


def signal(tissue: Tissue, sequence: MRSequence, agent: float = 0.0) -> float:
    """Return a tissue's signal relative to water's (Bernstein et al., Handbook of MRI Pulse Sequences, 2004)."""
    rate = 1 / tissue.t1 + RELAXIVITY * agent * tissue.uptake * sequence.enhanced / 1000  # 1/ms
    recovery = 1 - np.exp(-sequence.repetition * rate)
    if sequence.inversion is not None:
        recovery += 2 * (np.exp(-sequence.repetition * rate) - np.exp(-sequence.inversion * rate))
    return float(tissue.density * abs(recovery) * np.exp(-sequence.echo / tissue.t2))


def scan(rng: Generator, head: Head, sequence: MRSequence, agent: float) -> NDArray[np.float32]:
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
