"""What MONAI Deploy's loader drops is noticed, and which options the inference gets."""

import re
from dataclasses import replace

import numpy as np
import pytest
from monai.deploy.core import Fragment
from monai.deploy.operators import DICOMDataLoaderOperator

from common.data.preparation import PREPARATION_CHECKS
from deploy.job import ChosenSeries, Job
from deploy.operators import SelectChosenSeries, inference_options
from deploy.study import read_study
from tests.deploy.checks import refusal
from tests.deploy.dicom_study import VOXELS, Study, write_modality


@pytest.fixture
def job(tmp_path, tumours):
    """The job of segmenting a study of one series."""
    write_modality(tmp_path / "study", VOXELS, np.eye(4), Study(), 5, "T1")
    (series,) = read_study(tmp_path / "study")
    chosen = {"T1": ChosenSeries.from_series(series, "requested by --series")}
    return Job(tumours, chosen, "T1", tmp_path / "study", tmp_path, tmp_path)


def test_an_image_that_the_loader_drops_is_reported(job):
    """Without our check a dynamic series would become a mixture: the loader silently keeps one image per position."""
    sorted(job.staged.iterdir())[3].unlink()
    loaded = DICOMDataLoaderOperator(Fragment()).load_data_to_studies(job.staged)
    message = refusal(SelectChosenSeries(Fragment(), job=job).filter, None, loaded)
    assert re.match(r"series 5 \(UID \.\.\.\d+\): 11 of 12 images could be loaded", message)


@pytest.mark.parametrize(
    ("options", "force", "accepted"),
    [
        ([], False, ["--accept=[spacing]"]),
        (["--accept=[skull]"], False, ["--accept=[skull]"]),
        (["--accept=[skull]"], True, ["--accept=[skull]", f"--accept=[{','.join(PREPARATION_CHECKS)}]"]),
    ],
)
def test_spacing_is_a_remark_here_unless_the_user_says_what_to_accept(job, options, force, accepted):
    """The README promises that spacing never stops a study; the check of the bundle itself would."""
    assert inference_options(replace(job, options=options, force=force)) == accepted
    bundle = replace(job.bundle, options=job.bundle.options - {"accept"})
    assert inference_options(replace(job, bundle=bundle, options=options, force=force)) == options
