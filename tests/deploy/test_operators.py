"""Our selector, and the behaviour of MONAI Deploy that the application relies on or works around."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from monai.deploy.core import Fragment
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator

from common.data.preparation import CHECKS
from deploy.job import ChosenSeries, Job
from deploy.operators import SelectChosenSeries, inference_options
from deploy.study import read_study
from tests.deploy.checks import refusal
from tests.deploy.dicom_study import VOXELS, Study, write_modality


def load(folder):
    return DICOMDataLoaderOperator(Fragment()).load_data_to_studies(folder)


@pytest.fixture
def job(tmp_path, tumours):
    """The job of segmenting a study of one series."""
    write_modality(tmp_path / "study", VOXELS, np.eye(4), Study(), 5, "T1")
    (series,) = read_study(tmp_path / "study")
    chosen = {"T1": ChosenSeries.from_series(series, "requested by --series")}
    return Job(tumours, chosen, "T1", tmp_path / "study", tmp_path, tmp_path)


def test_series_are_selected_under_the_names_of_their_modalities(job):
    (selected,) = SelectChosenSeries(Fragment(), job=job).filter(None, load(job.staged))
    ((name, (series,)),) = selected.series_by_selection_name.items()
    assert (name, len(series.series.get_sop_instances())) == ("T1", 12)


def test_an_image_that_the_loader_drops_is_reported(job):
    """Without our check a dynamic series would become a mixture: the loader silently keeps one image per position."""
    sorted(job.staged.iterdir())[3].unlink()
    message = refusal(SelectChosenSeries(Fragment(), job=job).filter, None, load(job.staged))
    assert re.match(r"series 5 \(UID \.\.\.\d+\): 11 of 12 images could be loaded", message)


def test_the_loader_still_drops_images_and_mixes_patients(tmp_path):
    """When this fails, the loader reports or keeps images with the same position, or distinguishes patients, and
    `SelectChosenSeries` need not count, or `read_study` need not tell patients apart."""
    study = Study()
    slices = write_modality(tmp_path / "1", VOXELS, np.eye(4), study, 1, "T1")
    slices[3].SOPInstanceUID = slices[3].file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    slices[3].save_as(tmp_path / "1/second-echo.dcm")
    write_modality(tmp_path / "2", VOXELS, np.eye(4), study.other_patient(), 2, "T2")
    (loaded,) = load(tmp_path)
    assert [len(series.get_sop_instances()) for series in loaded.get_all_series()] == [12, 12]


def test_the_selector_still_logs_descriptions(tmp_path, caplog):
    """When this fails, MONAI Deploy no longer logs header values, and `restrict_output` may let it log."""
    write_modality(tmp_path, VOXELS, np.eye(4), Study(), 5, "T1", SeriesDescription="SENTINEL of a patient")
    caplog.set_level(logging.INFO)
    rules = {"selections": [{"name": "T1", "conditions": {"SeriesDescription": "SENTINEL"}}]}
    DICOMSeriesSelectorOperator(Fragment()).filter(rules, load(tmp_path))
    assert "SENTINEL of a patient" in caplog.text


@pytest.mark.parametrize(
    ("options", "force", "accepted"),
    [
        ([], False, ["--accept=[spacing]"]),
        (["--sw_batch_size=1"], False, ["--sw_batch_size=1", "--accept=[spacing]"]),
        (["--accept=[skull]"], False, ["--accept=[skull]"]),
        (["--accept=[skull]"], True, ["--accept=[skull]", f"--accept=[{','.join(CHECKS)}]"]),
    ],
)
def test_spacing_is_a_remark_here_unless_the_user_says_what_to_accept(job, options, force, accepted):
    """The README promises that spacing never stops a study; the check of the bundle itself would."""
    assert inference_options(replace(job, options=options, force=force)) == accepted
    bundle = replace(job.bundle, options=job.bundle.options - {"accept"})
    assert inference_options(replace(job, bundle=bundle, options=options, force=force)) == options
