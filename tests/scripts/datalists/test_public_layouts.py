"""Layouts of public data sets, by the command."""

import pytest

UPENN = "UPENN-GBM-00{n}_11"
GLIOMA = [f"images_structural/{UPENN}/{UPENN}_{kind}.nii.gz" for kind in ("FLAIR", "T1GD", "T1", "T2")]
READ = {  # the images and label maps of each of three subjects; options; images of the datalist
    "IXI has a folder for each modality": (
        [f"IXI-{kind}/IXI{{n}}-Guys-0828-{kind}.nii.gz" for kind in ("T1", "T2", "PD", "MRA")],
        [],
        {},
        [f"IXI-{kind}/IXI{{n}}-Guys-0828-{kind}.nii.gz" for kind in ("T1", "T2", "PD")],
    ),
    "folders of modalities hold subjects": (["FLAIR/P{n}.nii", "T1/P{n}.nii"], ["masks/P{n}.nii"], {}, None),
    "the same, by patterns": (
        ["T1/P{n}.nii", "FLAIR/P{n}.nii"],
        ["masks/P{n}.nii"],
        {"modalities": "T1=T1/*,FLAIR=FLAIR/*", "label": "masks/*"},
        None,
    ),
    "a pattern states the subject": (["a/T2/P{n}/x.nii"], [], {"modalities": "T2=T2/{subject}/x"}, None),
    "folders of images and labels": (["images/s{n}.nii"], ["labels/s{n}.nii"], {"modalities": "T1="}, None),
    "UPENN-GBM has subjects below folders for all": (GLIOMA, [f"images_segm/{UPENN}_segm.nii.gz"], {}, None),
    "BraTS 2020 has a label map of an odd name": (
        ["BraTS20_{n}/BraTS20_{n}_t1.nii", "BraTS20_{n}/BraTS20_{n}_t2.nii"],
        ["BraTS20_{n}/W39_1998.09.19_Segm.nii"],
        {},
        None,
    ),
    "a folder for each modality of each subject": (["P{n}/FLAIR/scan.nii", "P{n}/T1/scan.nii"], [], {}, None),
    "a registered scan is of its own modality": (
        ["{n}_FLAIR_to_T1.nii", "{n}_T1.nii", "{n}_T1_2_MNI.nii"],
        [],
        {},
        ["{n}_FLAIR_to_T1.nii", "{n}_T1.nii"],
    ),
    "names with and without the subject, other files between them": (
        ["A{n}/flair.nii", "A{n}/A{n}-T1_Gd.nii", "A{n}/A{n}_T1.nii", "A{n}/A{n}_brain_mask.nii", "A{n}/._A{n}_T1.nii"],
        ["A{n}/A{n}_lesion_mask.nii.gz"],
        {},
        ["A{n}/flair.nii", "A{n}/A{n}-T1_Gd.nii", "A{n}/A{n}_T1.nii"],
    ),
}


def fill(data, pattern, *kinds, labels=()):
    """Three subjects with files of each kind, of which some are label maps."""
    for number in (1, 2, 3):
        data.touch(*[pattern.format(n=f"{number:03d}", kind=kind) for kind in kinds])
        for place in labels:
            data.label(place.format(n=f"{number:03d}"), 1)


@pytest.mark.parametrize("name", READ)
def test_public_layouts_are_read(data, name):
    images, labels, options, expected = READ[name]
    for image in images:
        fill(data, image, "", labels=labels)
    numbers = ("001", "002", "003")
    found = data.entries(**options).values()
    assert [entry["image"] for entry in found] == [[image.format(n=n) for image in expected or images] for n in numbers]
    assert [entry["label"] for entry in found if "label" in entry] == [
        file.format(n=n) for n in numbers for file in labels
    ]


def test_timepoints_named_t1_and_t2_are_no_modalities(data):
    for time in ("T1", "T2"):
        fill(data, f"P{{n}}_{time}/{{kind}}.nii.gz", "T1", "FLAIR")
    assert len(data.entries()) == 6
