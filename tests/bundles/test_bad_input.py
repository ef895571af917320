"""Bad input to `python -m monai.bundle run`: one line that names the culprit, status 2, no traceback."""

import gzip
import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

from common.ssl.networks import SSLHead
from tests.support import TINY, Result

pytestmark = pytest.mark.slow


def complaint(result: Result) -> str:
    """The line that the run ends with, after it is checked that the run ends as it should."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.rstrip().endswith(lines[0])
    return lines[0]


def test_a_dataset_folder_that_is_not_there(run_bundle):
    assert "/nowhere" in complaint(run_bundle("ukb_ssl_pretrain", "--dataset_dir=/nowhere"))


@pytest.mark.parametrize("option", ["--lerning_rate=1", "--train::trainer::max_epoch=1"])
def test_a_misspelt_option(run_bundle, option):
    line = complaint(run_bundle("brats_finetune", option))
    assert option in line


def test_a_misspelt_option_of_an_evaluation(run_bundle):
    line = complaint(run_bundle("brats_finetune", "--overlapp=0.1", config="configs/evaluate.yaml"))
    assert "did you mean --overlap?" in line


@pytest.mark.parametrize("option", ["epochs", "max_epochs"])
def test_a_length_under_another_name(run_bundle, option):
    expected = f"error: --{option}=3: no such option; did you mean --iterations='3 epochs'?"
    assert complaint(run_bundle("atlas_finetune", *TINY, f"--{option}=3")) == expected


@pytest.mark.parametrize("option", ["--batch_size=two", "--patch_size=[50, 50, 50]", "--device=gpu"])
def test_a_value_that_cannot_be(run_bundle, option):
    assert f"error: {option}: expected" in complaint(run_bundle("brats_finetune", option))


@pytest.mark.parametrize(
    "option", ["--recipe=chart", "--global_batch_size=3", "--amp=fp16", "--compile=maybe", "--resume=perhaps"]
)
def test_a_value_of_pretraining_that_cannot_be(run_bundle, option):
    assert f"error: {option}: expected" in complaint(run_bundle("ukb_ssl_pretrain", *TINY, option))


def test_an_unknown_model_size(run_bundle):
    assert "--model_size=huge: expected one of tiny, small, base" in complaint(
        run_bundle("ukb_ssl_pretrain", "--model_size=huge")
    )


def test_a_datalist_that_names_a_missing_file(run_bundle, cohorts, tmp_path):
    content = json.loads((cohorts / "brats.json").read_text())
    content["training"][0]["image"][1] = "BraTS2021_99999/gone.nii.gz"
    (tmp_path / "list.json").write_text(json.dumps(content))
    line = complaint(run_bundle("brats_finetune", *TINY, f"--datalist={tmp_path / 'list.json'}"))
    assert "BraTS2021_99999/gone.nii.gz" in line
    assert content["training"][0]["subject"] in line


def test_a_checkpoint_of_another_size(run_bundle, tmp_path):
    settings = {"modalities": ["T1", "FLAIR"], "model_size": "tiny"}
    torch.save({"network": SSLHead(2, "tiny").state_dict(), "metadata": settings}, tmp_path / "tiny.pt")
    line = complaint(run_bundle("brats_stage2", *TINY, f"--pretrained={tmp_path / 'tiny.pt'}"))
    assert "tiny.pt" in line
    assert "model_size tiny" in line


@pytest.mark.parametrize(
    ("aliases", "problem"),
    [
        ("{'T2': 'PD'}", "no filters of PD; expected T1 or FLAIR"),
        ("{T1: FLAIR}", "filters of T1 itself; expected a modality that it lacks"),
        ("{'DWI': 'FLAIR'}", "DWI is not in modalities; expected FLAIR, T1ce, T1, T2"),
        ("T2=FLAIR", "expected names by names, such as \"{'T2': 'FLAIR'}\""),
    ],
)
def test_aliases_that_the_checkpoint_cannot_fill(run_bundle, tmp_path, aliases, problem):
    settings = {"modalities": ["T1", "FLAIR"], "model_size": "micro"}
    torch.save({"network": SSLHead(2, "micro").state_dict(), "metadata": settings}, tmp_path / "ukb.pt")
    options = [f"--pretrained={tmp_path / 'ukb.pt'}", f"--modality_aliases={aliases}"]
    line = complaint(run_bundle("brats_stage2", *TINY, *options))
    assert "--modality_aliases=" in line
    assert problem in line


def test_resume_without_anything_to_resume(run_bundle):
    assert "no iteration-N.pt in" in complaint(run_bundle("ukb_ssl_pretrain", *TINY, "--resume=true"))


def test_more_processes_than_validation_cases(run_bundle, cohorts, tmp_path):
    content = json.loads((cohorts / "brats.json").read_text())
    (tmp_path / "list.json").write_text(json.dumps(content | {"validation": content["validation"][:1]}))
    result = run_bundle("brats_finetune", *TINY, f"--datalist={tmp_path / 'list.json'}", processes=2)
    assert result.returncode != 0
    assert "error: split validation: 1 cases for 2 processes; expected at least one for each" in result.stderr


@pytest.fixture
def cohort_copy(cohorts, tmp_path):
    """The BraTS cohort, to be spoilt."""
    return shutil.copytree(cohorts / "brats", tmp_path / "brats")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_that_the_convention_does_not_know(run_bundle, cohort_copy, workers):
    for path in cohort_copy.glob("*/*_seg.nii.gz"):
        scan = nibabel.load(path)
        label = np.asarray(scan.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(label == 4, 3, label).astype(np.uint8), scan.affine), path)
    options = [option for option in TINY if "num_workers" not in option]
    result = run_bundle("brats_finetune", *options, f"--dataset_dir={cohort_copy}", f"--num_workers={workers}")
    line = complaint(result)
    assert "_seg.nii.gz" in line
    assert "label 3; the convention brats2021 knows 0, 1, 2, 4" in line


def test_a_file_that_is_cut_off(run_bundle, cohort_copy):
    for path in cohort_copy.glob("*/*_t1.nii.gz"):
        whole = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(whole)[: len(whole) // 100])
    line = complaint(run_bundle("brats_stage2", *TINY, f"--dataset_dir={cohort_copy}"))
    assert "subject BraTS2021_" in line
    assert "_t1.nii.gz" in line
