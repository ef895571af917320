"""`generic` on data sets of any layout: BIDS, nnU-Net's raw folders, names of folders and files, patterns."""

import json

import pytest

from common.data.datalists import Datalist
from common.errors import InputError
from tests.scripts.datalists.folders import entries, label, subjects, touch, written

UPENN = "UPENN-GBM-00{n}_11/UPENN-GBM-00{n}_11"
LAYOUTS = [  # of each of three subjects: the images listed, the label map, other files, options
    ("A{n}/flair A{n}/A{n}-T1_Gd A{n}/A{n}_T1", "A{n}/A{n}_lesion_mask", "A{n}/A{n}_brain_mask A{n}/._A{n}_T1"),
    ("{n}_T2_FLAIR {n}_T1w", "{n}_FLAIR_lesion"),
    ("P{n}/FLAIR/scan P{n}/T1/scan",),
    ("FLAIR/P{n} T1/P{n}", "masks/P{n}"),
    (f"images_structural/{UPENN}_FLAIR images_structural/{UPENN}_T1GD", "images_segm/UPENN-GBM-00{n}_11_segm"),
    ("P{n}/T1", "P{n}/masks/P{n}_T1"),
    ("{n}_FLAIR_to_T1 {n}_T1", "", "{n}_T1_2_MNI"),
    ("IXI-T1/IXI{n}-T1 IXI-PD/IXI{n}-PD", "", "IXI-MRA/IXI{n}-MRA", {"pattern": "IXI-*/{subject}-{modality}.nii.gz"}),
    ("P{n}/3_ax_FLAIR P{n}/5_sag_T1", "P{n}/W39_Segm"),
    ("x/T2/P{n}/s", "", "", {"pattern": "x/{modality}/{subject}/s"}),
    ("P{n}_T1", "P{n}_T1_seg", "", {"pattern": "{subject}_{modality}"}),
    ("P{n}/t1_to_mni P{n}/other", "", "", {"modalities": "T1=t1_to_mni,PD=other"}),
    ("images/s{n}", "labels/s{n}", "", {"modalities": "T1=images/{subject}", "label": "labels/{subject}"}),
    ("{n}/pre/FLAIR {n}/pre/T1", "{n}/wmh", "{n}/orig/T1", {"modalities": "FLAIR=pre/FLAIR,T1=pre/T1"}),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_public_data_sets_are_read(root, layout):
    images, labels, others, options = (*layout, *("", "", {})[len(layout) - 1 :])
    expected = []
    for number in ("001", "002", "003"):
        paths = [path.format(n=number).split() for path in (images, labels, others)]
        listed, shown, more = [[f"{path}.nii" for path in group] for group in paths]
        touch(root, *listed, *more)
        for file in shown:
            label(root / file, 1)
        expected.append([listed, *shown])
    found = entries(root, **options).values()
    assert [[entry["image"], *([entry["label"]] if "label" in entry else [])] for entry in found] == expected


def test_names_that_fit_nothing_are_listed_with_the_way_to_give_a_pattern(root, capsys):
    touch(root, *[f"P{number}/{name}.nii.gz" for number in (1, 2) for name in ("T1", "P_other")])
    assert len(entries(root)) == 2
    line = "not used: 2 files, such as P1/P_other.nii.gz, P2/P_other.nii.gz; if they are needed, give a pattern such as"
    assert f"{line} --pattern=" in capsys.readouterr().out
    touch(root, "P1/P2_T2.nii", "P2/T2.nii", "P1/T1.nii")
    with pytest.raises(InputError, match=r"two files for the T1 of P1: P1/T1.nii and P1/T1.nii.gz; expected one, by"):
        entries(root)
    assert "files named after a different subject: P1/P2_T2.nii\n" in capsys.readouterr().err


def test_subjects_that_lack_a_modality_are_kept_on_request(root, capsys):
    touch(root, "S1/T1.nii.gz", "S1/PD.nii.gz", "S1/T2.nii.gz", "S3/T1.nii.gz", "S3/PD.nii.gz", "S6/PD.nii.gz")
    found = entries(root, missing="keep", modalities="T2,T1")
    assert (found["S1"]["image"], found["S3"]["image"]) == (["S1/T2.nii.gz", "S1/T1.nii.gz"], [None, "S3/T1.nii.gz"])
    told = [line for line in capsys.readouterr().out.splitlines() if " lacks " in line]
    assert (told, "S6" in found) == (["kept: S3 lacks T2", "left out: S6 lacks T2, T1"], False)
    assert written("generic", root, missing="keep", testing="all")["modalities"] == ["T1", "T2", "PD"]


# Visits and people


@pytest.mark.parametrize("place", ["P{n}/P{n}_{v}_", "P{n}/{v}_", "P{n}/scans_{v}/", "P{n}/{v}/", "P{n}_{v}_"])
def test_the_flair_image_and_label_map_of_the_second_visit_are_not_given_to_the_t1_of_the_first(root, place):
    for number in (1, 2, 3):
        first, second = (place.format(n=number, v=visit) for visit in ("v1", "v2"))
        touch(root, f"{first}T1.nii", f"{second}FLAIR.nii")
        label(root / f"{second}mask.nii", 1)
    found = [entry for _, entry in sorted(entries(root, modalities="T1,FLAIR", missing="keep").items())]
    assert [[file is None for file in entry["image"]] for entry in found] == [[False, True], [True, False]] * 3
    assert ["label" in entry for entry in found] == [False, True] * 3


@pytest.mark.parametrize("options", [{}, {"pattern": "{subject}/{session}/{modality}"}])
def test_files_in_different_folders_are_different_visits_of_a_person(root, capsys, options):
    touch(root, *[f"P{number}/{name}.nii.gz" for number in (1, 2, 3) for name in ("baseline/t1", "late/flair")])
    assert list(entries(root, modalities="T1,FLAIR", missing="keep", **options))[:2] == ["P1_baseline", "P1_ses-late"]
    assert "people: 3 in 6 subjects, such as P1 (P1_baseline, P1_ses-late)\n" in capsys.readouterr().out


def test_people_in_one_folder_are_told_apart_by_a_pattern(root):
    touch(root, *[f"{site}/P{number}_{kind}.nii" for site in ("a", "b") for number in (1, 2) for kind in ("T1", "T2")])
    label(root / "a/P1_seg.nii", 1)
    with pytest.raises(InputError, match=r"two files for the T1 of a: a/P1_T1.nii and a/P2_T1.nii; .* or --pattern"):
        entries(root)
    with pytest.raises(InputError, match=r"two files for the T1 of P1: a/P1_T1.nii and b/P1_T1.nii; "):
        entries(root, pattern="*/{subject}_{modality}")
    found = entries(root, pattern="{session}/{subject}_{modality}")
    assert list(found) == ["P1_ses-a", "P1_ses-b", "P2_ses-a", "P2_ses-b"]
    assert [name for name, entry in found.items() if "label" in entry] == ["P1_ses-a"]


@pytest.mark.parametrize("options", [{}, {"pattern": "{subject}/*/{modality}"}, {"modalities": "T1=T1,T1ce=Gd/T1"}])
def test_contrast_agent_in_the_name_of_a_folder_makes_t1ce(root, options):
    touch(root, *[f"P{number}/{folder}/T1.nii.gz" for number in (1, 2) for folder in ("Gd", "anat")])
    content = written("generic", root, testing="all", **options)
    images = [dict(zip(content["modalities"], entry["image"], strict=True)) for entry in content["testing"]]
    assert images[0] == {"T1": "P1/anat/T1.nii.gz", "T1ce": "P1/Gd/T1.nii.gz"}


def test_post_beside_t1_is_a_question_that_names_the_file(root):
    touch(root, *[f"P{number}/{name}.nii.gz" for number in (1, 2) for name in ("post_T1", "FLAIR")])
    with pytest.raises(InputError, match=r"P1/post_T1.nii.gz: a T1 after contrast agent \(T1ce\), or a plain T1 after"):
        entries(root)
    assert entries(root, modalities="FLAIR")["P1"]["image"] == ["P1/FLAIR.nii.gz"]
    assert entries(root, modalities="T1ce=post_T1")["P1"]["image"] == ["P1/post_T1.nii.gz"]


# BIDS; the names are those of the specification's examples

PEOPLE = ("01", "02", "03", "04")


def session(person, ses=None):
    return f"sub-{person}/{f'ses-{ses}/' if ses else ''}anat/sub-{person}{f'_ses-{ses}' if ses else ''}"


def test_sessions_of_bids_are_subjects_of_one_person(root, capsys):
    """Of four people two have two sessions; lesions, tissues and a brain mask lie in derivatives."""
    for person in PEOPLE:
        for ses in ("pre", "post") if person < "03" else ("pre",):
            stem = session(person, ses)
            ends = ("T1w", "acq-3d_run-1_FLAIR", "ce-gadolinium_T1w", "inv-1_MP2RAGE", "part-phase_T2starw")
            touch(root, *[f"{stem}_{end}.nii.gz" for end in ends], f"{stem}_T1w.json")
            touch(root, *[f"derivatives/pipeline/{stem}_{end}.nii.gz" for end in ("dseg", "desc-brain_mask")])
            label(root / f"derivatives/manual_masks/{stem}_label-tumor_mask.nii.gz", 1)
    touch(root, "sub-01/ses-pre/func/sub-01_task-rest_bold.nii.gz", f"{session('03', 'pre')}_ce-gd_FLAIR.nii.gz")
    content = written("generic", root, validation=1, testing=1)
    assert (content["modalities"], content["regions"]) == (["FLAIR", "T1ce", "T1"], {"lesion": [1]})
    assert Datalist(root.parent / "list.json", root).leaked == []
    assert "labels: manual_masks/label-tumor_mask\n" in capsys.readouterr().out
    found, stem = entries(root), session("02", "post")
    assert len(found) == 6
    assert found["sub-02_ses-post"] == {
        "subject": "sub-02_ses-post",
        "image": [f"{stem}_{end}.nii.gz" for end in ("acq-3d_run-1_FLAIR", "ce-gadolinium_T1w", "T1w")],
        "label": f"derivatives/manual_masks/{stem}_label-tumor_mask.nii.gz",
    }


def test_label_maps_of_bids_beside_the_images_and_in_a_session_without_images(root):
    for person in PEOPLE:
        touch(root, f"{session(person, 1)}_T1w.nii.gz", f"{session(person, 1)}_FLAIR_to_T1.nii.gz")  # not a second T1
        file = f"{session(person, 2 if person == '01' else 1)}_space-MNI_label-L_desc-T1lesion_mask.nii.gz"
        label(root / ("derivatives/manual" if person < "03" else "") / file, 1)
    touch(root, "sub-05/ses-1/anat/sub-05_ses-1_T1w.nii.gz", "sub-05/ses-1/anat/sub-05_ses-1_FLAIR_to_T1.nii.gz")
    label(root / "derivatives/manual/sub-05/anat/sub-05_lesion_mask.nii.gz", 1)  # of the only session
    found = entries(root)
    assert [name for name, entry in found.items() if "label" not in entry] == ["sub-01_ses-1"]
    assert found["sub-04_ses-1"]["label"].startswith("sub-04/ses-1/anat/")


@pytest.mark.parametrize("name", ["label-brain_desc-manual_mask", "label-WM_desc-x_mask", "desc-brain_mask"])
def test_masks_of_anatomy_in_bids_are_no_label_maps(root, name):
    for person in PEOPLE:
        touch(root, f"{session(person)}_T1w.nii.gz")
        label(root / f"derivatives/masks/{session(person)}_{name}.nii.gz", 1)
    assert not any("label" in entry for entry in entries(root).values())


# nnU-Net's raw folders; dataset.json is that of its Dataset137_BraTS21.py

BRATS = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "regions_class_order": [1, 2, 3],
    "file_ending": ".nii.gz",
}


