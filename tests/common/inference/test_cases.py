"""`common.inference.cases`: finding cases in folders, checking their files and results, failed cases."""

import zlib

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, list_data_collate
from torch import nn

from common.data.datasets import CaseDataset
from common.errors import InputError
from common.inference.cases import Predictor, check_missing, find_cases, pending_cases
from common.made import Results
from tests.support import refused

BRATS = ["FLAIR", "T1ce", "T1", "T2"]


def scan(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(zlib.crc32(str(path).encode())).random((4, 5, 6), np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return str(path)


def scans_of(*arguments):
    return {case["subject"]: case["image"] for case in find_cases(*arguments)}


def test_scans_are_found_by_their_names_in_a_folder_and_below(tmp_path, capsys):
    names = {
        "a/P1": ["_flair.nii.gz", "_t1ce.nii.gz", "_t1.nii.gz", "_t2.nii.gz"],  # BraTS 2021
        "P2": ["-t2f.nii", "-t1c.nii", "-t1n.nii", "-t2w.nii"],  # BraTS 2023
        "P3/": ["FLAIR.nii.gz", "T1_Gd.nii.gz", "T1w.nii.gz", "T2W.NII.GZ"],
    }
    files = {name: [scan(tmp_path / f"{name}{end}") for end in ends] for name, ends in names.items()}
    for other in ("a/P1_seg.nii.gz", "P2-mask.nii", "a/.P1_t1.nii.gz"):
        scan(tmp_path / other)
    assert scans_of(tmp_path, BRATS) == {"P1": files["a/P1"], "P2": files["P2"], "P3": files["P3/"]}
    assert capsys.readouterr().out.endswith(": P2-mask.nii, a/P1_seg.nii.gz\n"), "what is not used"
    assert scans_of(tmp_path, ["T2", "FLAIR"])["P2"] == [files["P2"][3], files["P2"][0]]
    (tmp_path / "linked").symlink_to(tmp_path / "P3")
    assert {*scans_of(tmp_path, BRATS)} == {"P1", "P2", "P3"}
    assert "not used: linked" in capsys.readouterr().out
    scan(tmp_path / "b/P1_t1.nii.gz")
    with refused("dataset_dir", tmp_path, "b/P1_t1.nii.gz are of one subject"):
        find_cases(tmp_path, BRATS)


def test_a_visit_is_that_of_its_folder(tmp_path):
    files = {
        "P1_T2": [scan(tmp_path / "P1_T2/P1_T2_FLAIR.nii.gz"), scan(tmp_path / "P1_T2/P1_T2_T1.nii.gz")],
        "P2_late": [scan(tmp_path / "P2/late/FLAIR.nii.gz"), scan(tmp_path / "P2/late/T1.nii.gz")],
        "P3_v1": [scan(tmp_path / "P3/P3_v1_FLAIR.nii.gz"), scan(tmp_path / "P3/P3_v1_T1.nii.gz")],
    }
    assert scans_of(tmp_path, ["FLAIR", "T1"]) == files


def test_scans_for_a_network_of_one_modality_need_no_modality_in_their_names(tmp_path):
    used = ("P1", "P2_T1w", "T1/P3_T1_brain", "PD_4", "P5_T1_to_FLAIR", "P6_2_T1", "sub-1_ses-T2_brain")
    masks = ("P1_lesion_mask", "P1_probseg")
    others = ("P1_FLAIR", "P1_FLAIR_brain", "P1_FLAIR_to_T1", "P1_T1_Gd_brain", "T2_FLAIR/T2_FLAIR_brain", "Gd/P3_T1")
    others += ("P6_2_T2", "P7_post_brain", "P8_T2_FLAIR_brain")
    for name in (*used, *masks, *others):
        scan(tmp_path / f"{name}.nii.gz")
    assert {*scans_of(tmp_path, ["T1"])} == {"P1", "P2", "P3_T1_brain", "PD_4", "P5", "P6_2", "sub-1_ses-T2_brain"}


def results(folder, weights="1", overlap=0.5, file="a.pt"):
    return Results(folder, {"command": "x", "checkpoints": {file: weights}, "settings": {"overlap": overlap}})


def pending(root, results, existing, **options):
    """The subjects of a folder that inference segments."""
    cases = find_cases(root, ["T1"], output_dir=results.folder)
    return [case["subject"] for case in pending_cases(cases, results, existing, **options)]


def test_one_folder_holds_the_results_of_one_model_which_are_replaced_on_request(tmp_path):
    """Results of P1 by the weights 1; then P1 or P2 is asked for, by the same weights elsewhere or by others."""
    for name in ("in/P1", "in/P2", "out/P1"):
        scan(tmp_path / f"{name}.nii.gz")
    root, out = tmp_path / "in", tmp_path / "out"
    with refused(out, text="P1: of different weights"):  # there is no made.json
        pending(root, results(out), "skip")
    results(out).add({"P1": [root / "P1.nii.gz"]})
    for same in ("a.pt", "moved.pt"):
        assert pending(root, results(out, file=same), "skip") == ["P2"]
    assert pending(root, results(out), "skip", probabilities=True) == ["P1", "P2"], "P1 has no probabilities"
    with refused(out, text="has results of P1; expected existing=skip or replace"):
        pending(root, results(out), "refuse")
    for other in (results(out, "2"), results(out, overlap=0.1)):
        with refused(out, text="P1: of different weights or settings"):
            pending(root, other, "skip")
        assert pending(root, other, "replace") == ["P1", "P2"]
    results(out).add({"P1": [root / "another.nii.gz"]})
    assert pending(root, results(out), "skip") == ["P1", "P2"], "the scan has changed"
    (root / "P1.nii.gz").unlink()
    with refused(out, text="P1: of different weights"):
        pending(root, results(out, "2"), "replace")


def test_a_result_never_replaces_a_scan(tmp_path):
    scan(tmp_path / "P1.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path)
    cases = [{"subject": "P1", "image": [None]}, {"subject": "P2", "image": [str(tmp_path / "P1.nii.gz")]}]
    for existing in ("replace", "skip"):
        with refused(tmp_path / "link/P1.nii.gz", text="a result would overwrite this scan"):
            pending_cases(cases, results(tmp_path / "link"), existing)


LACKING = [{"subject": "P1", "image": ["f", "c", "a", "b"]}, {"subject": "P2", "image": ["f", None, "a", None]}]


@pytest.mark.parametrize("trained", [{"modality_dropout": 0.5}, {"missing_modalities": ["T2", "T1ce"]}, {}])
def test_only_a_network_that_has_learnt_without_modalities_does_without_them(tmp_path, trained):
    file = tmp_path / "model.pt"
    torch.save({"network": {"a": torch.ones(1)}, "metadata": {"modalities": BRATS, **trained}}, file)
    if not trained:
        with refused("subject P2", text="lacks T1ce, T2"):
            check_missing(LACKING, BRATS, file)
        return
    assert check_missing(LACKING, BRATS, file) == LACKING


class Picky(nn.Module):
    def forward(self, image):
        if image.max() == 13:
            raise ValueError("thirteen\nand more")
        return image


def read(case):
    if case["value"] == 0:
        raise InputError("zero is no image")
    return {**case, "image": torch.full((1, 2, 2, 2), float(case["value"]))}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_case_that_fails_is_named_and_the_others_go_on(tmp_path, capsys, workers):
    values = [5, 0, 7, 13, 9]
    files = [scan(tmp_path / "in.nii.gz")]
    dataset = CaseDataset([{"subject": f"P{value}", "image": files, "value": value} for value in values], read)
    seen = []

    def keep(item):
        if item["subject"] == "P9":
            raise InputError("cannot be written")
        seen.append(item["subject"])
        return item

    predictor = Predictor(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=list_data_collate),
        network=Picky(),
        postprocessing=keep,
        val_handlers=[],
    )
    with pytest.raises(SystemExit) as ended:
        predictor.run()
    assert (seen, ended.value.code) == (["P5", "P7"], 1)
    assert [line for line in capsys.readouterr().err.splitlines() if line] == [
        "failed: subject P0: zero is no image",
        "failed: subject P13: ValueError: thirteen",
        "failed: subject P9: cannot be written",
        "3 of 5 cases failed",
    ]
