"""Write the results of inference in the geometry of the scans: label maps, probabilities and a table of volumes."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Transform

from ..data.preparation import BRAIN
from ..data.regions import display_order, regions_of
from ..data.scan_checks import broken_file, check_grid
from ..data.transforms import FORMS
from ..data.volumes import affine_in, write_volume
from ..errors import show
from ..files import write_csv
from ..made import MADE, Results
from .tables import COLUMNS, VOLUMES, files_of, rows_of, write_label_tables


def complete(files: Mapping[str, Sequence[Path]]) -> set[str]:
    """Return the subjects whose result files all exist and can be read to the end; print damaged files."""
    candidates = [subject for subject in files if all(path.exists() for path in files[subject])]
    with ThreadPoolExecutor() as pool:
        broken = dict(zip(candidates, pool.map(lambda subject: broken_file(files[subject]), candidates), strict=True))
    show(*(f"damaged result, to be replaced: {faulty}" for faulty in broken.values() if faulty))
    return {subject for subject in candidates if not broken[subject]}


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
        self._has_tables = False

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
        if self.convention is not None and not self._has_tables:
            write_label_tables(self.folder, self.convention)
            self._has_tables = True
        return data


class Volumes:
    """Measure segmented regions: write OUTPUT_DIR/volumes.csv (subject, region, volume_ml, voxels) after each case.

    Earlier rows stay. With `results`, a run first removes the rows of its `cases` and rows that `results` lacks. If no
    row is left, the run leaves neither table nor record.

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
        self.results = results
        self.scans = {case["subject"]: case["image"] for case in cases}
        self.path = Path(output_dir) / VOLUMES
        values = regions_of(convention)
        self.regions = {name: values[name] for name in display_order(values)}
        self.rows = rows_of(self.path)
        self.measured: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Measure "pred" in the output of `engine`: label maps [1, x, y, z] with their affine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self.results is not None:
            engine.add_event_handler(Events.STARTED, self._begin, self.results)
            engine.add_event_handler(Events.COMPLETED, self._end, self.results)

    def _begin(self, results: Results) -> None:
        before = len(self.rows)
        self.keep(results.inputs.keys() - self.scans.keys())
        if len(self.rows) < before:
            self.write()
        results.begin(self.scans.keys())

    def _end(self, results: Results) -> None:
        if not self.rows:  # all cases failed
            for path in (self.path, results.folder / MADE):
                path.unlink(missing_ok=True)

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
        volumes = {
            region: median(float(self.rows[subject, region][0]) for subject in self.measured) for region in self.regions
        }
        shown = ", ".join(f"{region} {volume:.1f} ml" for region, volume in volumes.items())
        return [f"{subjects_of(self.measured, engine)} segmented; median volume: {shown}"]


def subjects_of(done: Collection[str], engine: Engine) -> str:
    """Describe the number of processed subjects, with the total if some failed; each batch is a subject."""
    cases = engine.state.epoch_length
    return (
        f"{len(done)} {'subject' if cases == 1 else 'subjects'}"
        if len(done) == cases
        else f"{len(done)} of {cases} subjects"
    )
