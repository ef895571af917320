"""`python -m scripts.datalists check` on cohorts of which it is known what is wrong with them."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest

from common.data import datalists
from scripts.datalists import check as datalist_check
from scripts.datalists.check import Record, add_outliers, add_repeats, examine
from tests.damaged_scans import CASE, HEADERS, VOXELS, brain, lesion, write_case

HEAD = {"name": "toy", "modalities": ["T1", "T2"], "label_convention": "brats2021"}


def entry(name):
    return {"subject": name, "image": [f"{name}/t1.nii.gz", f"{name}/t2.nii.gz"], "label": f"{name}/seg.nii.gz"}


def save(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0])), path)


@pytest.fixture
def cohort(tmp_path):
    """Four sound subjects for training and two for testing, and their datalist."""
    for number in range(6):
        for channel in (1, 2):
            save(tmp_path / f"root/s{number}/t{channel}.nii.gz", brain(2 * number + channel))
        save(tmp_path / f"root/s{number}/seg.nii.gz", np.roll(lesion(1, 2, 4), number, axis=1))
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


def test_a_sound_cohort(cohort, capsys):
    before = sorted(cohort.rglob("*"))
    datalist_check.check(str(cohort / "list.json"), str(cohort / "root"), workers=1)
    assert sorted(cohort.rglob("*")) == before, "nothing is written where no output is named"
    assert capsys.readouterr().out.splitlines() == [
        "list.json: subjects: 6; errors: none; warnings: none; "
        "scans: voxels of 2 x 2 x 2 mm, brains without skull, background 0; "
        "people: 6 in 6 subjects",
        "no problems found",
    ]


def test_findings_are_in_the_order_of_the_datalist_and_subjects_in_error_are_left_out(cohort):
    """Subject 0 is a copy of 5, 3 one of 2 but for the mask, and 4 is in two splits; a warning leaves nobody out."""
    write(cohort, training=[entry(f"s{n}") for n in range(5)], preparation="none")
    for subject, copied in ((0, 5), (3, 2)):
        for name in ("t1", "t2"):
            shutil.copy(cohort / f"root/s{copied}/{name}.nii.gz", cohort / f"root/s{subject}")
    for name in ("s0/seg", "s2/seg", "s1/t1"):
        save(cohort / f"root/{name}.nii.gz", lesion())
    save(cohort / "root/s1/t2.nii.gz", np.full((10, 12, 7), np.nan, np.float32))
    (cohort / "root/s1/seg.nii.gz").unlink()
    status, findings = check(cohort, fixed=str(cohort / "fixed.json"))
    assert (status, {item["split"] for item in findings}) == (1, {"training"})
    assert {item["severity"] for item in findings if item["check"] == "empty_mask"} == {"warning"}
    errors = {item["check"] for item in findings if item["severity"] == "error"}
    assert [check(cohort, accept=",".join([*errors, *more]))[0] for more in ([], ["empty_mask"])] == [1, 0]
    copies = {item["subject"]: item["value"] for item in findings if item["check"] in ("leakage", "duplicate")}
    assert copies == {
        "s0": "the same voxels as s5 in testing",
        "s3": "the same voxels as s2 in training",
        "s4": "the same subject as s4 in testing",
    }
    assert [(item["file"], item["check"]) for item in findings] == [
        ("s0/seg.nii.gz", "empty_mask"),
        ("s0/t1.nii.gz", "leakage"),
        ("s1/t1.nii.gz", "constant"),
        ("s1/t2.nii.gz", "shape"),
        ("s1/seg.nii.gz", "missing"),
        ("s2/seg.nii.gz", "empty_mask"),
        ("s3/t1.nii.gz", "duplicate"),
        ("s4/t1.nii.gz", "leakage"),
    ]
    kept = {"training": [entry("s2")], "testing": [entry("s4"), entry("s5")]}
    assert datalists.read(cohort / "fixed.json") == HEAD | {"preparation": "none"} | kept


# A case


@pytest.mark.parametrize("name", [*HEADERS, *VOXELS])
def test_each_damage_is_a_problem_of_its_file(tmp_path, name):
    damage, check, file, text = (HEADERS | VOXELS)[name]
    damage(write_case(tmp_path))
    (problem,) = examine(CASE, str(tmp_path), "brats2021").problems
    assert (problem.check, problem.file) == (check, file)
    assert text in str(problem)


# Cases that differ from the cohort: records are made up, so that what is odd about one is known

FIGURES = {"spacing": [1.0, 1.0, 1.0], "extent": [140.0, 170.0, 140.0], "volume": 1.9, "air": 0.0, "overlap": 1.0}


def record(name, split="training", **figures):
    case = {"subject": name, "split": split, "image": [f"{name}_t1", f"{name}_t2"]}
    preparation = {name: [value, value] for name, value in (FIGURES | figures).items()}
    return Record(case, [], {name.encode(): f"{name}_t1"}, preparation)


def test_cases_that_differ_from_the_rest_of_the_cohort():
    changes = {2: {"spacing": [1, 1, 1.2]}, 5: {"volume": 4.5}, 7: {"overlap": 0.5}}
    records = [record(f"s{n}", **changes.get(n, {})) for n in range(12)]
    heads = [record(f"s{n}", volume=4.5 if n < 6 else 1.9) for n in range(12)]
    add_outliers(records)
    add_outliers(heads)
    found = {n: [(it.check, it.file) for it in record.problems] for n, record in enumerate(records) if record.problems}
    assert found == {2: [("spacing", "s2_t1")], 5: [("skull", "s5_t1")], 7: [("alignment", "s7_t1")]}
    assert not any(head.problems for head in heads), "half of them: none is an outlier"


def test_visits_of_a_person_in_two_splits_are_leakage_but_not_of_the_unlabelled():
    for split in ("training", "unlabelled"):
        records = [record("1000012_2_0", split), record("1000012_3_0", "validation")]
        add_repeats(records)
        found = [(it.check, it.problem) for record in records for it in record.problems]
        expected = [("leakage", "the same person as 1000012_3_0 in validation")]
        assert found == (expected if split == "training" else [])
