"""The scale of brain tissue after each normalization: `python -m scripts.intensities` (DIFF-9).

Subjects of the embedded cohort are scanned, normalized, and compared with the anatomy that they were made from; heads
with brain masks of your own, with `--root`, by what the z-score takes for the brain.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.bars import tqdm
from common.cli import run
from common.errors import InputError, check_number, show
from common.files import expand_home
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.mr_signal import SEQUENCES, scan

if TYPE_CHECKING:
    from common.prepare.volumes import Volume

__all__ = ["Scan", "main", "scans", "tissue_scale", "voxels"]

COHORTS = (("ukb", True), ("brats", True), ("atlas", False))  # layout, skull-stripped; as the real ones
OTHERS = (("atlas", True), ("ukb", False), ("brats", False))
AGENT = 0.25  # mM of contrast agent in enhancing tumour
CLOSE = 0.05  # of the true value
TISSUE = 0.8  # least share of grey and white matter in a voxel of healthy tissue


class Scan(NamedTuple):
    """A scan and its truth: `image`, `brain` (mask) and `tissue` (mask of grey and white matter), all [x, y, z]."""

    cohort: str
    modality: str
    image: np.ndarray
    brain: np.ndarray
    tissue: np.ndarray


def main(
    subjects: int = 2,
    spacing: float = 1.0,
    seed: int = 0,
    root: str | None = None,
    mask: str = "brain",
    modality: str = "T1",
) -> None:
    """Print mean and standard deviation of grey and white matter for each cohort, modality and normalization.

    Columns: nonzero and brain (the option `normalization`), otsu (all voxels above Otsu's threshold count), and truth
    (the voxels of the true brain count).

    Args:
        subjects: of each cohort, whose figures are averaged.
        spacing: edge of a voxel, mm, 1 to 4. The real cohorts have 1.
        seed: of the subjects.
        root: folder of heads with brain masks, such as DATA/ixi of scripts.public_scans. In place of the above: Dice of
            the brain found and the mask, the errors of mean and standard deviation, and the seconds.
        mask: ending of a mask's name: SUBJECT_brain.nii.gz.
        modality: ending of a scan's name: SUBJECT_T1.nii.gz, on the mask's grid.
    """
    if root is not None:
        _against_masks(root, mask, modality)
        return
    check_number("subjects", subjects, int, 1, 1000)
    check_number("seed", seed, int, 0, 2**31)
    if isinstance(spacing, bool) or not isinstance(spacing, int | float) or not 1 <= spacing <= 4:
        raise InputError(f"--spacing={spacing}: expected millimetres from 1 to 4")
    rows: dict[tuple[str, str], list[dict[str, tuple[float, float]]]] = {}
    with tqdm(total=subjects * len(COHORTS + OTHERS), desc="intensities", unit="subject") as progress:
        for layout, skull_stripped in COHORTS + OTHERS:
            for subject in range(subjects):
                for each in scans(layout, skull_stripped, float(spacing), (seed, subject)):
                    chosen = voxels(each, spacing)
                    figures = {name: tissue_scale(each, mask) for name, mask in chosen.items()}
                    rows.setdefault((each.cohort, each.modality), []).append(figures)
                progress.update()
    show("| cohort | modality | " + " | ".join(next(iter(rows.values()))[0]) + " |", "|---" * 6 + "|")
    for names, found in rows.items():
        cells = [
            f"{fmean(each[name][0] for each in found):+.2f} ± {fmean(each[name][1] for each in found):.2f}"
            for name in found[0]
        ]
        show("| " + " | ".join([*names, *cells]) + " |")


def _against_masks(root: str, mask: str, modality: str) -> None:
    """Print how well the brain is found in the heads of a folder, and what that does to their z-scores."""
    folder = expand_home(root, f"--root={root}")
    if not folder.is_dir():
        raise InputError(f"--root={root}: no such folder; expected a folder of heads with masks")
    for name, ending in (("mask", mask), ("modality", modality)):
        if not isinstance(ending, str) or not re.fullmatch(r"\w+", ending):
            raise InputError(f"--{name}={ending}: expected the words that end file names, such as brain_mask")
    pairs = [(path.with_name(path.name.replace(f"_{mask}.", f"_{modality}.")), path) for path in _masks(folder, mask)]
    pairs = [(scan, path) for scan, path in pairs if scan.is_file()]
    if not pairs:
        raise InputError(f"--root={root}: no such files; expected SUBJECT_{modality}.nii.gz and SUBJECT_{mask}.nii.gz")
    for _ in range(2):  # PyTorch optimises the network in the first two calls of a process
        _against_mask(*pairs[0])
    rows = [_against_mask(*pair) for pair in tqdm(pairs, desc="intensities", unit="head")]
    scores, means, deviations, seconds = np.array(rows).T
    show(f"heads: {len(rows)}", f"Dice: median {np.median(scores):.3f}, worst {scores.min():.3f}")
    for name, errors in (("mean", means), ("standard deviation", deviations)):
        within = f"{np.mean(np.abs(errors) <= CLOSE):.0%} within {CLOSE:.0%}"
        show(f"error of the {name}: median {np.median(errors):+.1%}, largest {np.abs(errors).max():.1%}, {within}")
    show(f"seconds: median {np.median(seconds):.2f}")


def _against_mask(scan: Path, mask: Path) -> tuple[float, float, float, float]:
    """Dice of the brain found, the relative errors of mean and standard deviation, and the seconds it took."""
    import torch  # here, as `--help` need not wait for it

    from common.data.intensities import brain_and_head
    from common.metrics.measures import dice
    from common.prepare.volumes import read_volume
    from scripts.prepare.labels import read_labels

    volume = read_volume(scan)
    labels = read_labels(mask, volume.grid)
    if not labels.array.any():
        raise InputError(f"{mask}: no voxel above 0; expected a brain mask")
    (image, spacing), (truth, _) = _canonical(volume), _canonical(labels)
    started = time.perf_counter()
    found = brain_and_head(torch.from_numpy(image), spacing)[0].numpy()
    seconds = time.perf_counter() - started
    mine, true = image[found], image[truth > 0]
    return dice(found, truth > 0), mine.mean() / true.mean() - 1, mine.std() / true.std() - 1, seconds


def _masks(folder: Path, mask: str) -> list[Path]:
    """The masks in a folder, without those of hidden folders."""
    found = (path for ending in (".nii.gz", ".nii") for path in folder.rglob(f"*_{mask}{ending}"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _canonical(volume: "Volume") -> tuple[np.ndarray, list[float]]:
    """The voxels in the order RAS, and their edges in mm."""
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.array.astype(np.float32), volume.affine))
    return np.ascontiguousarray(image.dataobj), [float(edge) for edge in image.header.get_zooms()]


def scans(layout: str, skull_stripped: bool, spacing: float, seed: tuple[int, ...]) -> Iterator[Scan]:
    """The scans of one subject."""
    rng = np.random.default_rng(seed)
    head = LAYOUTS[layout].head(rng, LAYOUTS[layout].grid(spacing), skull_stripped, False)
    brain, tissue = (np.zeros(head.grid.shape, bool) for _ in range(2))
    brain[head.inside] = head.depth > 0
    tissue[head.inside] = (head.fractions["GM"] + head.fractions["WM"] > TISSUE) & (head.labels == 0) & (head.depth > 0)
    for modality in LAYOUTS[layout].files:
        image = scan(rng, head, SEQUENCES[modality], AGENT).round()
        yield Scan(f"{layout}, {'brain' if skull_stripped else 'head'}", modality, image, brain, tissue)


def voxels(case: Scan, spacing: float) -> dict[str, np.ndarray]:
    """The voxels that count in each variant."""
    import torch  # here, as `--help` need not wait for it

    from common.data.intensities import brain_and_head, otsu

    return {
        "nonzero": case.image != 0,
        "otsu": case.image > otsu(case.image),
        "brain": brain_and_head(torch.from_numpy(case.image), [spacing] * 3)[0].numpy(),
        "truth": case.brain,
    }


def tissue_scale(case: Scan, counted: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of healthy tissue after a z-score over the voxels that count."""
    values, tissue = case.image[counted].astype(np.float64), case.image[case.tissue].astype(np.float64)
    return float((tissue.mean() - values.mean()) / values.std()), float(tissue.std() / values.std())


if __name__ == "__main__":
    run(main, "intensities")
