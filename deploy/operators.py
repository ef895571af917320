"""The operators of the application: from the files of the chosen series to the DICOM objects that are handed back.

The names are MONAI Deploy's: an operator declares its ports in `setup`, and `compute` runs when inputs have arrived.
"""

import json
from dataclasses import dataclass
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator
from pydicom.dataset import Dataset

from common.preflight import InputError
from deploy.bundle import infer
from deploy.geometry import Volume, resample, volume_of
from deploy.job import RESULTS, Job
from deploy.preconditions import coarse, findings
from deploy.segmentation import label_segments, write_segmentation
from deploy.summary import Summary, draw, volumes_of, write_capture

__all__ = ["SegmentationApplication"]

ALIGNMENT = "least_overlap"  # the bundle's own check of registration, which force has to switch off


@dataclass(frozen=True)
class Scans:
    """All modalities on the grid of the reference, whose slices are in the order of the volumes' last axis."""

    aligned: dict[str, Volume]
    slices: list[Dataset]


class SelectChosenSeries(DICOMSeriesSelectorOperator):
    """Name the series that were loaded by their modality.

    The rules have decided before anything was loaded (deploy/dicom_series.py): the selector's own language has neither
    "T1 unless there was contrast agent" nor "exactly one". What is left is to find out whether the loader has dropped
    an image, which it does in silence where it cannot read one, or where two are at one place.
    """

    def __init__(self, fragment: Application, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def filter(  # the name is MONAI Deploy's
        self,
        selection_rules: Any,
        dicom_study_list: list[DICOMStudy],
        all_matched: bool = False,
        sort_by_sop_instance_count: bool = False,
    ) -> list[StudySelectedSeries]:
        loaded = {series.SeriesInstanceUID: series for study in dicom_study_list for series in study.get_all_series()}
        selected = StudySelectedSeries(dicom_study_list[0])
        for modality, series in self.job.chosen.items():
            found: DICOMSeries | None = loaded.get(series.uid)
            count = len(found.get_sop_instances()) if found else 0
            if found is None or count != series.count:
                raise InputError(
                    f"{series.name}: {count} of {series.count} images could be loaded; expected all, each at "
                    "a place of its own"
                )
            selected.add_selected_series(SelectedSeries(modality, found))
        return [selected]


class Prepare(Operator):
    """Series -> volumes on one grid; preconditions are checked."""

    def __init__(self, fragment: Application, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("series")
        spec.output("scans")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        (selected,) = op_input.receive("series")
        volumes, slices = {}, {}
        for modality, (series,) in selected.series_by_selection_name.items():
            images = [instance.get_native_sop_instance() for instance in series.series.get_sop_instances()]
            volumes[modality], slices[modality] = volume_of(images, self.job.chosen[modality].name)
        reference = volumes[self.job.reference]
        aligned = {modality: resample(volume, reference) for modality, volume in volumes.items()}
        self._check(volumes, aligned)
        op_output.emit(Scans(aligned, slices[self.job.reference]), "scans")

    def _check(self, volumes: dict[str, Volume], aligned: dict[str, Volume]) -> None:
        job = self.job
        found = findings(volumes, aligned, job.reference, job.bundle.task.skull_stripped)
        if found and not job.force:
            raise InputError(f"{'; '.join(found)}. See README.md, Preconditions; --force goes on all the same")
        job.remarks += [*found, *coarse(volumes[job.reference])]


class Infer(Operator):
    """Volumes -> segments, by the bundle's own inference."""

    def __init__(self, fragment: Application, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("scans")
        spec.output("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scans = op_input.receive("scans")
        options = [*self.job.options]
        if self.job.force and ALIGNMENT in self.job.bundle.settings:
            options.append(f"--{ALIGNMENT}=0")
        label = infer(self.job.bundle, scans.aligned, self.job.work, options)
        op_output.emit((scans, label_segments(label, self.job.bundle.task.segments)), "case")


class Write(Operator):
    """Segments -> DICOM segmentation, summary and result.json, in the job's folder for results."""

    def __init__(self, fragment: Application, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scans, segments = op_input.receive("case")
        job, bundle = self.job, self.job.bundle
        volume = scans.aligned[job.reference]
        labels = [segment.label for segment in bundle.task.segments]
        volumes = volumes_of(segments, labels, volume.voxel)
        summary = Summary(bundle.name, bundle.version, volumes, job.remarks)
        written = write_segmentation(segments, scans.slices, bundle)
        written.save_as(job.results / RESULTS[0])
        capture = write_capture(draw(volume, segments, summary), scans.slices[0], summary)
        capture.save_as(job.results / RESULTS[1])
        result = {
            "model": {"name": bundle.name, "version": bundle.version, "checkpoint_sha256": bundle.digest},
            "series": {modality: series.number for modality, series in job.chosen.items()},
            "reference": job.reference,
            "volumes_ml": {label: round(amount, 3) for label, amount in volumes.items()},
            "remarks": job.remarks,
            "segmentation": {"sop_instance_uid": written.SOPInstanceUID, "series_uid": written.SeriesInstanceUID},
            "summary": {"sop_instance_uid": capture.SOPInstanceUID, "series_uid": capture.SeriesInstanceUID},
        }
        (job.results / RESULTS[2]).write_text(json.dumps(result, indent=1) + "\n")


class SegmentationApplication(Application):
    """Files of the chosen series -> DICOM segmentation and summary."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__([__file__])  # no arguments: the command line is not MONAI Deploy's

    def compose(self) -> None:
        """Who hands what to whom."""
        job = self.job
        load = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=job.staged, name="load")
        select = SelectChosenSeries(self, job=job, name="select")
        prepare = Prepare(self, job=job, name="prepare")
        infer_ = Infer(self, job=job, name="infer")
        write = Write(self, job=job, name="write")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, prepare, {("study_selected_series_list", "series")})
        self.add_flow(prepare, infer_, {("scans", "scans")})
        self.add_flow(infer_, write, {("case", "case")})
