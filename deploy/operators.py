"""The operators of the application: from the files of the chosen series to the result files.

The method names are MONAI Deploy's: an operator declares its ports in `setup`; `compute` runs when its inputs arrive.
"""

import json
from dataclasses import dataclass
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Fragment, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator
from pydicom.dataset import Dataset

from common.cli import options_of
from common.data.preparation import PREPARATION_CHECKS
from common.errors import InputError
from common.prepare.resampling import resample
from common.prepare.volumes import Volume
from deploy.geometry import volume_of
from deploy.inference import infer
from deploy.job import Job
from deploy.measurements import make_report
from deploy.preconditions import annotation_checks, failed_checks, spacing_remarks
from deploy.preparation import Preparation, prepare_scans
from deploy.results import MEASUREMENTS, REPORT, SEGMENTATION, SUMMARY
from deploy.segmentation import label_segments, make_segmentation
from deploy.source_header import burned_in_annotation
from deploy.summary import Summary, draw_summary, make_capture, segment_volumes

__all__ = ["SegmentationApplication", "SelectChosenSeries"]


@dataclass(frozen=True)
class Scans:
    """The scans of a study.

    Attributes:
        aligned: modality -> volume, all on one grid: that of the reference or, if they were prepared, the model's.
        reference: the volume on whose grid the result lies, as it was scanned.
        slices: modality -> its slices in the order of the last axis of the volume as it was scanned.
        preparation: how they were prepared, if they were.
    """

    aligned: dict[str, Volume]
    reference: Volume
    slices: dict[str, list[Dataset]]
    preparation: Preparation | None


class SelectChosenSeries(DICOMSeriesSelectorOperator):
    """Assign the loaded series to their modalities, and check that the loader has kept every image.

    The choice was made before anything was loaded (series_choice.py), because the selector's rule language can express
    neither "T1 without contrast agent" nor "exactly one". The loader silently drops images that it cannot read, and
    all but one of those with the same position.
    """

    def __init__(self, fragment: Fragment, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)

    def filter(  # MONAI Deploy's method
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
                    f"{series.name}: {count} of {series.count} images could be loaded; expected all, each at a "
                    "different position"
                )
            selected.add_selected_series(SelectedSeries(modality, found))
        return [selected]


