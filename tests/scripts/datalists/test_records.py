"""What a check remembers of files that it has read, and what makes it read them again."""

import os
import signal
from pathlib import Path

import nibabel
import numpy as np
import pytest

from scripts.datalists import records
from scripts.datalists.examine import examine

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Three subjects of which the second has too large a label; `read` lists who was examined since it last did."""
    for number in range(3):
        volume = np.random.default_rng(number).integers(1, 900, (8, 8, 8)).astype(np.int16)
        label = np.zeros((8, 8, 8), np.uint8)
        label[3:5, 3, 3] = 1 + 8 * (number == 1)
        for name, content in (("t1", volume), ("seg", label)):
            path = tmp_path / f"root/s{number}/{name}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(content, AFFINE), path)
    log = tmp_path / "log"

    def logged(case, **options):
        with log.open("a") as file:
            file.write(f"{case['subject']}\n")
        return examine(case, **options)

    monkeypatch.setattr(records, "examine", logged)
    return tmp_path


def case(number, split="training"):
    return {"subject": f"s{number}", "split": split, "image": [f"s{number}/t1.nii"], "label": f"s{number}/seg.nii"}


CASES = [case(0), case(1), case(2)]


def run(folder, cases=CASES, convention="atlas", root="root"):
    """The records, and who was examined for them."""
    found = records.examine_all(cases, str(folder / root), convention, folder / "out", workers=1)
    log = folder / "log"
    read = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found, read


def test_files_that_are_the_same_are_not_read_again(cohort, capsys):
    first, read = run(cohort)
    assert read == ["s0", "s1", "s2"]
    again, read = run(cohort)
    assert read == []
    assert again == first == [examine(each, str(cohort / "root"), "atlas")._replace(thumbnail=b"") for each in CASES]
    assert [problem.check for problem in again[1].problems] == ["label_values"]
    assert "3 of 3 subjects were read before, and their files are the same" in capsys.readouterr().err


def test_a_file_that_changed_is_read_again(cohort):
    for name in ("t1", "seg"):
        run(cohort)
        path = cohort / f"root/s2/{name}.nii"
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert run(cohort)[1] == ["s2"]


def test_what_else_a_record_depends_on(cohort, monkeypatch):
    run(cohort)
    assert run(cohort, [case(0, "testing"), *CASES[1:]])[1] == [], "the check compares the splits"
    assert run(cohort, [case(0, "unlabelled"), *CASES[1:]])[1] == ["s0"]
    run(cohort)
    assert run(cohort, convention="brats2021")[1] == ["s0", "s1", "s2"]
    run(cohort)
    (cohort / "root").rename(cohort / "moved")
    assert run(cohort, root="moved")[1] == ["s0", "s1", "s2"], "a copy may be damaged and have the same times"
    monkeypatch.setattr(records, "FORMAT", records.FORMAT + 1)
    assert run(cohort, root="moved")[1] == ["s0", "s1", "s2"]


def test_a_check_that_was_stopped_goes_on(cohort, monkeypatch):
    logged = records.examine

    def stopped(each, **options):
        if each["subject"] == "s2":
            os.kill(os.getpid(), signal.SIGKILL)
        return logged(each, **options)

    monkeypatch.setattr(records, "examine", stopped)
    found, read = run(cohort)
    assert read == ["s0", "s1"]
    assert found[2].problems[0].value == records.NO_RECORD
    monkeypatch.setattr(records, "examine", logged)
    found, read = run(cohort)
    assert read == ["s2"]
    assert found[2].problems == ()


@pytest.mark.parametrize("content", ["not JSON", '{"state": 1}', "[" * 100_000])
def test_a_broken_record_is_written_anew(cohort, content):
    first, _ = run(cohort)
    for path in Path(cohort / "out").rglob("*.json"):
        path.write_text(content)
    assert run(cohort) == (first, ["s0", "s1", "s2"])
