"""`python -m scripts.datalists check` on cohorts of which it is known what is wrong with them."""

import csv
import json
import re
import shutil

import nibabel
import numpy as np
import pytest

from common.data import datalists
from scripts.datalists import check as datalist_check

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
HEAD = {"name": "toy", "modalities": ["T1", "T2"], "label_convention": "brats2021"}


def entry(name):
    return {"subject": name, "image": [f"{name}/t1.nii.gz", f"{name}/t2.nii.gz"], "label": f"{name}/seg.nii.gz"}


def save(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, AFFINE), path)


def image(seed):
    volume = np.zeros((12, 14, 10), np.int16)
    volume[2:-2, 2:-2, 2:-2] = np.random.default_rng(seed).integers(200, 901, (8, 10, 6))
    return volume


def label_of(number):
    label = np.zeros((12, 14, 10), np.uint8)
    label[4 + number % 3, 5:8, 4] = (1, 2, 4)
    label[4, 4, 4 + number % 4] = 1
    return label


@pytest.fixture
def cohort(tmp_path):
    """Four sound subjects for training and two for testing, and a function that writes their datalist."""
    for number in range(6):
        save(tmp_path / f"root/s{number}/t1.nii.gz", image(2 * number))
        save(tmp_path / f"root/s{number}/t2.nii.gz", image(2 * number + 1))
        save(tmp_path / f"root/s{number}/seg.nii.gz", label_of(number))
    write(tmp_path)
    return tmp_path


def write(folder, **changes):
    splits = {"training": [entry(f"s{n}") for n in range(4)], "testing": [entry("s4"), entry("s5")]}
    (folder / "list.json").write_text(json.dumps(HEAD | splits | changes))


def check(folder, **options):
    """The exit status, and the lines of findings.csv."""
    try:
        datalist_check.check(str(folder / "list.json"), str(folder / "root"), str(folder / "out"), workers=1, **options)
        status = 0
    except SystemExit as end:
        status = end.code
    with (folder / "out/findings.csv").open(newline="") as file:
        return status, list(csv.DictReader(file))


def kinds(findings):
    return [(item["subject"], item["check"]) for item in findings]


def test_all_is_well(cohort, capsys):
    assert check(cohort) == (0, [])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "list.json: subjects: 6; errors: none; warnings: none; "
        "scans: voxels of 2 x 2 x 2 mm, brains without skull, background 0",
        "no problems found",
    ]
    before = sorted(cohort.rglob("*"))
    datalist_check.check(str(cohort / "list.json"), str(cohort / "root"), workers=1)
    assert sorted(cohort.rglob("*")) == before, "nothing is written where no output is named"


def test_an_empty_mask_is_a_warning_that_can_be_accepted(cohort):
    save(cohort / "root/s2/seg.nii.gz", np.zeros((12, 14, 10), np.uint8))
    status, findings = check(cohort)
    assert (status, kinds(findings), findings[0]["severity"]) == (1, [("s2", "empty_mask")], "warning")
    assert check(cohort, accept="empty_mask,orientation") == (0, findings)
    assert check(cohort, accept="orientation")[0] == 1


def test_findings_are_in_the_order_of_the_datalist_and_subjects_in_error_are_left_out(cohort, capsys):
    """Subject 0 is a copy of 5, 3 one of 2 but for the mask, and 4 is in two splits; a warning leaves nobody out."""
    write(cohort, training=[entry(f"s{n}") for n in range(5)], preparation="none")
    for subject, copied in ((0, 5), (3, 2)):
        for name in ("t1", "t2"):
            shutil.copy(cohort / f"root/s{copied}/{name}.nii.gz", cohort / f"root/s{subject}")
    for name in ("s0/seg", "s2/seg", "s1/t1"):
        save(cohort / f"root/{name}.nii.gz", np.zeros((12, 14, 10), np.uint8))
    save(cohort / "root/s1/t2.nii.gz", np.full((12, 14, 9), np.nan, np.float32))
    (cohort / "root/s1/seg.nii.gz").unlink()
    status, findings = check(cohort, fixed=str(cohort / "fixed.json"))
    assert (status, {item["split"] for item in findings}) == (1, {"training"})
    copies = {item["subject"]: item["value"] for item in findings if item["check"] in ("leakage", "duplicate")}
    assert copies == {
        "s0": "the same voxels as s5 in testing",
        "s3": "the same voxels as s2 in training",
        "s4": "the same subject as s4 in testing",
    }
    assert [(item["file"], item["check"]) for item in findings] == [
        ("s0/t1.nii.gz", "leakage"),
        ("s0/seg.nii.gz", "empty_mask"),
        ("s1/t1.nii.gz", "constant"),
        ("s1/t2.nii.gz", "shape"),
        ("s1/seg.nii.gz", "missing"),
        ("s2/seg.nii.gz", "empty_mask"),
        ("s3/t1.nii.gz", "duplicate"),
        ("s4/t1.nii.gz", "leakage"),
    ]
    page = (cohort / "out/findings.html").read_text()
    pictures = re.findall(r'<img src="data:image/png;base64,[^"]*" alt="Three planes of (\S+), T1"', page)
    assert pictures == ["s0", "s1", "s3", "s4", "s2", "s4", "s5"], "errors, warnings, and the others"
    assert page.index("Outlines:") < page.index("<img"), "the key comes before the pictures"
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is loaded"
    assert "url(" not in page
    lines = capsys.readouterr().out.splitlines()
    assert f"{cohort}/fixed.json: 3 of 7 subjects" in lines
    assert "left out: s1 of training: constant, shape, missing" in lines
    kept = {"training": [entry("s2")], "testing": [entry("s4"), entry("s5")]}
    assert datalists.read(cohort / "fixed.json") == HEAD | {"preparation": "none"} | kept


def test_modalities_that_are_not_registered_are_reported_even_without_a_label(cohort):
    for name, offset in (("t1", 0), ("t2", 2)):
        volume = np.zeros((12, 14, 10), np.int16)
        volume[2 + offset : 6 + offset, 4:10, 3:7] = 500 + offset
        volume[5, 5, 5] = 600
        save(cohort / f"root/s2/{name}.nii.gz", volume)
    (cohort / "root/s2/seg.nii.gz").unlink()
    assert ("s2", "alignment") in kinds(check(cohort)[1])
