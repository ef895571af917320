"""Layouts of public data sets, by the command: read, or refused with options that work."""

import pytest

from common.data.layouts.listing import list_images
from common.data.layouts.names import Naming
from common.data.layouts.reading import read_layout
from common.errors import InputError
from scripts.datalists.scan import options_of

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


def fill_wmh(data):
    fill(data, "{n}/pre/{kind}.nii.gz", "T1", "FLAIR", labels=["{n}/wmh.nii.gz"])
    fill(data, "{n}/orig/{kind}.nii.gz", "T1", "FLAIR", "3DT1")


def test_timepoints_named_t1_and_t2_are_no_modalities(data):
    for time in ("T1", "T2"):
        fill(data, f"P{{n}}_{time}/{{kind}}.nii.gz", "T1", "FLAIR")
    assert len(data.entries()) == 6


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (fill_wmh, "folders"),
        (
            lambda data: fill(data, "S{n}/T1.nii.gz", "", labels=["S{n}/seg.nii.gz", "S{n}/S{n}_T1_lesion.nii.gz"]),
            "folders",
        ),
        (lambda data: fill(data, "{n}/{kind}_T1.nii.gz", "run-1", "run-2"), "folders"),
        (lambda data: fill(data, "site/{n}/{n}_{kind}.nii.gz", "T1", "FLAIR"), "folders"),
        (lambda data: fill(data, "{kind}/{n}_T1.nii.gz", "raw", "raw_bet"), "folders"),
        (lambda data: fill(data, "{n}_T1.nii.gz", "", labels=["a/{n}_seg.nii.gz", "b/{n}_seg.nii.gz"]), "flat"),
        (lambda data: fill(data, "sub-{n}/anat/sub-{n}_{kind}T1w.nii.gz", "", "acq-3d_"), "bids"),
        (lambda data: fill(data, "sub-{n}/ses-1/anat/sub-{n}_ses-1_run-{kind}_T1w.nii.gz", "1", "2"), "bids"),
    ],
)
def test_the_options_that_a_refusal_names_work(data, make, layout):
    make(data)
    naming = Naming()
    found = read_layout(list_images(data.root), naming, layout)
    with pytest.raises(InputError, match="two files for the"):
        data.scan(layout=layout)
    options = options_of(found, naming)
    assert len(data.entries(**{"layout": layout} | options)) == 3, options
