"""The dry run: choice, evidence and questions of a study."""

import pytest

from common.errors import InputError
from deploy.series import preview
from tests.deploy.dicom.dicom_study import Study, change, write_brats


def test_choice_and_evidence_are_printed_without_a_word_of_the_patient(tmp_path, capsys):
    write_brats(tmp_path / "study", None, Study())
    preview(str(tmp_path / "study"))
    printed = capsys.readouterr().out
    assert "SENTINEL" not in printed
    assert len([line for line in printed.splitlines() if line.startswith("series ")]) == 5
    assert "T1ce: series 3 (UID " in printed
    for file in (tmp_path / "study/3").iterdir():
        change(file, ContrastBolusAgent="", SeriesDescription="t1_mprage_tra")
    with pytest.raises(InputError, match="T1ce: no series states contrast agent in its name or header: series 3"):
        preview(str(tmp_path / "study"))