def test_regions_channels_and_test_cases_of_nnunet(root):
    (root / "dataset.json").write_text(json.dumps(BRATS))
    for name in ["Tr/C_0", "Tr/C_2", "Tr/C_3", "Tr/C_1_ses-1", "Tr/C_1_ses-2", "Ts/D_0", "Ts/D_1"]:
        part, case = name.split("/")
        touch(root, *[f"images{part}/{case}_{channel:04}.nii.gz" for channel in range(4)])
        touch(root, *([] if case == "D_1" else [f"labels{part}/{case}.nii.gz"]))
    content = written("generic", root, validation=1)
    assert content["modalities"] == ["T1", "T1ce", "T2", "FLAIR"]
    regions = [("whole_tumor", [1, 2, 3]), ("tumor_core", [2, 3]), ("enhancing_tumor", [3])]
    assert list(content["regions"].items()) == regions
    split = subjects(content)
    assert (split["testing"], split["unlabelled"]) == (["D_0"], ["D_1"])
    assert sorted(split["training"] + split["validation"]) == ["C_0", "C_1_ses-1", "C_1_ses-2", "C_2", "C_3"]
    images = [f"imagesTs/D_0_{channel:04}.nii.gz" for channel in range(4)]
    assert content["testing"] == [{"subject": "D_0", "image": images, "label": "labelsTs/D_0.nii.gz"}]
    apart = subjects(written("scans", root, validation=2))
    assert {name[:3] for name in apart["testing"]} == {"D_0", "D_1"}, "test cases stay apart as single scans"


def test_the_decathlons_images_of_all_channels_are_refused(root):
    (root / "dataset.json").write_text('{"modality": {"0": "FLAIR", "1": "T1w"}}')
    touch(root, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    with pytest.raises(InputError, match="version 2, as by nnUNetv2_convert_MSD_dataset"):
        written("generic", root)
