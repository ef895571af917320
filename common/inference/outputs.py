"""Results of inference: label maps from regions, files on the scans' grids, volumes, and embeddings."""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Transform

from ..data.regions import cleaned, display_order, painting_order, regions_of
from ..data.transforms import FORMS, EachKeyd, regions_in
from ..data.volumes import check_grid, read_scan, write_volume
from ..errors import InputError, show
from ..files import atomic_write, write_csv
from ..made import Results
from ..values import cleanup_of


def files_of(subject: str, output_dir: str | Path, probabilities: bool = False) -> list[Path]:
    """Return the result files of a subject: its label map and, on request, its probabilities."""
    folders = [Path(output_dir), Path(output_dir) / "probabilities"]
    return [folder / f"{subject}.nii.gz" for folder in folders[: 1 + probabilities]]


class RegionsToLabeld(EachKeyd):
    """Convert one binary channel per region [R, H, W, D] to a label map [1, H, W, D]; inner regions win."""

    def __init__(self, keys: KeysCollection, convention: str, cleanup: str | None = None) -> None:
        super().__init__(keys)
        self.convention, self.cleanup = convention, cleanup_of(cleanup) if cleanup else {}

    def convert(self, volume: torch.Tensor) -> torch.Tensor:
        label = torch.zeros_like(volume[:1], dtype=torch.uint8)
        for channel, value in painting_order(self.convention):
            label[volume[channel : channel + 1] > 0] = value
        if self.cleanup:
            voxel = float(abs(np.linalg.det(volume.affine[:3, :3].cpu().numpy())))
            label[0] = torch.from_numpy(cleaned(label[0].cpu().numpy(), self.convention, self.cleanup, voxel))
        return label


class NestRegionsd(RegionsToLabeld):
    """Make regions [R, H, W, D] consistent with each other: convert them to a label map and back.

    A network predicts each region separately, so enhancing tumour may extend beyond whole tumour. Metrics must measure
    the label map that users get.
    """

    def convert(self, volume: torch.Tensor) -> torch.Tensor:
        return regions_in(super().convert(volume), self.convention).to(volume.dtype)


class SaveVolumed(Transform):
    """Write a volume as OUTPUT_DIR/SUBJECT.nii.gz, in the geometry of its source file.

    The volume is a MetaTensor [C, x, y, z] on the grid of its source file, which `LoadScand` read; several channels
    become a fourth axis. The file gets the qform and sform of the source, bit for bit. A case without "subject" writes
    nothing: servers such as MONAI Label's write their own files.
    """

    def __init__(self, keys: str, output_dir: str, dtype: str = "uint8") -> None:
        self.key, self.folder, self.dtype = keys, Path(output_dir), np.dtype(dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        if "subject" not in data:
            return data
        volume: MetaTensor = data[self.key]
        array = volume.detach().cpu().numpy()
        voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
        (path,) = files_of(data["subject"], self.folder)
        source = Path(volume.meta.get("filename_or_obj", ""))
        if path.resolve() == source.resolve():  # a case without subject, named after it
            raise InputError(path, "a result would overwrite this scan", "another output_dir")
        scan = tuple(map(int, volume.meta["spatial_shape"])), np.asarray(volume.meta["original_affine"], dtype=float)
        check_grid(data["subject"], (voxels.shape[:3], np.asarray(volume.affine, dtype=float)), scan, "its scan")
        write_volume(path, voxels.astype(self.dtype), volume.meta[FORMS], is_label=self.dtype == np.uint8)
        return data


class Volumes:
    """Handler that records each segmented case in `results` and, at the end of a run, writes volumes.csv beside them.

    `cases` are those of the run; they lose their earlier stamps before it.
    """

    def __init__(self, convention: str, results: Results, cases: Sequence[Mapping[str, Any]]) -> None:
        self.convention, self.results, self.done = convention, results, 0
        self.scans = {case["subject"]: case["image"] for case in cases}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: self.results.begin(self.scans))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _add(self, engine: Engine) -> None:
        self.results.add({item["subject"]: self.scans[item["subject"]] for item in engine.state.batch})
        self.done += len(engine.state.batch)

    def _write(self, engine: Engine) -> None:
        write_volumes(self.results.folder, self.convention, self.results.inputs)
        count = f"{self.done} of {engine.state.epoch_length} subjects"
        show(f"segmented: {count}; label maps and volumes.csv in {self.results.folder.resolve()}")


def write_volumes(folder: Path, convention: str, subjects: Iterable[str]) -> None:
    """Write FOLDER/volumes.csv: volume_ml and voxels of each region in the label maps of these subjects."""

    def count(subject: str) -> tuple[str, float, Any]:
        """Return the subject, the volume of a voxel in ml, and the number of voxels of each label."""
        scan, labels = read_scan(files_of(subject, folder)[0])
        counts = np.bincount(np.rint(labels).astype(int).ravel(), minlength=256)  # hand-edited ones may be float
        return subject, abs(np.linalg.det(scan.affine[:3, :3])) / 1000, counts

    rows, regions = [("subject", "region", "volume_ml", "voxels")], regions_of(convention)
    with ThreadPoolExecutor() as pool:
        for subject, voxel, counts in pool.map(count, sorted(subjects)):
            for region in display_order(regions):
                voxels = counts[[*regions[region]]].sum()
                rows.append((subject, region, f"{voxels * voxel:.6g}", str(voxels)))
    write_csv(folder / "volumes.csv", rows)


class EmbeddingFile:
    """Handler that writes the embeddings of a run, a vector per subject, to OUTPUT_DIR/embeddings.npz at its end.

    The arrays are "subject" [N] (text, in alphabetical order), "split" [N] (text), "settings" (JSON text) and
    "embedding" [N, E], float32, of `EmbeddingInferer`. An existing file is an `InputError`, unless `existing` is
    replace.
    """

    def __init__(
        self, output_dir: str, settings: Mapping[str, Any], splits: Mapping[str, str], existing: str = "refuse"
    ) -> None:
        self.path, self.settings, self.splits = Path(output_dir) / "embeddings.npz", dict(settings), splits
        if existing != "replace" and self.path.exists():
            raise InputError(self.path, "exists already", "existing=replace, or another output_dir")
        self.vectors: dict[str, np.ndarray] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._gather)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _gather(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            self.vectors[item["subject"]] = output["pred"]["embedding"].cpu().numpy()

    def _write(self, engine: Engine) -> None:
        if not self.vectors:
            return
        subjects, vectors = zip(*sorted(self.vectors.items()), strict=True)
        arrays = {
            "subject": np.array(subjects),
            "split": np.array([self.splits.get(subject, "") for subject in subjects]),
            "settings": np.array(json.dumps(self.settings, sort_keys=True)),
            "embedding": np.stack(vectors),
        }
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy takes them for its own options
        show(f"embedded: {len(subjects)} of {engine.state.epoch_length} subjects in {self.path.resolve()}")
