import json
import os
import re

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, list_data_collate
from torch import nn

from common.datasets import CaseDataset
from common.inference import (
    CheckAlignmentd,
    CheckFilesd,
    Ensemble,
    Predictor,
    cases,
    ensemble,
    shared_convention,
)
from common.preflight import InputError

BRATS = ["FLAIR", "T1ce", "T1", "T2"]


def scan(path, value=1, shape=(4, 5, 6), affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.full(shape, value, np.float32), np.eye(4) if affine is None else affine), path)
    return str(path)


# Cases


def test_a_folder_is_read_in_the_layouts_that_cohorts_have(tmp_path):
    names = {
        "a/P1": ["_flair.nii.gz", "_t1ce.nii.gz", "_t1.nii.gz", "_t2.nii.gz"],  # BraTS 2021
        "P2": ["-t2f.nii", "-t1c.nii", "-t1n.nii", "-t2w.nii"],  # BraTS 2023
        "b/c/P.3": [".FLAIR.nii.gz", "_T1Gd.nii.gz", "-T1w.nii.gz", "_T2W.NII.GZ"],
    }
    files = {name: [scan(tmp_path / f"{name}{end}") for end in ends] for name, ends in names.items()}
    for other in ("a/P1_seg.nii.gz", "P2-mask.nii", "a/.P1_t1.nii.gz", "P9_other.nii.gz"):
        scan(tmp_path / other)
    found = {case["subject"]: case["image"] for case in cases(tmp_path, BRATS)}
    assert found == {"P1": files["a/P1"], "P2": files["P2"], "P.3": files["b/c/P.3"]}
    assert {case["subject"]: case["image"] for case in cases(tmp_path, ["T2", "FLAIR"])}["P2"] == [
        files["P2"][3],
        files["P2"][0],
    ]


def test_a_single_modality_needs_no_word(tmp_path):
    files = {"P1": scan(tmp_path / "P1.nii.gz"), "P2": scan(tmp_path / "P2_T1w.nii.gz")}
    scan(tmp_path / "P2_T2w.nii.gz")
    assert {case["subject"]: case["image"] for case in cases(tmp_path, ["T1"])} == {k: [v] for k, v in files.items()}


def test_a_file_that_is_missing_leaves_its_place_empty(tmp_path):
    there = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1", "t2")]
    (case,) = cases(tmp_path, BRATS)
    assert case["image"] == [there[0], "", *there[1:]]
    with pytest.raises(InputError, match=r"^no T1ce; expected a file whose name ends with _t1ce, _t1c, _t1gd, "):
        CheckFilesd("image", BRATS)(case)


def test_what_is_no_case_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected one with scans, or a --datalist"):
        cases(tmp_path / "nowhere", BRATS)
    with pytest.raises(InputError, match=r"no scan in it; expected files such as SUBJECT_flair.nii.gz, or a "):
        cases(tmp_path, BRATS)
    scan(tmp_path / "a/P1_t1.nii.gz")
    scan(tmp_path / "b/P1_t1.nii.gz")
    with pytest.raises(InputError, match=r"b/P1_t1.nii.gz: a second T1 of subject P1, beside .*a/P1_t1.nii.gz"):
        cases(tmp_path, BRATS)


def test_results_that_are_there_are_kept_unless_told_otherwise(tmp_path):
    for name in ("P1", "P2"):
        scan(tmp_path / f"in/{name}.nii.gz")
    scan(tmp_path / "out/P2.nii.gz")
    (tmp_path / "out/volumes.csv").write_text("subject,region,volume_ml,voxels\nP2,lesion,0,0\n")
    ask = [tmp_path / "in", ["T1"], None, "testing", tmp_path / "out"]
    with pytest.raises(InputError, match=r"out/P2.nii.gz: is there already, of 1 results; expected --existing="):
        cases(*ask)
    assert [case["subject"] for case in cases(*ask, existing="skip")] == ["P1"]
    wanted = cases(*ask, existing="skip", probabilities=True)
    assert [case["subject"] for case in wanted] == ["P1", "P2"], "P2 has no probabilities yet"
    assert [case["subject"] for case in cases(*ask, existing="replace")] == ["P1", "P2"]
    with pytest.raises(InputError, match=r"--existing=overwrite: expected one of refuse, replace, skip"):
        cases(*ask, existing="overwrite")


def test_results_inside_the_folder_are_no_scans(tmp_path):
    scan(tmp_path / "P1.nii.gz")
    scan(tmp_path / "out/P1.nii.gz")
    assert [case["image"] for case in cases(tmp_path, ["T1"], None, "testing", tmp_path / "out", "replace")] == [
        [str(tmp_path / "P1.nii.gz")]
    ]


