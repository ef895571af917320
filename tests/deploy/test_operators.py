"""Our selector, and the behaviour of MONAI Deploy that the application relies on or works around."""

import logging
from dataclasses import replace

import pytest

pytest.importorskip("monai.deploy", reason="needs the environment of make deploy")

import numpy as np
from monai.deploy.core import Fragment
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator

from common.data.preparation import CHECKS
from common.errors import InputError
from deploy.bundle import open_bundle
from deploy.job import ChosenSeries, Job
from deploy.operators import SelectChosenSeries, inference_options
from deploy.study import read_study
from tests.deploy.dicom_study import Study, write_modality
from tests.support import ROOT

ARRAY = np.ones((4, 4, 12))


def load(folder):
    return DICOMDataLoaderOperator(Fragment()).load_data_to_studies(folder)


@pytest.fixture
def job(tmp_path, models):
    """The job of segmenting a study of one series."""
    write_modality(tmp_path / "study", ARRAY, np.eye(4), Study(), 5, "T1")
    bundle = open_bundle(ROOT / "bundles/atlas_finetune", models("atlas"))
    (series,) = read_study(tmp_path / "study")
    return Job(
        bundle,
        {"T1": ChosenSeries.from_series(series, "requested by --series")},
        "T1",
        tmp_path / "study",
        tmp_path,
        tmp_path,
    )


def test_series_are_selected_under_the_names_of_their_modalities(job):
    (selected,) = SelectChosenSeries(Fragment(), job=job).filter(None, load(job.staged))
    ((name, (series,)),) = selected.series_by_selection_name.items()
    assert name == "T1"
    assert len(series.series.get_sop_instances()) == 12


def test_an_image_that_the_loader_drops_is_reported(job):
    """Without our check a dynamic series would become a mixture: the loader silently keeps one image per position."""
    images = sorted(job.staged.iterdir())
    write_modality(job.staged / "again", ARRAY, np.eye(4), Study(), 5, "T1")
    images[3].unlink()
    with pytest.raises(InputError, match=r"^series 5 \(UID \.\.\.\d+\): 11 of 12 images could be loaded"):
        SelectChosenSeries(Fragment(), job=job).filter(None, load(job.staged))


def test_the_loader_still_drops_images_with_the_same_position(tmp_path):
    """When this fails, the loader reports or keeps them, and `SelectChosenSeries` need not count."""
    slices = write_modality(tmp_path, ARRAY, np.eye(4), Study(), 5, "T1")
    slices[3].SOPInstanceUID = slices[3].file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    slices[3].save_as(tmp_path / "second-echo.dcm")
    (study,) = load(tmp_path)
    assert len(study.get_all_series()[0].get_sop_instances()) == 12


def test_the_loader_still_mixes_the_patients_of_a_folder(tmp_path):
    """When this fails, the loader distinguishes patients, and `read_study` need not."""
    study = Study()
    write_modality(tmp_path / "1", ARRAY, np.eye(4), study, 1, "T1")
    write_modality(tmp_path / "2", ARRAY, np.eye(4), study.other_patient(), 2, "T2")
    (loaded,) = load(tmp_path)
    assert len(loaded.get_all_series()) == 2


def test_the_selector_still_logs_descriptions(tmp_path, caplog):
    """When this fails, MONAI Deploy no longer logs header values, and `restrict_output` may let it log."""
    write_modality(tmp_path, ARRAY, np.eye(4), Study(), 5, "T1", SeriesDescription="SENTINEL of a patient")
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


def test_a_bundle_without_the_check_gets_no_option_of_it(job):
    bundle = replace(job.bundle, options=job.bundle.options - {"accept"})
    assert inference_options(replace(job, bundle=bundle, force=True)) == []
