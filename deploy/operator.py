"""The MONAI Deploy application and its operator, which makes the result files of the chosen series.

MONAI Deploy's own operators are not used; docs/explanation/architecture.md lists their faults.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from common.data.preparation import PREPARATION_CHECKS, without_background
from common.errors import InputError
from common.files import write_json
from common.values import optional
from deploy.bundle import named
from deploy.dicom.geometry import read_series
from deploy.dicom.series.choice import HELD, Remark
from deploy.inference import infer
from deploy.job import REPORT, Job
from deploy.outputs import Case, label_segments, make_all
from deploy.preparation import Preparation, damaged_series, failed_checks, prepare_scans, spacing_remarks
from deploy.source_header import burned_in_annotation
from scripts.cohorts import COHORTS
from scripts.prepare.volumes import Volume, resample


class Scans(NamedTuple):
    """The scans of a study, aligned for the model and as acquired."""

    aligned: dict[str, Volume]  # on the reference's grid or, if prepared, the model's
    reference: Volume  # as acquired
    slices: dict[str, list[Dataset]]  # by modality, in the order of the volume's last axis
    preparation: Preparation | None


class SegmentationOperator(Operator):
    """Segment the scans of the job at `self.fragment.job`, and write the result files into its folder."""

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        job: Job = self.fragment.job
        scans = _prepare(job)
        _write(job, scans, _segment(job, scans))


def _prepare(job: Job) -> Scans:
    """Read the series, prepare them (if requested) or resample them to one grid, and check the preconditions."""
    volumes, slices = {}, {}
    for modality, series in job.choice.series.items():
        volumes[modality], slices[modality] = read_series(series)
    reference, preparation, failed = volumes[job.reference], None, damaged_series(slices, volumes)
    if job.prepare:
        volumes, preparation = prepare_scans(volumes, job.choice.series, job.bundle, job.reference)
        aligned, failed = volumes, failed + preparation.failed
    else:
        volumes = {name: Volume(without_background(scan.array), scan.affine) for name, scan in volumes.items()}
        aligned = {modality: resample(volume, reference.grid) for modality, volume in volumes.items()}
    in_mni_space = COHORTS[job.bundle.space].space.code == 4  # NIfTI's code
    failed += failed_checks(volumes, aligned, job.reference, job.bundle.skull_stripped, in_mni_space)
    if failed and not job.force:
        hint = "" if job.prepare else "--prepare prepares scans, "
        text = "; ".join(failed)
        raise InputError(f"{text}. See deploy/README.md, Preconditions; {hint}--force continues anyway")
    remarks = job.choice.remarks
    remarks += [] if preparation is None else preparation.remarks
    remarks += [Remark("precondition", text) for text in failed]
    remarks += spacing_remarks(aligned[job.reference], job.bundle.spacing)
    if cleanup := optional(named(job.options).get("cleanup", job.bundle.cleanup)):
        remarks.append(Remark("cleanup", f"Regions were cleaned up: {cleanup}"))
    return Scans(aligned, reference, slices, preparation)


def _segment(job: Job, scans: Scans) -> NDArray[Any]:
    """Segment the scans with the bundle's inference; return segment numbers on the grid of the reference."""
    # a remark reports the spacing; the alignment was checked before thick slices were interpolated
    accepted = PREPARATION_CHECKS if job.force else ("spacing", "alignment")
    accept = f"--accept=[{','.join(accepted)}]"  # the last one counts
    options = [*job.options, accept] if job.force else [accept, *job.options]
    label = infer(job.bundle, scans.aligned, job.folder, options)
    segments = label_segments(label, job.bundle.segments)
    if scans.preparation is None:
        return segments
    return scans.preparation.segments_on(scans.reference.grid, segments)


def _write(job: Job, scans: Scans, segments: NDArray[Any]) -> None:
    """Write the result files into the job's folder."""
    preparation, bundle, choice = scans.preparation, job.bundle, job.choice
    volumes = _volumes(job, scans.reference, segments)
    burned_in = burned_in_annotation(image for images in scans.slices.values() for image in images)
    remarks = [remark.text for remark in choice.remarks]
    slices = scans.slices[job.reference]
    objects = make_all(Case(segments, scans.reference, slices, volumes, bundle, remarks, burned_in))
    for name, image in objects.items():
        image.save_as(job.folder / f"{name}.dcm")
    report = {
        "model": {
            "name": bundle.name,
            "version": bundle.version,
            "checkpoint_sha256": bundle.checkpoint_sha256,
            "trained_on": bundle.trained_on,
        },
        "series": {modality: series.number for modality, series in choice.series.items()},
        "sources": {
            modality: {"series_uid": str(series.uid), "images": len(series.files)}
            for modality, series in choice.series.items()
        },
        "evidence": choice.reasons,
        "reference": job.reference,
        "volumes_ml": {label: round(volume, 3) for label, volume in volumes.items()},
        "remarks": [remark._asdict() for remark in choice.remarks],
        "held": [remark.text for remark in choice.remarks if remark.kind in HELD],
        "preparation": preparation and {"description": preparation.description, "figures": asdict(preparation.figures)},
    }
    for name, image in objects.items():
        report[name] = {"sop_instance_uid": image.SOPInstanceUID, "series_uid": image.SeriesInstanceUID}
    write_json(job.folder / REPORT, report)


def _volumes(job: Job, reference: Volume, segments: NDArray[Any]) -> dict[str, float]:
    """Return the volume of each segment in mL, by label."""
    described = job.bundle.segments
    counts = np.bincount(segments.ravel(), minlength=len(described) + 1)[1:]
    voxel = abs(np.linalg.det(reference.affine[:3, :3])) / 1000
    return {segment.label: float(count * voxel) for segment, count in zip(described, counts, strict=True)}


class SegmentationApplication(Application):
    """The application that makes the result files of a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__([__file__])  # no arguments: MONAI Deploy must not parse our command line

    def compose(self) -> None:
        self.add_operator(SegmentationOperator(self, CountCondition(self, 1), name="segment"))