@pytest.mark.parametrize("output", ["a/../out", "link"])
def test_results_inside_the_folder_are_found_by_whatever_path(tmp_path, output):
    scan(tmp_path / "P1_T1w.nii.gz")
    scan(tmp_path / "out/P0.nii.gz")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("out")
    found = cases(tmp_path, ["T1"], output_dir=tmp_path / output)
    assert [case["subject"] for case in found] == ["P1"]


@pytest.mark.parametrize("existing", ["refuse", "replace"])
def test_a_result_never_replaces_a_scan(tmp_path, existing):
    scan(tmp_path / "P1.nii.gz")
    with pytest.raises(InputError, match=r"^--output_dir=\S+: that of the scans; expected another folder"):
        cases(tmp_path, ["T1"], output_dir=tmp_path, existing=existing)
    content = {"name": "x", "modalities": ["T1"], "label_convention": None}
    content["testing"] = [{"subject": name, "image": [f"P{number}.nii.gz"]} for number, name in ((1, "P2"), (2, "P1"))]
    (tmp_path / "list.json").write_text(json.dumps(content))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"P1.nii.gz: a scan, which a result would replace; expected another --output"):
        cases(tmp_path, ["T1"], tmp_path / "list.json", output_dir=tmp_path / "link", existing=existing)


def test_results_may_lie_above_the_scans(tmp_path):
    scan(tmp_path / "in/P1.nii.gz")
    assert [case["subject"] for case in cases(tmp_path / "in", ["T1"], output_dir=tmp_path)] == ["P1"]


@pytest.mark.parametrize("name", ["P\n1.nii.gz", os.fsdecode(b"\xff.nii.gz")])
def test_a_name_that_no_table_can_have_is_refused(tmp_path, name):
    os.rename(scan(tmp_path / "P1.nii.gz"), tmp_path / name)  # noqa: PTH104
    with pytest.raises(InputError, match=r"^'[ -~]+': expected a file name of one line in Unicode"):
        cases(tmp_path, ["T1"])


def test_a_modality_alone_names_no_subject(tmp_path):
    scan(tmp_path / "_t1.nii.gz")
    assert [case["subject"] for case in cases(tmp_path, ["T1"])] == ["_t1"]
    with pytest.raises(InputError, match="no scan in it"):
        cases(tmp_path, BRATS)


# Checks of a case


def test_modalities_in_the_wrong_order_are_told_by_their_names(tmp_path):
    files = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1ce", "t2", "t1")]
    with pytest.raises(InputError, match=r"P1_t2.nii.gz: its name says T2; expected T1 in this place"):
        CheckFilesd("image", BRATS)({"subject": "P1", "image": files})
    untold = [scan(tmp_path / f"{number}.nii.gz") for number in range(4)]
    case = {"subject": "P1", "image": untold}
    assert CheckFilesd("image", BRATS)(case) is case


def test_files_on_two_grids_are_refused(tmp_path):
    moved = np.diag([1, 1, 2, 1])
    files = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1ce", "t1")]
    files.append(scan(tmp_path / "P1_t2.nii.gz", affine=moved))
    with pytest.raises(InputError, match=r"subject P1: .*P1_t2.nii.gz: affine differs by up to 1 mm"):
        CheckFilesd("image", BRATS)({"subject": "P1", "image": files})


def brains(shift):
    ball = (np.indices((40, 40, 40)) - 20) ** 2
    ball = (ball.sum(axis=0) < 15**2).astype(np.float32)
    return torch.tensor(np.stack([100 * ball, 7 * np.roll(ball, shift, axis=0)]))


def test_brains_apart_were_not_registered():
    check = CheckAlignmentd("image", ["FLAIR", "T1"], least_overlap=0.9)
    data = {"image": brains(1)}
    assert check(data) is data
    first, second = (brain > 0 for brain in brains(4))
    overlap = 2 * (first & second).sum() / (first.sum() + second.sum())
    with pytest.raises(InputError, match=rf"^T1 overlaps FLAIR by Dice {overlap:.2f}; expected 0.9 at least"):
        check({"image": brains(4)})
    CheckAlignmentd("image", ["FLAIR", "T1"], least_overlap=0)({"image": brains(20)})
    heads = brains(20) + 0.01 * torch.rand(2, 40, 40, 40)  # noise all over: nothing can be told
    check({"image": heads})


# Ensembles


