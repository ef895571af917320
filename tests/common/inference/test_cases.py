"""`common.inference.cases`: finding cases in folders and datalists, and checking their files."""

import json
import os
import zlib

import nibabel
import numpy as np
import pytest
import torch

from common.errors import InputError
from common.inference.cases import CheckFilesd, check_missing, find_cases
from scripts.datalists import layouts

BRATS = ["FLAIR", "T1ce", "T1", "T2"]


def scan(path, value=1, shape=(4, 5, 6), affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.full(shape, value, np.float32)
    voxels[0, 0, 0] = zlib.crc32(str(path).encode())  # no two files are equal
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return str(path)


def test_a_folder_is_read_in_the_layouts_that_cohorts_have(tmp_path):
    names = {
        "a/P1": ["_flair.nii.gz", "_t1ce.nii.gz", "_t1.nii.gz", "_t2.nii.gz"],  # BraTS 2021
        "P2": ["-t2f.nii", "-t1c.nii", "-t1n.nii", "-t2w.nii"],  # BraTS 2023
        "b/c/P.3": [".FLAIR.nii.gz", "_T1Gd.nii.gz", "-T1w.nii.gz", "_T2W.NII.GZ"],
    }
    files = {name: [scan(tmp_path / f"{name}{end}") for end in ends] for name, ends in names.items()}
    for other in ("a/P1_seg.nii.gz", "P2-mask.nii", "a/.P1_t1.nii.gz", "P9_other.nii.gz"):
        scan(tmp_path / other)
    found = {case["subject"]: case["image"] for case in find_cases(tmp_path, BRATS)}
    assert found == {"P1": files["a/P1"], "P2": files["P2"], "P.3": files["b/c/P.3"]}
    assert {case["subject"]: case["image"] for case in find_cases(tmp_path, ["T2", "FLAIR"])}["P2"] == [
        files["P2"][3],
        files["P2"][0],
    ]


def test_a_single_modality_needs_no_word(tmp_path):
    files = {"P1": scan(tmp_path / "P1.nii.gz"), "P2": scan(tmp_path / "P2_T1w.nii.gz")}
    scan(tmp_path / "P2_T2w.nii.gz")
    assert {case["subject"]: case["image"] for case in find_cases(tmp_path, ["T1"])} == {
        k: [v] for k, v in files.items()
    }


def test_a_modality_of_the_network_is_a_word_and_words_are_joined(tmp_path):
    files = {name: scan(tmp_path / f"P1_{name}.nii.gz") for name in ("T2_FLAIR", "T1-Gd", "CBF", "perf")}
    (case,) = find_cases(tmp_path, ["cbf", "FLAIR", "T1ce"])
    assert case == {"subject": "P1", "image": [files["CBF"], files["T2_FLAIR"], files["T1-Gd"]]}


def test_scans_of_atlas_have_the_names_of_its_datalist(tmp_path):
    root = tmp_path / "Training"
    for person, session in (("r001s001", 1), ("r001s002", 1), ("r001s002", 2), ("r040s011", 12)):
        name = f"sub-{person}_ses-{session}_space-MNI152NLin2009aSym"
        for end in ("T1w", "label-L_desc-T1lesion_mask"):
            scan(root / f"R001/sub-{person}/ses-{session}/anat/{name}_{end}.nii.gz")
    listed = {visit.subject: visit.image for visit in layouts.find(layouts.detect("atlas", tmp_path), tmp_path)}
    assert list(listed) == ["sub-r001s001", "sub-r001s002", "sub-r001s002_ses-2", "sub-r040s011_ses-12"]
    found = {case["subject"]: tuple(case["image"]) for case in find_cases(tmp_path, ["T1"])}
    assert found == {subject: (f"{tmp_path}/{image}",) for subject, (image,) in listed.items()}


def test_names_that_only_resemble_those_of_atlas_stay(tmp_path):
    names = ["sub-01_ses-1_space-MNI152NLin2009aSym", "sub-r001s001_ses-1", "sub-r001s001_ses-1_space-T1w_run-2"]
    for name in names:
        scan(tmp_path / f"{name}_T1w.nii.gz")
    assert sorted(case["subject"] for case in find_cases(tmp_path, ["T1"])) == sorted(names)


def test_a_file_that_is_missing_leaves_its_place_empty(tmp_path):
    there = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1", "t2")]
    (case,) = find_cases(tmp_path, BRATS)
    assert case["image"] == [there[0], "", *there[1:]]
    with pytest.raises(InputError, match=r"^no T1ce; expected a file whose name ends with _t1ce, _t1c, _t1gd, "):
        CheckFilesd("image", BRATS)(case)


def test_folders_without_cases_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"^dataset_dir=\S+nowhere: no such folder; expected a folder with scans, or a datalist"
    ):
        find_cases(tmp_path / "nowhere", BRATS)
    with pytest.raises(
        InputError,
        match=r"^dataset_dir=\S+: contains no scan; expected files such as SUBJECT_flair.nii.gz, or a datalist",
    ):
        find_cases(tmp_path, BRATS)
    scan(tmp_path / "a/P1_t1.nii.gz")
    scan(tmp_path / "b/P1_t1.nii.gz")
    with pytest.raises(InputError, match=r"b/P1_t1.nii.gz: a second T1 of subject P1, next to .*a/P1_t1.nii.gz"):
        find_cases(tmp_path, BRATS)


