"""Layouts of public data sets, by the command: read, or refused with options that work."""

import pytest

from common.data.layouts.listing import list_images
from common.data.layouts.names import Naming
from common.data.layouts.reading import read_layout
from common.errors import InputError
from scripts.datalists.scan import options_of

GLIOMA = ("FLAIR", "T1", "T1GD", "T2")


def fill(data, pattern, *kinds, labels=()):
    """Three subjects with files of each kind, of which some are label maps."""
    for number in (1, 2, 3):
        data.touch(*[pattern.format(n=f"{number:03d}", kind=kind) for kind in kinds])
        for place in labels:
            data.label(place.format(n=f"{number:03d}"), 1)


def fill_wmh(data):
    fill(data, "{n}/pre/{kind}.nii.gz", "T1", "FLAIR", labels=["{n}/wmh.nii.gz"])
    fill(data, "{n}/orig/{kind}.nii.gz", "T1", "FLAIR", "3DT1")


def test_ixi_has_a_folder_for_each_modality(data):
    fill(data, "IXI-{kind}/IXI{n}-Guys-0828-{kind}.nii.gz", "T1", "T2", "PD", "MRA")
    found = data.entries()
    assert list(found) == [f"IXI{n}-Guys-0828" for n in ("001", "002", "003")]
    assert found["IXI002-Guys-0828"]["image"] == [
        f"IXI-{kind}/IXI002-Guys-0828-{kind}.nii.gz" for kind in ("T1", "T2", "PD")
    ]


def test_folders_of_modalities_may_hold_names_of_subjects_alone(data):
    fill(data, "{kind}/P{n}.nii.gz", "T1", "FLAIR", labels=["masks/P{n}.nii.gz"])
    entry = {"subject": "P002", "image": ["FLAIR/P002.nii.gz", "T1/P002.nii.gz"], "label": "masks/P002.nii.gz"}
    assert data.entries()["P002"] == entry
    assert data.entries(modalities="T1=T1/*,FLAIR=FLAIR/*", label="masks/*")["P002"]["label"] == entry["label"]
    fill(data, "other/{kind}/P{n}/x.nii.gz", "T2")
    assert data.entries(modalities="T2=T2/{subject}/x")["P002"]["image"] == ["other/T2/P002/x.nii.gz"]


def test_upenn_gbm_has_subjects_below_folders_for_all(data):
    name = "UPENN-GBM-00{n}_11"
    fill(data, f"images_structural/{name}/{name}_{{kind}}.nii.gz", *GLIOMA, labels=[f"images_segm/{name}_segm.nii.gz"])
    found = data.entries()["UPENN-GBM-00001_11"]
    ends = [f"{kind}.nii.gz" for kind in ("FLAIR", "T1GD", "T1", "T2")]
    assert [file.rpartition("_")[2] for file in found["image"]] == ends
    assert found["label"] == "images_segm/UPENN-GBM-00001_11_segm.nii.gz"


def test_brats_2020_has_one_label_map_of_an_odd_name(data):
    fill(data, "BraTS20_{n}/BraTS20_{n}_{kind}.nii", "t1", "t2", labels=["BraTS20_{n}/W39_1998.09.19_Segm.nii"])
    assert data.entries()["BraTS20_003"]["label"] == "BraTS20_003/W39_1998.09.19_Segm.nii"


def test_a_folder_for_each_modality_of_each_subject(data):
    fill(data, "P{n}/{kind}/scan.nii.gz", "T1", "FLAIR")
    assert data.entries()["P001"]["image"] == ["P001/FLAIR/scan.nii.gz", "P001/T1/scan.nii.gz"]


def test_timepoints_named_t1_and_t2_are_no_modalities(data):
    for time in ("T1", "T2"):
        fill(data, f"P{{n}}_{time}/{{kind}}.nii.gz", "T1", "FLAIR")
    assert len(data.entries()) == 6


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (fill_wmh, "folders"),
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
