"""Try the preparation on the embedded cohort, where every position is known: `python -m scripts.prepare trial`.

Heads with skull are moved and turned at random, each modality on its own, and sampled to scanners' grids. The errors
are then measured against these motions. The template is the one that the heads were made from, and the skull is a
model: real scans are harder.
"""

import multiprocessing
import resource
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from common.data.volumes import write_volume
from common.errors import InputError, show
from common.files import write_json
from common.metrics.measures import dice
from common.prepare.resampling import labels_on
from common.prepare.subject import Settings, default_reference
from common.prepare.targets import TARGETS
from common.prepare.volumes import Grid, Volume, to_image, to_transform
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.mr_signal import SEQUENCES, scan
from scripts.prepare.cohort import prepare_cohort
from scripts.prepare.scans import find_subjects
from scripts.prepare.store import mask_file, read_record

__all__ = ["TRUTH", "errors", "make_raw", "measure_subject", "run_trial", "sampled"]

SPACINGS = {"T1": (1.0, 1.0, 1.0), "T1ce": (1.0, 1.0, 1.2), "T2": (0.7, 0.7, 2.0), "FLAIR": (0.8, 0.8, 3.0)}  # mm
THICKEST = 8.0  # mm
FIELD_OF_VIEW = (230.0, 250.0, 200.0)  # mm
TURN, SHIFT = (15.0, 20.0), (10.0, 10.0)  # degrees, mm: largest motion of the head; of a modality relative to it
CENTRE = (0.0, -18.0, 8.0)  # mm, MNI; of the rotations
TRUTH = "truth"  # folder beside the raw scans
EVERY = 50  # of the brain's voxels, one is a point to measure errors at


@dataclass(frozen=True)
class _Order:
    subject: str
    folder: Path
    settings: Settings