def test_existing_results_are_replaced_only_on_request(tmp_path):
    for name in ("P1", "P2"):
        scan(tmp_path / f"in/{name}.nii.gz")
    scan(tmp_path / "out/P2.nii.gz")
    (tmp_path / "out/volumes.csv").write_text("subject,region,volume_ml,voxels\nP2,lesion,0,0\n")
    ask = [tmp_path / "in", ["T1"], None, "testing", tmp_path / "out"]
    with pytest.raises(
        InputError, match=r"^1 result exists already, first .*out/P2.nii.gz; expected existing=skip or replace"
    ):
        find_cases(*ask)
    assert [case["subject"] for case in find_cases(*ask, existing="skip")] == ["P1"]
    wanted = find_cases(*ask, existing="skip", probabilities=True)
    assert [case["subject"] for case in wanted] == ["P1", "P2"], "P2 has no probabilities yet"
    assert [case["subject"] for case in find_cases(*ask, existing="replace")] == ["P1", "P2"]
    with pytest.raises(InputError, match=r"existing=overwrite: expected one of refuse, replace, skip"):
        find_cases(*ask, existing="overwrite")


def test_results_inside_the_folder_are_not_scans(tmp_path):
    scan(tmp_path / "P1.nii.gz")
    scan(tmp_path / "out/P1.nii.gz")
    assert [case["image"] for case in find_cases(tmp_path, ["T1"], None, "testing", tmp_path / "out", "replace")] == [
        [str(tmp_path / "P1.nii.gz")]
    ]


@pytest.mark.parametrize("output", ["a/../out", "link"])
def test_results_inside_the_folder_are_found_by_whatever_path(tmp_path, output):
    scan(tmp_path / "P1_T1w.nii.gz")
    scan(tmp_path / "out/P0.nii.gz")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("out")
    found = find_cases(tmp_path, ["T1"], output_dir=tmp_path / output)
    assert [case["subject"] for case in found] == ["P1"]


@pytest.mark.parametrize("existing", ["refuse", "replace"])
def test_a_result_never_replaces_a_scan(tmp_path, existing):
    scan(tmp_path / "P1.nii.gz")
    with pytest.raises(InputError, match=r"^output_dir=\S+: holds the scans; expected another folder, or a subfolder"):
        find_cases(tmp_path, ["T1"], output_dir=tmp_path, existing=existing)
    content = {"name": "x", "modalities": ["T1"], "label_convention": None}
    content["testing"] = [{"subject": name, "image": [f"P{number}.nii.gz"]} for number, name in ((1, "P2"), (2, "P1"))]
    (tmp_path / "list.json").write_text(json.dumps(content))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"P1.nii.gz: a result would overwrite this scan; expected another output_dir"):
        find_cases(tmp_path, ["T1"], tmp_path / "list.json", output_dir=tmp_path / "link", existing=existing)


def test_results_may_lie_above_the_scans(tmp_path):
    scan(tmp_path / "in/P1.nii.gz")
    assert [case["subject"] for case in find_cases(tmp_path / "in", ["T1"], output_dir=tmp_path)] == ["P1"]


@pytest.mark.parametrize("name", ["P\n1.nii.gz", os.fsdecode(b"\xff.nii.gz")])
def test_a_name_that_does_not_fit_a_table_is_refused(tmp_path, name):
    os.rename(scan(tmp_path / "P1.nii.gz"), tmp_path / name)  # noqa: PTH104
    with pytest.raises(InputError, match=r"^'[ -~]+': expected a file name in Unicode, on one line"):
        find_cases(tmp_path, ["T1"])


def test_a_modality_alone_names_no_subject(tmp_path):
    scan(tmp_path / "_t1.nii.gz")
    assert [case["subject"] for case in find_cases(tmp_path, ["T1"])] == ["_t1"]
    with pytest.raises(InputError, match="contains no scan"):
        find_cases(tmp_path, BRATS)


# Checks of a case


def test_modalities_in_the_wrong_order_are_noticed_by_their_names(tmp_path):
    files = [scan(tmp_path / f"P1_{word}.nii.gz") for word in ("flair", "t1ce", "t2", "t1")]
    with pytest.raises(InputError, match=r"P1_t2.nii.gz: its name says T2; expected T1 here"):
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


