"""Options that cannot be: one line, status 2, nothing written."""

import pytest

from common.errors import InputError
from scripts.prepare.__main__ import prepare
from tests.support import one_line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--target: missing; expected one of mni, mni_fsl, sri24, or --like=ukb|brats|atlas"),
        ({"target": "moon"}, "--target=moon: expected one of mni, mni_fsl, sri24"),
        ({"like": "oasis"}, "--like=oasis: expected one of ukb, brats, atlas"),
        ({"target": "mni", "modalities": None}, "--modalities: missing; expected names"),
        ({"target": "mni", "modalities": ["T1", "T1"]}, "expected different names"),
        ({"target": "mni", "modalities": ["T1", 3]}, "expected different names"),
        ({"target": "mni", "modalities": "../T1"}, "--modalities=../T1: expected different names of letters"),
        ({"target": "mni", "reference": "T2"}, "--reference=T2: expected one of T1"),
        ({"target": "mni", "dof": 9}, "--dof=9: expected 6 or 12"),
        ({"target": "mni", "brain": "bet"}, "--brain=bet: expected one of template, hd-bet, none"),
        ({"target": "mni", "brain": "hd-bet"}, "--brain=hd-bet: no program hd-bet on the PATH"),
        ({"target": "mni", "jobs": 0}, "--jobs=0: expected a whole number from 1"),
        ({"target": "mni", "spacing": 0.5}, "--spacing=0.5: expected a number from 1 to 4"),
        ({"target": "mni", "bias_correction": "often"}, "--bias_correction=often: expected true or false"),
        ({"target": "mni", "patterns": {"T2": "*"}}, "T2 is no modality here; expected T1"),
        ({"target": "mni", "missing": "drop"}, "--missing=drop: expected one of refuse, keep"),
        ({"target": "mni", "labels": "a/seg"}, "--labels=a/seg: expected a word or a pattern of file names"),
        ({"target": "mni", "patterns": "T1"}, "--patterns=T1: expected patterns by modality"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, options, message):
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/a_T1.nii.gz").write_bytes(b"")
    given = {"root": str(tmp_path / "raw"), "output": str(tmp_path / "out"), "modalities": ["T1"], **options}
    with pytest.raises(InputError) as error:
        prepare(**given)
    assert message in f"--{one_line(error).removeprefix('--')}"
    assert not (tmp_path / "out").exists()


def test_the_command_reports_bad_input_in_one_line(run_prepare, tmp_path):
    result = run_prepare("--root=nowhere", f"--output={tmp_path / 'out'}", "--like=atlas")
    assert result.returncode == 2
    expected = "error: --root=nowhere: no such folder; expected a folder of raw scans\n"
    assert result.stderr == expected


def test_output_inside_the_input_is_refused(run_prepare, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a_T1.nii.gz").write_bytes(b"")
    result = run_prepare(f"--root={tmp_path}", f"--output={tmp_path / 'out'}", "--like=atlas")
    assert result.returncode == 2
    assert "lies in" in result.stderr


def test_damaged_scans_are_one_line_each(run_prepare, tmp_path):
    (tmp_path / "raw").mkdir()
    for subject in ("a", "b"):
        (tmp_path / f"raw/{subject}_T1.nii.gz").write_bytes(b"no image")
    result = run_prepare(f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'out'}", "--like=atlas", "--jobs=2")
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if "expected a NIfTI image" in line]
    assert [line[:3] for line in lines] == ["a: ", "b: "]
    assert "0 new, 0 done before, 2 failed" in result.stdout
    assert "Traceback" not in result.stderr