def make_raw(layout: str, index: int, folder: Path, seed: int = 0, spacing: float = 1.0) -> str:
    """Write the raw scans of a subject of the embedded cohort, and its truth; the subject's name.

    Args:
        layout: ukb, brats or atlas.
        index: of the subject.
        folder: for raw/SUBJECT/SUBJECT_MODALITY.nii.gz and truth/SUBJECT.npz.
        seed: of the head and its motions.
        spacing: edge of the phantom's voxels, mm; the scans' voxels grow with it.
    """
    kind = LAYOUTS[layout]
    rng = np.random.default_rng([seed, index])
    head = kind.head(rng, kind.grid(spacing), False, False)
    agent, affine = rng.uniform(0.15, 0.4), kind.affine(spacing)
    case = kind.case(index)
    motion = np.random.default_rng([seed, index, 1])
    centre = np.array(CENTRE) + kind.mni_origin
    first = _rigid(motion, *TURN, centre)
    middle = _moved(first, centre[None])[0]
    reference = default_reference(list(kind.files))
    motions = {}
    for modality in kind.files:
        image = scan(rng, head, SEQUENCES[modality], agent)
        own = np.eye(4) if modality == reference else _rigid(motion, *SHIFT, middle)
        motions[modality] = own @ first
        edges = np.minimum(np.array(SPACINGS[modality]) * spacing, THICKEST)
        x, y, z = (int(size) for size in np.ceil(np.array(FIELD_OF_VIEW) / edges))
        placed = np.diag([-edges[0], -edges[1], edges[2], 1.0])
        placed[:3, 3] = middle - placed[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
        raw = sampled(image, motions[modality] @ affine, Grid((x, y, z), placed))
        path = folder / "raw" / case.subject / f"{case.subject}_{modality}.nii.gz"
        write_volume(path, raw.round().astype(np.int16), placed, compresslevel=1)
    brain = head.depth.reshape(head.grid.shape) > 0
    chosen = np.flatnonzero(brain)[::EVERY]
    (folder / TRUTH).mkdir(exist_ok=True)
    truth: dict[str, Any] = {
        "affine": affine,
        "brain": brain,
        "labels": head.labels.reshape(head.grid.shape),
        "points": head.positions[:, chosen].T + np.array(kind.mni_origin),
        "origins": head.origins[:, chosen].T,
    }
    truth |= {f"motion_{modality}": matrix for modality, matrix in motions.items()}
    np.savez_compressed(folder / TRUTH / f"{case.subject}.npz", **truth)
    return case.subject


def _rigid(rng: Generator, degrees: float, distance: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random rotation around `centre` by up to `degrees` about each axis, and a shift by up to `distance` mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    matrix[:3, 3] = centre + rng.uniform(-distance, distance, 3) - matrix[:3, :3] @ centre
    return matrix


def _moved(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def sampled(image: NDArray[Any], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """An image on another grid, each voxel the mean over its extent (linear interpolation, 0 outside)."""
    matrix = np.linalg.inv(affine) @ grid.affine
    counts = [max(1, round(float(edge))) for edge in np.linalg.norm(matrix[:3, :3], axis=0)]
    total = np.zeros(grid.shape, np.float32)
    for place in np.ndindex(*counts):
        offset = (np.array(place) + 0.5) / counts - 0.5
        start = matrix[:3, 3] + matrix[:3, :3] @ offset
        total += ndimage.affine_transform(
            image.astype(np.float32), matrix[:3, :3], start, grid.shape, order=1, mode="constant"
        )
    return total / np.float32(np.prod(counts))


def errors(record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Errors in mm at points of the brain: of each modality relative to the reference, and "template".

    The first are errors of registration. "template" is the distance to the place in the template that the point was
    made from, and "least" is that distance for the best of all rigid or affine transforms: people differ by more.

    Args:
        record: of the prepared subject.
        truth: as `make_raw` wrote it.
    """
    settings = record["settings"]
    reference = settings["reference"]
    points = {modality: _moved(truth[f"motion_{modality}"], truth["points"]) for modality in settings["modalities"]}
    matrices = {modality: np.array(entry["matrix"]) for modality, entry in record["transforms"].items()}
    placed = _moved(np.linalg.inv(matrices[reference]), points[reference])
    found = {
        modality: np.linalg.norm(_moved(matrices[modality], placed) - points[modality], axis=1)
        for modality in settings["modalities"]
        if modality != reference
    }
    in_mni = _moved(TARGETS[settings["target"]].to_mni(), placed)
    best = _best(points[reference], truth["origins"], settings["dof"])
    return found | {
        "template": np.linalg.norm(in_mni - truth["origins"], axis=1),
        "least": np.linalg.norm(best - truth["origins"], axis=1),
    }


def _best(points: NDArray[np.float64], goals: NDArray[np.float64], dof: int) -> NDArray[np.float64]:
    """The points after the rigid or affine transform that is nearest to the goals in the least-squares sense."""
    if dof == 12:
        extended = np.column_stack([points, np.ones(len(points))])
        return np.asarray(extended @ np.linalg.lstsq(extended, goals, rcond=None)[0])
    centred = points - points.mean(axis=0)
    rotation, _ = Rotation.align_vectors(goals - goals.mean(axis=0), centred)
    return np.asarray(rotation.apply(centred) + goals.mean(axis=0))


def measure_subject(prepared: Path, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a prepared subject with its truth.

    Returns:
        `errors` (name -> mean, median and 95th percentile, mm), `brain` (Dice of the brain mask) and, where the subject
        has lesions, `labels`: modality -> method of writing back -> mean Dice over labels on the raw grid, of a label
        map that is perfect in the target's space.
    """
    record = read_record(prepared)
    reference = record["settings"]["reference"]
    x, y, z = record["grid"]["shape"]
    grid = Grid((x, y, z), np.array(record["grid"]["affine"]))
    mask = Path(prepared, mask_file(record["subject"]))
    brain = sitk.GetArrayFromImage(sitk.ReadImage(str(mask))).T > 0
    matrices = {modality: np.array(entry["matrix"]) for modality, entry in record["transforms"].items()}
    into = np.linalg.inv(truth[f"motion_{reference}"]) @ matrices[reference]  # from the target to the phantom

    def placed(image: NDArray[Any], grid: Grid, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        return sampled(image, truth["affine"], Grid(grid.shape, matrix @ grid.affine))

    statistics = {
        name: {"mean": of.mean(), "median": np.median(of), "p95": np.percentile(of, 95)}
        for name, of in errors(record, truth).items()
    }
    result: dict[str, Any] = {"errors": statistics, "brain": dice(brain, placed(truth["brain"], grid, into) > 0.5)}
    values = [int(value) for value in np.unique(truth["labels"]) if value]
    if values:
        labels = Volume(_largest(values, truth["labels"], lambda mask: placed(mask, grid, into)), grid.affine)
        result["labels"] = {}
        for modality in record["settings"]["modalities"]:
            source = record["sources"][modality]
            x, y, z = source["shape"]
            raw = Grid((x, y, z), np.array(source["affine"]))
            motion = np.linalg.inv(truth[f"motion_{modality}"])
            wanted = _largest(values, truth["labels"], partial(placed, grid=raw, matrix=motion))
            back = np.linalg.inv(matrices[modality])
            found = {
                "nearest": _simple(labels, raw, back),
                "linear": _argmax(labels, raw, back, values),
                "share": labels_on(labels, raw, back).array,
            }
            result["labels"][modality] = {
                method: float(np.mean([dice(array == value, wanted == value) for value in values]))
                for method, array in found.items()
            }
    return result


def _largest(values: Sequence[int], labels: NDArray[Any], placed: Any) -> NDArray[np.uint8]:
    """The label with the largest share of each voxel, background included."""
    shares = np.stack([placed((labels == value).astype(np.float32)) for value in values])
    background = 1 - shares.sum(axis=0, keepdims=True)
    return np.array([0, *values], np.uint8)[np.concatenate([background, shares]).argmax(axis=0)]


def _on(image: sitk.Image, grid: Grid, matrix: NDArray[np.float64], method: int) -> NDArray[Any]:
    like = to_image(Volume(np.zeros(grid.shape, np.uint8), grid.affine))
    return np.asarray(sitk.GetArrayFromImage(sitk.Resample(image, like, to_transform(matrix), method, 0.0)).T)


def _simple(labels: Volume, grid: Grid, matrix: NDArray[np.float64]) -> NDArray[Any]:
    return _on(to_image(labels), grid, matrix, sitk.sitkNearestNeighbor)


def _argmax(labels: Volume, grid: Grid, matrix: NDArray[np.float64], values: Sequence[int]) -> NDArray[Any]:
    masks = [to_image(Volume((labels.array == value).astype(np.float32), labels.affine)) for value in (0, *values)]
    shares = [_on(mask, grid, matrix, sitk.sitkLinear) for mask in masks]
    return np.array([0, *values], np.uint8)[np.argmax(shares, axis=0)]


def run_trial(folder: Path, layouts: Sequence[str], subjects: int, spacing: float, seed: int) -> None:
    """Write trial.json and print its tables; the arguments are the checked options of the command `trial`."""
    results = {}
    context = multiprocessing.get_context("spawn")  # so that a subject's peak memory is its own
    for name in layouts:
        place = folder / name
        settings = replace(Settings.like(name, spacing), brain="template")
        for index in range(subjects):
            with ProcessPoolExecutor(1, context) as pool:
                subject = pool.submit(make_raw, name, index, place, seed, spacing).result()
            with ProcessPoolExecutor(1, context) as pool:
                used = pool.submit(_prepare_one, _Order(subject, place, settings)).result()
            with np.load(place / TRUTH / f"{subject}.npz") as truth:
                results[f"{name} {subject}"] = used | measure_subject(place / "prepared" / subject, dict(truth))
    write_json(folder / "trial.json", results)
    show(*_table(results).splitlines())


def _prepare_one(order: _Order) -> dict[str, float]:
    """Prepare a subject in this process, with one thread; seconds, and peak memory in GiB."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    start, used = time.monotonic(), time.process_time()
    found = find_subjects(order.folder / "raw", order.settings.modalities, {})
    (order.folder / "prepared").mkdir(exist_ok=True)
    wanted = [subject for subject in found if subject.name == order.subject]
    (outcome,) = prepare_cohort(wanted, order.settings, order.folder / "prepared", 1)
    if outcome.fault:
        raise InputError(f"{order.subject}: {outcome.fault}")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - used + children.ru_utime + children.ru_stime
    return {"seconds": time.monotonic() - start, "cpu_seconds": cpu, "peak_gib": children.ru_maxrss / 2**20}


def _table(results: Mapping[str, Any]) -> str:
    lines = [f"{'subject':<26}{'points':<10}{'mean':>7}{'median':>8}{'p95':>7} mm"]
    for name, result in results.items():
        for which, of in result["errors"].items():
            lines.append(f"{name:<26}{which:<10}{of['mean']:>7.2f}{of['median']:>8.2f}{of['p95']:>7.2f}")
    lines += ["", f"{'subject':<26}{'brain Dice':>11}{'s':>6}{'CPU s':>7}{'GiB':>6}"]
    for name, of in results.items():
        lines.append(
            f"{name:<26}{of['brain']:>11.3f}{of['seconds']:>6.0f}{of['cpu_seconds']:>7.0f}{of['peak_gib']:>6.2f}"
        )
    lines += ["", f"{'labels written back: Dice':<34}{'nearest':>9}{'linear':>9}{'share':>9}"]
    for name, result in results.items():
        for modality, of in result.get("labels", {}).items():
            values = "".join(f"{of[method]:>9.3f}" for method in ("nearest", "linear", "share"))
            lines.append(f"{name:<26}{modality:<8}{values}")
    return "\n".join(lines)