def test_a_server_gives_a_path_and_no_subject(tmp_path):
    """MONAI Label."""
    case = {"image": scan(tmp_path / "head.nii.gz")}
    assert CheckFilesd("image", ["T1"])(case) is case
    with pytest.raises(
        InputError, match=r"head\.nii\.gz: 1 files of a subject; expected one for each of FLAIR, T1ce, T1, T2"
    ):
        CheckFilesd("image", BRATS)(case)
    (tmp_path / "head.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"subject head\.nii\.gz"):
        CheckFilesd("image", ["T1"])(case)


# Missing modalities


def checkpoint(folder, **metadata):
    path = folder / "model.pt"
    torch.save({"network": {"a": torch.ones(1)}, "metadata": {"modalities": BRATS, **metadata}}, path)
    return str(path)


LACKING = [{"subject": "P1", "image": ["f", "c", "a", "b"]}, {"subject": "P2", "image": ["f", None, "a", None]}]


@pytest.mark.parametrize("trained", [{"modality_dropout": 0.5}, {"missing_modalities": ["T2", "T1ce"]}])
def test_a_network_that_has_learnt_without_modalities_does_without_them(tmp_path, capsys, trained):
    assert check_missing(LACKING, BRATS, checkpoint(tmp_path, **trained)) == LACKING
    expected = "missing: T1ce, T2 in 1 of 2 subjects; figures differ from those with all modalities\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("trained", [{}, {"modality_dropout": 0.0}, {"missing_modalities": ["T1ce", "FLAIR"]}])
def test_a_network_that_has_not_is_refused(tmp_path, trained):
    names = "T2" if trained.get("missing_modalities") else "T1ce, T2"
    file = checkpoint(tmp_path, **trained)
    with pytest.raises(InputError) as error:
        check_missing(LACKING, BRATS, [file])
    assert str(error.value) == (
        f"subject P2 lacks {names}, which {file} was never trained without; expected complete subjects, or a "
        "checkpoint trained with modality_dropout above 0"
    )


def test_each_checkpoint_of_an_ensemble_counts(tmp_path):
    (tmp_path / "other").mkdir()
    files = [checkpoint(tmp_path, modality_dropout=0.5), checkpoint(tmp_path / "other")]
    with pytest.raises(InputError, match=r"other/model\.pt was never trained without"):
        check_missing(LACKING, BRATS, files)


def test_complete_cases_need_no_checkpoint(capsys):
    assert check_missing(LACKING[:1], BRATS, "nowhere.pt") == LACKING[:1]
    assert capsys.readouterr().out == ""


def test_a_file_that_a_folder_lacks_is_missing_where_the_network_can_do_without(tmp_path):
    for name in ("P1_t1", "P1_t1ce", "P2_flair", "P2_t1ce", "P2_t1", "P2_t2"):
        scan(tmp_path / f"scans/{name}.nii.gz")
    found = find_cases(tmp_path / "scans", BRATS)
    assert found[0]["image"][::3] == ["", ""]
    done_without = check_missing(found, BRATS, checkpoint(tmp_path, modality_dropout=0.5))
    assert done_without[0]["image"] == [None, *found[0]["image"][1:3], None]
    assert done_without[1] == found[1]
    CheckFilesd("image", BRATS)(done_without[0])
    unchanged = check_missing(found, BRATS, checkpoint(tmp_path))
    assert unchanged == found, "the case fails alone"
    with pytest.raises(InputError, match=r"^no FLAIR; expected a file whose name ends with _flair"):
        CheckFilesd("image", BRATS)(unchanged[0])


def test_modalities_are_taken_for_missing_in_folders_and_datalists(tmp_path):
    paths = [scan(tmp_path / f"scans/P1_{name}.nii.gz") for name in ("flair", "t1ce", "t1", "t2")]
    (found,) = find_cases(tmp_path / "scans", BRATS, missing=["T2", "FLAIR"])
    assert found["image"] == [None, *paths[1:3], None]
    content = {"name": "toy", "modalities": BRATS, "label_convention": None}
    entries = [{"subject": "P1", "image": [path.rsplit("/", 1)[1] for path in paths]}]
    (tmp_path / "list.json").write_text(json.dumps(content | {"testing": entries}))
    (listed,) = find_cases(tmp_path / "scans", BRATS, tmp_path / "list.json", missing=["T2", "FLAIR"])
    assert listed == found


def test_a_subject_of_whom_nothing_is_left_fails_alone(tmp_path):
    scan(tmp_path / "scans/P1_t2.nii.gz")
    found = find_cases(tmp_path / "scans", BRATS, missing=["T2"])
    (case,) = check_missing(found, BRATS, checkpoint(tmp_path, modality_dropout=0.5))
    with pytest.raises(InputError, match=r"^no FLAIR; expected a file whose name ends with _flair"):
        CheckFilesd("image", BRATS)(case)