class Slope(nn.Module):
    """Not symmetric: a voxel's logit depends on where it is, and on a weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, image):
        return image * self.weight * (1 + torch.arange(image.shape[2], dtype=image.dtype).view(-1, 1, 1))


def test_an_ensemble_is_the_mean_of_its_networks():
    image = torch.randn(2, 1, 3, 4, 5)
    expected = sum(Slope(weight)(image) for weight in (1, 2, 6)) / 3
    torch.testing.assert_close(Ensemble([Slope(1), Slope(2), Slope(6)])(image), expected)


@pytest.mark.parametrize("flips", [[], [0], [2, 0], [0, 1, 2]])
def test_mirror_images_are_averaged_over_all_combinations(flips):
    image, network = torch.randn(1, 1, 3, 4, 5), Slope(2)
    expected = torch.zeros_like(image)
    for number in range(2 ** len(flips)):
        axes = [axis + 2 for place, axis in enumerate(flips) if number >> place & 1]
        expected += torch.flip(network(torch.flip(image, axes)), axes)
    torch.testing.assert_close(Ensemble([network], flips)(image), expected / 2 ** len(flips))


def save(path, network):
    torch.save({"network": network.state_dict(), "metadata": {"modalities": ["T1"]}}, path)
    return str(path)


def test_checkpoints_of_folds_are_loaded_each_into_its_own_network(tmp_path, monkeypatch):
    def restore(network, path, modalities):
        assert modalities == ["T1"]
        network.load_state_dict(torch.load(path, weights_only=True)["network"])

    monkeypatch.setattr("common.inference.weights.restore", restore)
    files = [save(tmp_path / f"{weight}.pt", Slope(weight)) for weight in (1, 5)]
    image = torch.ones(1, 1, 2, 1, 1)
    assert ensemble(Slope(0), files, ["T1"])(image).flatten().tolist() == [3, 6]
    assert ensemble(Slope(0), files[1], ["T1"])(image).flatten().tolist() == [5, 10]


@pytest.mark.parametrize("flips", [[3], [-1], [0, 0], True, "0", ["0"], [0, "x"], [[0]], [0.0], [True]])
def test_axes_that_are_none_are_refused(tmp_path, flips):
    with pytest.raises(InputError, match=rf"--flips={re.escape(str(flips))}: expected a list of the axes 0, 1, 2"):
        ensemble(Slope(0), "a.pt", ["T1"], flips)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [([], r"--checkpoint=\[\]: expected one file at least"), (5, "checkpoint 5: expected the path of a file")],
)
def test_no_checkpoint_is_refused(checkpoint, message):
    with pytest.raises(InputError, match=message):
        ensemble(Slope(0), checkpoint, ["T1"])


def test_a_convention_with_other_regions_cannot_be_written():
    assert shared_convention("brats2021", "brats2023") == "brats2023"
    with pytest.raises(InputError, match=r"--output_convention=atlas: has other regions; expected TC, WT, ET"):
        shared_convention("brats2021", "atlas")


# Failures


class Picky(nn.Module):
    def forward(self, image):
        if image.max() == 13:
            raise ValueError("thirteen\nand more")
        return image


def read(case):
    if case["value"] == 0:
        raise InputError("zero is no image")
    if case["value"] == 1:
        raise KeyError("of ours")
    return {**case, "image": torch.full((1, 2, 2, 2), float(case["value"]))}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_case_that_fails_is_named_and_the_others_go_on(tmp_path, capsys, workers):
    values = [5, 0, 7, 13, 1, 9]
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
    predictor.run()
    assert seen == ["P5", "P7"]
    with pytest.raises(SystemExit) as ended:
        predictor.finish()
    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines[0] == "failed: subject P0: zero is no image"
    assert lines[1] == "failed: subject P13: ValueError: thirteen"
    assert lines[2].startswith("failed: subject P1: cannot be prepared: 'of ours'")
    assert lines[3:] == ["failed: subject P9: cannot be written", "4 of 6 cases failed"]


def test_without_failure_a_run_ends_well():
    data = [{"subject": "P5", "image": torch.ones(1, 2, 2, 2)}]
    loader = DataLoader(data, batch_size=1, collate_fn=list_data_collate)
    predictor = Predictor(device=torch.device("cpu"), val_data_loader=loader, network=Picky())
    predictor.run()
    predictor.finish()


def test_nothing_to_do_is_no_error(capsys):
    predictor = Predictor(device=torch.device("cpu"), val_data_loader=[], network=Picky())
    predictor.run()
    predictor.finish()
    assert capsys.readouterr().out == "nothing to do: every case has a result\n"
