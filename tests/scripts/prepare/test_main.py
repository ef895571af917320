"""Options that cannot be: one line, status 2, nothing written."""

import pytest

from common.errors import InputError
from scripts.prepare.__main__ import accepted_of, prepare
from tests.support import one_line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--target: missing; expected one of mni, mni_fsl, sri24, or --like=ukb|brats|atlas"),
        ({"target": "moon"}, "--target=moon: expected one of mni, mni_fsl, sri24"),
        ({"target": "mni", "modalities": "../T1"}, "--modalities=../T1: expected different names of letters"),
        ({"target": "mni", "reference": "T2"}, "--reference=T2: expected one of T1"),
        ({"target": "mni", "brain": "hd-bet"}, "--brain=hd-bet: no program hd-bet on the PATH"),
        ({"target": "mni", "spacing": 0.5}, "--spacing=0.5: expected a number from 1 to 4"),
        ({"target": "mni", "accept": "a,b"}, "--accept=b: no such subject; expected some of a, or all"),
        ({"target": "mni", "accept": ""}, "--accept=: expected names of subjects, such as sub-01,sub-02, or all"),
        ({"target": "mni", "patterns": {"T2": "*"}}, "T2 is no modality here; expected T1"),
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


def test_names_that_look_like_numbers_can_be_accepted(tmp_path, run_prepare):
    """Those of UK Biobank: Python reads 1234567_20252_2_0 as a number."""
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/a_T1.nii.gz").write_bytes(b"")
    options = [f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'out'}", "--like=atlas"]
    result = run_prepare(*options, "--accept=1234567_20252_2_0")
    assert "error: --accept=1234567_20252_2_0: no such subject; expected some of a, or all" in result.stderr
    assert accepted_of("a,b", ["a,b", "c"]) == ["a,b"], "a name with a comma"


def test_places_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a_T1.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="--root=nowhere: no such folder; expected a folder of raw scans"):
        prepare(root="nowhere", output=str(tmp_path / "out"), like="atlas")
    with pytest.raises(InputError, match="lies in"):
        prepare(root=str(tmp_path), output=str(tmp_path / "out"), like="atlas")