class JobOperator(Operator):
    """An operator that works on a job."""

    def __init__(self, fragment: Fragment, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job = job
        super().__init__(fragment, *args, **kwargs)


class Prepare(JobOperator):
    """Convert the series to volumes on one grid, prepare them if the user wants that, and check the preconditions."""

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
        if self.job.prepare:
            volumes, preparation = prepare_scans(volumes, self.job.chosen, self.job.bundle.task, self.job.reference)
            scans = Scans(volumes, reference, slices, preparation)
        else:
            aligned = {modality: resample(volume, reference.grid) for modality, volume in volumes.items()}
            scans = Scans(aligned, reference, slices, None)
        self._check(volumes, scans)
        op_output.emit(scans, "scans")

    def _check(self, volumes: dict[str, Volume], scans: Scans) -> None:
        job = self.job
        failed = annotation_checks(scans.slices)
        task = job.bundle.task
        failed += failed_checks(volumes, scans.aligned, job.reference, task.skull_stripped, task.in_mni_space)
        if failed and not job.force:
            mend = "" if job.prepare else "--prepare prepares scans, "
            text = "; ".join(failed)
            raise InputError(f"{text}. See deploy/README.md, Preconditions; {mend}--force continues anyway")
        job.remarks += [] if scans.preparation is None else scans.preparation.remarks
        job.remarks += [*failed, *spacing_remarks(scans.aligned[job.reference], job.bundle.spacing)]


class Infer(JobOperator):
    """Segment the scans with the bundle's own inference."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("scans")
        spec.output("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scans = op_input.receive("scans")
        job = self.job
        label = infer(job.bundle, scans.aligned, job.work, inference_options(job))
        segments = label_segments(label, job.bundle.task.segments)
        if scans.preparation is not None:
            segments = scans.preparation.segments_on(scans.reference.grid, segments)
        op_output.emit((scans, segments), "case")


def inference_options(job: Job) -> list[str]:
    """The options of the bundle's inference: the user's, and what its own check of a scan's preparation accepts.

    That is the spacing, which causes a remark here (`spacing_remarks`), unless the user says otherwise, or with --force
    everything.
    """
    is_given = "accept" in options_of(job.options)[1]
    if "accept" not in job.bundle.options or (is_given and not job.force):
        return [*job.options]
    accepted = PREPARATION_CHECKS if job.force else ("spacing",)
    return [*job.options, f"--accept=[{','.join(accepted)}]"]


class Write(JobOperator):
    """Write the result files into the job's folder."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scans, segments = op_input.receive("case")
        job, bundle = self.job, self.job.bundle
        volume = scans.reference
        labels = [segment.label for segment in bundle.task.segments]
        volumes = segment_volumes(segments, labels, volume.voxel_volume)
        colours = [segment.colour for segment in bundle.task.segments]
        preparation = scans.preparation
        figures = [] if preparation is None else preparation.lines
        summary = Summary(bundle.name, bundle.version, volumes, colours, job.remarks, figures, bundle.trained_on)
        slices = scans.slices[job.reference]
        burned_in = burned_in_annotation(image for series in scans.slices.values() for image in series)
        objects = {"segmentation": make_segmentation(segments, slices, bundle, burned_in)}
        objects["measurements"] = make_report(volumes, objects["segmentation"], slices, bundle, job.remarks)
        objects["summary"] = make_capture(draw_summary(volume, segments, summary), slices[0], summary, burned_in)
        for name, file in zip(objects, (SEGMENTATION, MEASUREMENTS, SUMMARY), strict=True):
            objects[name].save_as(job.results / file)
        report = self._report(volumes, objects, preparation)
        (job.results / REPORT).write_text(json.dumps(report, indent=1) + "\n")

    def _report(
        self, volumes: dict[str, float], objects: dict[str, Dataset], preparation: Preparation | None
    ) -> dict[str, Any]:
        """The content of result.json."""
        job, bundle = self.job, self.job.bundle
        return {
            "model": {
                "name": bundle.name,
                "version": bundle.version,
                "checkpoint_sha256": bundle.checkpoint_sha256,
                "trained_on": bundle.trained_on,
            },
            "series": {modality: series.number for modality, series in job.chosen.items()},
            "sources": {
                modality: {"series_uid": series.uid, "images": series.count} for modality, series in job.chosen.items()
            },
            "evidence": {modality: series.reason for modality, series in job.chosen.items()},
            "reference": job.reference,
            "volumes_ml": {label: round(volume, 3) for label, volume in volumes.items()},
            "remarks": job.remarks,
            "preparation": None if preparation is None else preparation.record(),
            **{name: _uids(written) for name, written in objects.items()},
        }


def _uids(image: Dataset) -> dict[str, str]:
    return {"sop_instance_uid": image.SOPInstanceUID, "series_uid": image.SeriesInstanceUID}


class SegmentationApplication(Application):
    """Makes the result files from the files of the chosen series."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__([__file__])  # no arguments: MONAI Deploy must not parse our command line

    def compose(self) -> None:
        """Connect the operators."""
        job = self.job
        load = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=job.staged, name="load")
        select = SelectChosenSeries(self, job=job, name="select")
        prepare = Prepare(self, job=job, name="prepare")
        segment = Infer(self, job=job, name="infer")
        write = Write(self, job=job, name="write")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, prepare, {("study_selected_series_list", "series")})
        self.add_flow(prepare, segment, {("scans", "scans")})
        self.add_flow(segment, write, {("case", "case")})
