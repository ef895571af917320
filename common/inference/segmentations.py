"""Write the results of inference in the geometry of the scans: label maps, probabilities and a table of volumes."""

import csv
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Transform

from ..data.preparation import BRAIN
from ..data.regions import display_order, label_names, regions_of
from ..data.scan_checks import check_grid
from ..data.transforms import FORMS
from ..data.volumes import affine_in, write_volume
from ..errors import InputError, show
from ..files import atomic_write, write_csv
from ..made import Results

COLUMNS = ("subject", "region", "volume_ml", "voxels")


def files_of(subject: str, output_dir: str | Path, probabilities: bool = False) -> list[Path]:
    """Return the result files of a subject: its label map and, on request, its probabilities.

    Example:
        >>> [path.as_posix() for path in files_of("P1", "out", probabilities=True)]
        ['out/P1.nii.gz', 'out/probabilities/P1.nii.gz']
    """
    folders = [Path(output_dir), Path(output_dir) / "probabilities"]
    return [folder / f"{subject}.nii.gz" for folder in folders[: 1 + probabilities]]


class SaveVolumed(Transform):
    """Write a volume as OUTPUT_DIR/SUBJECT.nii.gz, in the geometry of its source file.

    The file is written atomically, with the qform and sform of the subject's first image, bit for bit
    (`common.data.volumes.forms_of`). A case without "subject" writes nothing, because servers such as MONAI Label's
    write their own files.

    Args:
        keys: Key of the volume, a MetaTensor [C, x, y, z] in the geometry of its source file, which `LoadScand` read;
            several channels become a fourth axis.
        output_dir: Folder of the files.
        dtype: Data type of the voxels, such as uint8.
        convention: Label convention of a label map, for tables of names and colours in the folder; None: no label map.

    Raises:
        InputError: the volume is not on the grid of its source file, or the file cannot be written.
    """

    def __init__(self, keys: str, output_dir: str, dtype: str = "uint8", convention: str | None = None) -> None:
        self.key, self.folder, self.dtype, self.convention = keys, Path(output_dir), np.dtype(dtype), convention
        self._has_tables = convention is None

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        if "subject" not in data:
            return data
        volume: MetaTensor = data[self.key]
        array = volume.detach().cpu().numpy()
        voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
        (path,) = files_of(data["subject"], self.folder)
        forms, shape = volume.meta[FORMS]
        grid = voxels.shape[:3], np.asarray(volume.affine, dtype=float)
        check_grid(data["subject"], grid, (tuple(map(int, shape)), affine_in(forms)), "its scan")
        write_volume(path, voxels.astype(self.dtype), forms, is_label=self.convention is not None)
        if not self._has_tables:
            write_label_tables(self.folder, str(self.convention))
            self._has_tables = True
        return data


class Volumes:
    """Measure segmented regions: write OUTPUT_DIR/volumes.csv (subject, region, volume_ml, voxels) after each case.

    Earlier rows stay. With `results`, a run first removes the rows of its `cases` and rows that `results` lacks.

    Args:
        output_dir: Folder of the table.
        convention: Label convention of the label maps.
        results: Record of the results in the folder, updated after each case; None: no record.
        cases: Cases of the run, with their scans.

    Raises:
        InputError: the existing file is a different table.
    """

    def __init__(
        self, output_dir: str, convention: str, results: Results | None = None, cases: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.results, self.path, values = results, Path(output_dir) / "volumes.csv", regions_of(convention)
        self.scans = {case["subject"]: case["image"] for case in cases}
        self.regions = {name: values[name] for name in display_order(values)}
        self.rows: dict[tuple[str, str], tuple[str, str]] = {}
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                header, *rows = list(csv.reader(file)) or [[]]
            if tuple(header) != COLUMNS:
                raise InputError(self.path, "unexpected header row", f"the columns {', '.join(COLUMNS)}")
            self.rows = {(subject, region): (volume, voxels) for subject, region, volume, voxels in rows}
        self.measured: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Measure "pred" in the output of `engine`: label maps [1, x, y, z] with their affine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self.results is not None:
            engine.add_event_handler(Events.STARTED, self._begin, self.results)

    def _begin(self, results: Results) -> None:
        self.keep(results.inputs.keys() - self.scans.keys())
        if self.path.exists():
            self.write()  # before the new weights are stated
        results.begin(self.scans.keys())

    def __call__(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            self.measured.append(item["subject"])
            self.measure(item["subject"], output["pred"], output["pred"].affine)
        self.write()
        if self.results is not None:
            self.results.add({item["subject"]: self.scans[item["subject"]] for item in engine.state.batch})

    def measure(self, subject: str, label: Any, affine: Any) -> None:
        """Add the rows of a label map (0 to 255, any shape); the affine maps voxels to mm."""
        voxel = abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3])) / 1000  # ml
        counts = torch.bincount(torch.as_tensor(label).flatten().long(), minlength=256).tolist()
        for region, values in self.regions.items():
            voxels = sum(counts[value] for value in values)
            self.rows[subject, region] = f"{voxels * voxel:.6g}", str(voxels)
            if voxels * voxel > 1000 * BRAIN:
                show(f"warning: subject {subject}: {voxels * voxel:.0f} ml of {region}, more than a brain", error=True)

    def keep(self, subjects: Collection[str]) -> None:
        """Keep only the rows of these subjects."""
        self.rows = {(subject, region): row for (subject, region), row in self.rows.items() if subject in subjects}

    def write(self) -> None:
        write_csv(self.path, [COLUMNS, *((*key, *figures) for key, figures in self.rows.items())])

    def figures(self, engine: Engine) -> list[str]:
        """Return the summary line of a run: the number of subjects and their median volumes; none without subjects."""
        if not self.measured:
            return []
        volumes = [
            f"{region} {median(float(self.rows[subject, region][0]) for subject in self.measured):.1f} ml"
            for region in self.regions
        ]
        cases = engine.state.epoch_length  # a case in each batch
        return [f"segmented: {len(self.measured)} of {cases} subjects; median volume: {', '.join(volumes)}"]


def write_label_tables(folder: str | Path, convention: str) -> None:
    """Write names and colours of label values for BIDS, 3D Slicer and ITK-SNAP; warn if earlier tables differ.

    Formats: BIDS 1.10 (image-derived labels), Slicer's colour tables (no blanks), ITK-SNAP's label descriptions.
    """
    tsv, ctbl = ["index\tname\tcolor"], ["# Color table file", "0 background 0 0 0 0"]
    snap = ["# ITK-SNAP Label Description File", "# IDX -R- -G- -B- -A- VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    for label, (name, colour) in label_names(convention).items():
        red, green, blue = bytes.fromhex(colour[1:])
        tsv.append(f"{label}\t{name}\t{colour}")
        ctbl.append(f"{label} {name.replace(' ', '_')} {red} {green} {blue} 255")
        snap.append(f'{label} {red} {green} {blue} 1 1 1 "{name}"')
    earlier = Path(folder) / "dseg.tsv"
    if earlier.is_file() and earlier.read_text(encoding="utf-8", errors="replace").splitlines() != tsv:
        problem = "label maps of earlier runs follow a different label convention"
        show(f"warning: {folder}: {problem}; expected a different folder", error=True)
    for file, lines in {"dseg.tsv": tsv, "slicer.ctbl": ctbl, "itksnap.txt": snap}.items():
        with atomic_write(Path(folder) / file) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
