import errno
import json
import os
import subprocess
import sys

import pytest

from common.errors import InputError
from scripts.datalists import layouts as cohorts
from tests.scripts.datalists.cohorts import add_ukb, touch
from tests.support import ROOT, one_line

ATLAS_FILE = "{0}/ses-{1}/anat/{0}_ses-{1}_space-MNI152NLin2009aSym_T1w.nii.gz"


@pytest.mark.parametrize(
    ("cohort", "folder", "title"),
    [
        ("ukb", "1000012_20253_3_0", "UK Biobank"),
        ("brats", "BraTS2021_00000", "BraTS 2021"),
        ("brats", "BraTS-GLI-02062-101", "BraTS 2023 and 2024"),
        ("atlas", "sub-r001s001", "subjects"),
        ("atlas", "R001", "sites"),
        ("atlas", "Testing", "release"),
    ],
)
def test_the_folders_names_tell_the_layout(tmp_path, cohort, folder, title):
    (tmp_path / folder).mkdir()
    (tmp_path / "other").mkdir()
    assert cohorts.detect(cohort, tmp_path).title == title


@pytest.mark.parametrize(
    ("cohort", "folders", "message"),
    [
        ("brats", [], r"no subject of brats; expected folders such as BraTS2021_00000 or .*; found nothing$"),
        ("brats", ["a", "b", "c", "d", "e", "f"], r"found a, b, c, d and 2 more$"),
        ("ukb", ["1000012_20252_2_0.zip"], r"expected folders such as 1000012_20252_2_0; found 1000012_20252_2_0.zip"),
        ("atlas", ["sub-001"], "expected folders such as sub-r001s001/ses-1 or R001/sub-r001s001/ses-1 or Training/R0"),
        ("brats", ["BraTS2021_00001", "BraTS-GLI-00000-000"], r"mixed: .*, as their labels differ"),
        ("atlas", ["sub-r001s001", "R001"], r"mixed: sub-r001s001 \(subjects\), R001 \(sites\); expected one"),
    ],
)
def test_unknown_and_mixed_layouts_are_named_in_one_line(tmp_path, cohort, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=message) as error:
        cohorts.detect(cohort, tmp_path)
    assert str(error.value).startswith(f"--root={tmp_path}: ")
    assert one_line(error)


def _find(cohort, root):
    return cohorts.find(cohorts.detect(cohort, root), root)


def test_visits_have_relative_paths_and_name_what_is_missing(tmp_path):
    touch(tmp_path, "1000012_20252_3_0/T1/T1_brain_to_MNI.nii.gz", "1000012_20253_2_0/T2_FLAIR/T2_FLAIR.nii.gz")
    (tmp_path / "1000013_20252_2_0/T1/T1_brain_to_MNI.nii.gz").mkdir(parents=True)
    first, second, third = _find("ukb", tmp_path)
    assert [visit.subject for visit in (first, second, third)] == ["1000012_2_0", "1000012_3_0", "1000013_2_0"]
    assert [visit.person for visit in (first, second, third)] == ["1000012", "1000012", "1000013"]
    assert [visit.missing for visit in (first, second, third)] == [("T1", "FLAIR"), ("FLAIR",), ("T1", "FLAIR")]
    assert first.image == (
        "1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz",
        "1000012_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
    )


def test_sessions_after_the_first_are_subjects_of_the_same_person(tmp_path):
    for session in (1, 2, 11):
        touch(tmp_path, f"elsewhere/{ATLAS_FILE.format('sub-r001s001', session)}")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/R001").symlink_to(tmp_path / "elsewhere")  # links to folders are followed
    visits = _find("atlas", tmp_path / "root")
    assert [visit.subject for visit in visits] == ["sub-r001s001", "sub-r001s001_ses-11", "sub-r001s001_ses-2"]
    assert {visit.person for visit in visits} == {"sub-r001s001"}
    assert {visit.label for visit in visits} == {None}
    assert not any(visit.missing for visit in visits)


def test_a_subject_in_two_places_is_named(tmp_path):
    for part in ("Training", "Testing"):
        touch(tmp_path, f"{part}/R001/{ATLAS_FILE.format('sub-r001s001', 1)}")
    with pytest.raises(InputError, match=r"sub-r001s001 exists twice: Testing/R001/.* and Training/R001/.*; expected"):
        _find("atlas", tmp_path)


def test_skipped_folders_are_named_on_one_line(tmp_path, capsys):
    touch(tmp_path, "BraTS2021_00000/a", "BraTS-MEN-00004-000/a", "BraTS2021_1/a", "a\nb/a", "readme.txt")
    (tmp_path / "c\udcffd").mkdir()
    _find("brats", tmp_path)
    told = "skipped, not a folder of the layout: BraTS-MEN-00004-000, BraTS2021_1, a\\nb, c\\udcffd\n"
    assert capsys.readouterr().out == told


def test_a_file_that_may_not_be_looked_up_is_not_missing(tmp_path, monkeypatch):
    """As in a folder without permission to search it; root, who may run the tests, has every permission."""
    touch(tmp_path, f"R001/{ATLAS_FILE.format('sub-r001s001', 1)}")
    plain = os.stat

    def denied(path, *arguments, **options):
        if str(path).endswith("_T1w.nii.gz"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return plain(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(InputError, match=r"R001/.*_T1w\.nii\.gz: Permission denied; expected a file"):
        _find("atlas", tmp_path)


def test_a_file_behind_a_file_or_a_dead_link_is_missing(tmp_path):
    touch(tmp_path, "1000012_20252_2_0/T1", "1000012_20253_2_0/T2_FLAIR/other")
    (tmp_path / "1000012_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").symlink_to("/no/such")
    (visit,) = _find("ukb", tmp_path)
    assert visit.missing == ("T1", "FLAIR")


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "BraTS2021_00000").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=f"^--root={tmp_path}/loop: Too many levels of symbolic links"):
        cohorts.detect("brats", tmp_path)


SCAN = """
import re, runpy
from pathlib import Path
runpy.run_module("scripts.datalists", run_name="__main__", alter_sys=True)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""  # rusage's figure would be that of the process which started this one, if it is larger


@pytest.mark.slow
def test_a_cohort_of_the_size_of_uk_biobank_is_scanned_in_little_memory(tmp_path):
    """41,400 participants in a process of its own; 4 s and 120 MB where this was written, without the making."""
    add_ukb(tmp_path / "ukb", *range(1000012, 1000012 + 41_400))
    command = [sys.executable, "-c", SCAN, "ukb", f"--root={tmp_path}/ukb", f"--output={tmp_path}/list.json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert "41400/41400" in result.stderr, "progress is shown"
    content = json.loads((tmp_path / "list.json").read_text())
    assert [len(content[split]) for split in ("training", "validation", "testing")] == [37_260, 4_140, 0]
    assert int(result.stdout.split()[-1]) < 2**19  # KiB
