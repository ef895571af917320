"""Heads with skull, each series turned and moved on its own: what `--prepare` makes of them, and the way back."""

import pytest

pytest.importorskip("highdicom", reason="needs the environment of make deploy")

import numpy as np
from scipy.spatial.transform import Rotation

from common.metrics.measures import dice
from common.prepare.volumes import Volume
from deploy.geometry import volume_of
from deploy.job import ChosenSeries
from deploy.preconditions import failed_checks
from deploy.preparation import prepare_scans
from deploy.tasks import TASKS
from tests.deploy.checks import refusal
from tests.deploy.dicom_study import Study, brats_files, read, write_modality


def motion(seed):
    """A rotation by up to 12 degrees about each axis and a shift by up to 15 mm, [4, 4] in mm."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.uniform(-15, 15, 3)
    return matrix


def chosen(volumes):
    return {
        modality: ChosenSeries(f"1.2.{number}", f"series {number}", number, 12, "")
        for number, modality in enumerate(volumes, 2)
    }


@pytest.fixture(scope="module")
def heads(cohorts, tmp_path_factory):
    """Modality -> volume, read from a DICOM series on disk."""
    folder, study, volumes = tmp_path_factory.mktemp("study"), Study(), {}
    for number, (modality, path) in enumerate(brats_files(cohorts("brats", False)).items(), 2):
        array, affine = read(path)
        slices = write_modality(folder / modality, array, motion(number) @ affine, study, number, modality)
        volumes[modality], _ = volume_of(slices, modality)
    return volumes


@pytest.fixture(scope="module")
def prepared(heads):
    return prepare_scans(heads, chosen(heads), TASKS["tumour"], "T1ce")


def test_prepared_heads_meet_the_preconditions(heads, prepared):
    volumes, _ = prepared
    assert {volume.array.shape for volume in volumes.values()} == {(240, 240, 155)}
    assert failed_checks(volumes, volumes, "T1ce", True, False) == []
    assert len(failed_checks(heads, {"T1ce": heads["T1ce"]}, "T1ce", True, False)) >= 4, "they did not before"


def test_what_is_found_returns_to_the_reference_as_it_was_scanned(cohorts, heads, prepared):
    """The brain of the same phantom without skull is the truth."""
    volumes, preparation = prepared
    brain = (volumes["T1ce"].array > 0).astype(np.uint8)
    back = preparation.segments_on(heads["T1ce"].grid, brain)
    truth = read(brats_files(cohorts("brats", True))["T1ce"])[0] > 0
    assert back.shape == truth.shape
    assert dice(back, truth) > 0.93


def test_remarks_and_figures_say_how_it_went(prepared):
    _, preparation = prepared
    assert preparation.remarks[0].startswith("scans prepared by this application: BraTS's space")
    assert preparation.remarks[0].endswith("brain extracted by template")
    assert [line.split(":")[0] for line in preparation.lines] == ["brain", "FLAIR", "T1ce", "T1", "T2"]
    figures = preparation.record()["figures"]
    assert figures["reference"] == "T1"
    assert f"offset {figures['modalities']['T2']['offset']:.4g} mm" in preparation.lines[4]


def test_an_image_that_is_no_head_is_refused_by_the_name_of_its_series():
    volume = Volume(np.ones((8, 8, 12), np.float32), np.eye(4))
    message = refusal(prepare_scans, {"T1": volume}, chosen(["T1"]), TASKS["stroke"], "T1")
    assert message == "series 2: 1 everywhere; expected an image"
