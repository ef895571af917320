"""The segmentations that an inference leaves, in the geometry of its scans: label maps, probabilities and volumes."""

import csv
import gzip
import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Transform

from common.files import whole
from common.preflight import InputError
from common.results import REGIONS
from common.transforms import regions

__all__ = ["SaveVolumed", "Volumes", "files_of", "finished"]

VOLUMES = "volumes.csv"
COLUMNS = ["subject", "region", "volume_ml", "voxels"]


def files_of(subject: str, output_dir: str | Path, probabilities: bool = False) -> list[Path]:
    """The files that a subject gets: its label map and, by option, its probabilities.

    Example:
        >>> [path.as_posix() for path in files_of("P1", "out", probabilities=True)]
        ['out/P1.nii.gz', 'out/probabilities/P1.nii.gz']
    """
    name = f"{subject}.nii.gz"
    label = Path(output_dir) / name
    return [label, Path(output_dir) / "probabilities" / name] if probabilities else [label]


def finished(files: Mapping[str, Sequence[Path]], output_dir: str | Path) -> set[str]:
    """The subjects that want nothing any more: all their files are there, and their lines in volumes.csv.

    Args:
        files: of each subject; see `files_of`.
        output_dir: folder of volumes.csv.

    Raises:
        InputError: volumes.csv is not such a table.
    """
    measured = {subject for subject, _ in _rows(Path(output_dir) / VOLUMES)}
    return {subject for subject, paths in files.items() if subject in measured and all(path.exists() for path in paths)}


class SaveVolumed(Transform):
    """Write a volume as OUTPUT_DIR/SUBJECT.nii.gz, whole or not at all, in the geometry of the file that was read.

    Shape, affine, and the codes that say which space the affine leads to are those of the subject's first image.

    Args:
        keys: of the volume, a MetaTensor [C, x, y, z] in the geometry of its file; several channels make a fourth axis.
        output_dir: folder.
        dtype: of the voxels, such as uint8.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, keys: str, output_dir: str, dtype: str = "uint8") -> None:
        self.key, self.folder, self.dtype = keys, Path(output_dir), np.dtype(dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        volume: MetaTensor = data[self.key]
        path = self.folder / f"{data['subject']}.nii.gz"
        array = volume.detach().cpu().numpy()
        voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
        image = nibabel.Nifti1Image(voxels.astype(self.dtype), None)
        _copy_geometry(image, volume)
        with whole(path) as file:
            # level 6: a label map of a brain in a tenth of a second; no name and no time in the header
            file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
        return data


def _copy_geometry(image: nibabel.Nifti1Image, volume: MetaTensor) -> None:
    affine = np.asarray(volume.affine, dtype=float)
    source = nibabel.load(volume.meta["filename_or_obj"])
    codes = (1, 1)  # scanner space
    if isinstance(source, nibabel.Nifti1Image):
        codes = int(source.header["qform_code"]), int(source.header["sform_code"])
    image.set_sform(affine, code=codes[1] if any(codes) else 2, update_affine=False)
    image.set_qform(affine, code=codes[0])  # and now the image's affine is the header's: nibabel keeps the codes
    image.header.set_xyzt_units("mm")


def _rows(table: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Volume and voxels by subject and region, of a table that is there; of none, nothing."""
    if not table.exists():
        return {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{table}: {error}; expected no such file, or one of an inference") from error
    if header != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise InputError(f"{table}: not of an inference; expected no such file, or the columns {', '.join(COLUMNS)}")
    return {(subject, region): (volume, voxels) for subject, region, volume, voxels in lines}


class Volumes:
    """Write OUTPUT_DIR/volumes.csv: subject, region, volume_ml, voxels; whole again after each case.

    Lines of other subjects that are there, from an earlier run, stay.

    Args:
        output_dir: folder.
        convention: of the label maps.

    Raises:
        InputError: a file of that name is there that is not such a table.
    """

    def __init__(self, output_dir: str, convention: str) -> None:
        self.path = Path(output_dir) / VOLUMES
        values = regions(convention)
        self.regions = {name: values[name] for name in REGIONS if name in values}
        self.rows = _rows(self.path)

    def attach(self, engine: Engine) -> None:
        """Measure the output of `engine`: "pred", label maps [1, x, y, z] that know their affine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch if engine.state.output else [], strict=True):
            label = output["pred"]
            voxel = abs(np.linalg.det(np.asarray(label.affine, dtype=float)[:3, :3])) / 1000  # ml
            counts = torch.bincount(torch.as_tensor(label).flatten().long(), minlength=8).tolist()
            for region, values in self.regions.items():
                voxels = sum(counts[value] for value in values)
                self.rows[item["subject"], region] = f"{voxels * voxel:.6g}", str(voxels)
        content = io.StringIO()
        rows = [(*key, *figures) for key, figures in self.rows.items()]
        csv.writer(content, lineterminator="\n").writerows([COLUMNS, *rows])
        with whole(self.path) as file:
            file.write_text(content.getvalue(), encoding="utf-8")
