"""`common.inference.cases`: finding cases in folders and datalists, and checking their files."""

import json
import zlib

import nibabel
import numpy as np
import pytest
import torch

from common.errors import InputError
from common.inference.cases import CheckFilesd, check_missing, check_results, find_cases
from common.made import Results
from tests.support import refused

BRATS = ["FLAIR", "T1ce", "T1", "T2"]


def scan(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.ones((4, 5, 6), np.float32)
    voxels[0, 0, 0] = zlib.crc32(str(path).encode())  # no two files are equal
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return str(path)


def listed(path, subjects, modalities=("T1",)):
    content = {"name": "toy", "modalities": list(modalities), "label_convention": None}
    entries = [{"subject": subject, "image": images} for subject, images in subjects.items()]
    path.write_text(json.dumps(content | {"testing": entries}))
    return path


def scans_of(*arguments, **options):
    return {case["subject"]: case["image"] for case in find_cases(*arguments, **options)}


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
    scan(tmp_path / "b/P1_t1.nii.gz")
    with refused("dataset_dir", tmp_path, "b/P1_t1.nii.gz are of one subject"):
        find_cases(tmp_path, BRATS)


def test_scans_for_a_network_of_one_modality_need_no_modality_in_their_names(tmp_path):
    for name in ("P1", "P2_T1w", "P1_FLAIR", "P1_lesion_mask"):
        scan(tmp_path / f"{name}.nii.gz")
    assert [*scans_of(tmp_path, ["T1"])] == ["P1", "P2"]


def results(folder, weights="1", overlap=0.5, file="a.pt"):
    return Results(folder, {"command": "x", "checkpoints": {file: weights}, "settings": {"overlap": overlap}})


def pending(root, results, existing, **options):
    """The subjects of a folder that inference segments."""
    cases = find_cases(root, ["T1"], results=results, existing=existing, **options)
    check_results(cases, results, existing, **options)
    return [case["subject"] for case in cases]


def test_existing_results_are_replaced_only_on_request(tmp_path):
    for name in ("in/P1", "in/P2", "out/P2"):
        scan(tmp_path / f"{name}.nii.gz")
    results(tmp_path / "out").add({"P2": [tmp_path / "in/P2.nii.gz"]})
    for options, subjects in (
        ({"existing": "skip"}, ["P1"]),
        ({"existing": "skip", "probabilities": True}, ["P1", "P2"]),  # P2 has none yet
        ({"existing": "replace"}, ["P1", "P2"]),
    ):
        assert pending(tmp_path / "in", results(tmp_path / "out"), **options) == subjects
    with refused(f"{tmp_path}/out/P2.nii.gz", text="exist already; expected existing=skip or replace"):
        pending(tmp_path / "in", results(tmp_path / "out"), "refuse")


def test_one_folder_holds_the_results_of_one_model(tmp_path):
    """Results of P1 by the weights 1; then P1 or P2 is asked for, by the same weights elsewhere or by others."""
    for name in ("in/P1", "in/P2", "out/P1"):
        scan(tmp_path / f"{name}.nii.gz")
    root, out = tmp_path / "in", tmp_path / "out"
    unknown = rf"^{out}: results of unknown weights \(no made.json\): P1; expected a different output_dir"
    with pytest.raises(InputError, match=unknown):
        pending(root, results(out), "skip")
    results(out).add({"P1": [root / "P1.nii.gz"]})
    for same in ("a.pt", "moved.pt"):
        assert pending(root, results(out, file=same), "skip") == ["P2"]
    for other, why in (
        (results(out, "2", file="b.pt"), "results with different weights"),
        (results(out, overlap=0.1), "results with different overlap"),
    ):
        with pytest.raises(InputError, match=f"^{out}: {why}: P1; expected a different output_dir, or existing="):
            pending(root, other, "skip")
        assert pending(root, other, "replace") == ["P1", "P2"]
    results(out).add({"P1": [root / "another.nii.gz"]})
    assert pending(root, results(out), "skip") == ["P1", "P2"], "the scan has changed"
    (root / "P1.nii.gz").unlink()
    for existing in ("refuse", "replace"):
        with pytest.raises(InputError, match="different weights: P1; "):
            pending(root, results(out, "2", file="b.pt"), existing)


def test_a_result_never_replaces_a_scan(tmp_path):
    scan(tmp_path / "P1.nii.gz")
    with pytest.raises(InputError, match=r"^output_dir=\S+: holds the scans; expected another folder, or a subfolder"):
        find_cases(tmp_path, ["T1"], results=results(tmp_path), existing="replace")
    datalist = listed(tmp_path / "list.json", {"P2": ["P1.nii.gz"], "P1": ["P2.nii.gz"]})
    (tmp_path / "link").symlink_to(tmp_path)
    refusal = r"P1.nii.gz: a result would overwrite this scan; expected another output_dir"
    with pytest.raises(InputError, match=refusal):
        check_results(find_cases(tmp_path, ["T1"], datalist), results(tmp_path / "link"), "replace")
    with pytest.raises(InputError, match=refusal):  # the scan of a case that may be skipped
        find_cases(tmp_path, ["T1"], datalist, results=results(tmp_path / "link"), existing="skip")


# Checks of a case


def test_modalities_in_the_wrong_order_are_noticed_by_their_names(tmp_path):
    files = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1ce", "t2", "t1")]
    with pytest.raises(InputError, match=r"P1_t2.nii.gz: its name says T2; expected T1 here"):
        CheckFilesd("image", BRATS)({"subject": "P1", "image": files})
    case = {"subject": "P1", "image": [scan(tmp_path / f"{number}.nii.gz") for number in range(4)]}
    assert CheckFilesd("image", BRATS)(case) is case


# Missing modalities


def checkpoint(folder, **metadata):
    path = folder / f"{len(metadata)}.pt"
    torch.save({"network": {"a": torch.ones(1)}, "metadata": {"modalities": BRATS, **metadata}}, path)
    return str(path)


LACKING = [{"subject": "P1", "image": ["f", "c", "a", "b"]}, {"subject": "P2", "image": ["f", None, "a", None]}]


@pytest.mark.parametrize("trained", [{"modality_dropout": 0.5}, {"missing_modalities": ["T2", "T1ce"]}])
def test_a_network_that_has_learnt_without_modalities_does_without_them(tmp_path, capsys, trained):
    assert check_missing(LACKING, BRATS, checkpoint(tmp_path, **trained)) == LACKING
    expected = "missing: T1ce, T2 in 1 of 2 subjects; results differ from those with all modalities\n"
    assert capsys.readouterr().out == expected
    assert check_missing(LACKING[:1], BRATS, "nowhere.pt") == LACKING[:1], "complete cases need no checkpoint"
    assert capsys.readouterr().out == ""


def test_a_file_that_a_folder_lacks_is_missing_where_the_network_can_do_without(tmp_path):
    for name in ("P1_t1", "P1_t1ce", "P2_flair", "P2_t1ce", "P2_t1", "P2_t2"):
        scan(tmp_path / f"scans/{name}.nii.gz")
    cases = find_cases(tmp_path / "scans", BRATS)
    assert cases[0]["image"][::3] == ["", ""]
    done_without = check_missing(cases, BRATS, checkpoint(tmp_path, modality_dropout=0.5))
    assert done_without[0]["image"] == [None, *cases[0]["image"][1:3], None]
    assert done_without[1] == cases[1]
    CheckFilesd("image", BRATS)(done_without[0])
    unchanged = check_missing(cases, BRATS, checkpoint(tmp_path))
    assert unchanged == cases, "the case fails alone"
    with pytest.raises(InputError, match=r"^no FLAIR: expected a file whose name ends with _flair"):
        CheckFilesd("image", BRATS)(unchanged[0])
