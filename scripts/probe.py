"""Linear probe of embeddings: `python -m scripts.probe FILE.npz ... --datalist=F.json --dataset_dir=D`.

Ridge regression predicts the volume of each region of the labels from each file's vectors. To compare two checkpoints,
give their files for the same subjects.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.bars import tqdm
from common.cli import run
from common.data.datalists import Datalist
from common.errors import InputError, show
from common.files import write_json
from common.inference.masks import masks_of
from common.inference.results import CaseFiles

Floats = NDArray[np.float64]
PENALTIES = np.logspace(-2, 6, 17)
FOLDS, REPEATS, RESAMPLES = 5, 10, 2000  # of the cross-validation; of the bootstrap


def probe(*embeddings: str, datalist: str, dataset_dir: str, output: str | None = None) -> None:
    """Print how well a linear model predicts each region's volume from embeddings: R2 and its 95 % interval.

    The target is log(1 + volume in mL). Vectors are standardised. A five-fold cross-validation predicts each subject by
    models of the other folds, the penalty chosen within them; the predictions of ten repeats are averaged. R2 is 1 for
    exact predictions, 0 for those no better than the mean, below 0 for worse ones. The interval is a bootstrap's over
    subjects. A datalist does not say which subjects are visits of one person: give it one of each.

    Args:
        embeddings: files that inference.yaml of an SSL bundle wrote, all of the same subjects.
        datalist: has the labels.
        dataset_dir: folder that the datalist's paths start from.
        output: JSON file for the figures.
    """
    if not embeddings:
        raise InputError("no embeddings; expected embeddings.npz of one network or several")
    files = {str(file): _read(str(file)) for file in embeddings}
    first, subjects = next((file, subjects) for file, (subjects, _) in files.items())
    for file, (others, _) in files.items():
        if list(others) != list(subjects):
            raise InputError(f"{file}: other subjects ({len(others)}) than {first} ({len(subjects)})")
    if len(subjects) < 2 * FOLDS:
        raise InputError(f"{first}: {len(subjects)} subjects; expected {2 * FOLDS} at least")
    targets = _log_volumes(Datalist(datalist, dataset_dir), subjects)
    show(f"{len(subjects)} subjects; R2 of log(1 + mL) and its 95 % interval")
    found: dict[str, dict[str, tuple[float, float, float]]] = {file: {} for file in files}
    for file, (_, vectors) in files.items():
        for region, volumes in targets.items():
            predicted = np.mean([out_of_fold(vectors, volumes, repeat) for repeat in range(REPEATS)], axis=0)
            found[file][region] = middle, low, high = r_squared(predicted, volumes)
            show(f"{file}  {region:<4} {middle:6.3f} [{low:.3f}, {high:.3f}]")
    if output is not None:
        write_json(output, {"subjects": len(subjects), "r2": found})


def out_of_fold(vectors: Floats, targets: Floats, seed: int) -> Floats:
    """Predict targets [N] from vectors [N, C] by ridge regressions that have not seen the predicted subject."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    predicted: Floats = cross_val_predict(model, vectors, targets, cv=KFold(FOLDS, shuffle=True, random_state=seed))
    return predicted


def r_squared(predicted: Floats, targets: Floats) -> tuple[float, float, float]:
    """R2 of predictions [N] for targets [N], and its 95 % bootstrap interval."""
    rng, places = np.random.default_rng(0), np.arange(len(targets))
    samples = [places, *(rng.choice(places, len(places)) for _ in range(RESAMPLES))]
    middle, *resampled = (
        1 - np.sum((targets[chosen] - predicted[chosen]) ** 2) / np.sum((targets[chosen] - targets[chosen].mean()) ** 2)
        for chosen in samples
        if np.ptp(targets[chosen])
    )
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(middle), float(low), float(high)


def _read(file: str) -> tuple[Sequence[str], Floats]:
    """Read subjects and vectors from a file of `common.inference.EmbeddingFile`."""
    try:
        with np.load(Path(file).expanduser(), allow_pickle=False) as arrays:
            subjects, vectors = arrays["subject"].tolist(), arrays["embedding"].astype(float)
    except Exception as error:  # numpy raises many kinds of errors for invalid files
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: {reason}; expected embeddings.npz of an embedding run") from error
    if vectors.ndim != 2 or len(vectors) != len(subjects) or not np.isfinite(vectors).all():
        raise InputError(f"{file}: vectors of shape {vectors.shape}; expected a row of finite values for each subject")
    return subjects, vectors


def _log_volumes(data: Datalist, subjects: Sequence[str]) -> dict[str, Floats]:
    """log(1 + mL) of each region, without regions that are the same in all subjects."""
    convention = data.convention
    if convention is None:
        raise InputError(f"datalist {data.path}: no labels; expected some, whose volumes are predicted")
    labels: dict[str, str] = {}
    for split in sorted(set(data.splits.values()) - {"unlabelled"}):
        labels |= {entry["subject"]: entry["label"] for entry in data.load(split, label_convention=convention)}
    if missing := [subject for subject in subjects if subject not in labels]:
        raise InputError(f"datalist {data.path}: subject {missing[0]} of the embeddings has no label")
    volumes: dict[str, list[float]] = {}
    for subject in tqdm(subjects, unit="subject", desc="volumes", leave=False):
        masks = masks_of(CaseFiles(subject, None, Path(labels[subject]), None), convention)
        voxel = abs(np.linalg.det(masks.affine[:3, :3])) / 1000  # mL
        for region, mask in masks.references.items():
            volumes.setdefault(region, []).append(np.log1p(voxel * mask.sum()))
    found = {region: np.array(values) for region, values in volumes.items()}
    return {region: values for region, values in found.items() if np.ptp(values)}


if __name__ == "__main__":
    run(probe, "probe")
