import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from pydicom.sr.codedict import codes

from deploy.tasks import TASKS


def test_segments_have_snomed_codes():
    """Compared with pydicom's tables, which lack 55641003, |Infarct (morphologic abnormality)|."""
    known = [codes.SCT.Necrosis, codes.SCT.Edema, codes.SCT.Neoplasm]
    assert [(segment.code, segment.meaning) for segment in TASKS["tumour"].segments] == [
        (code.value, code.meaning) for code in known
    ]
    assert [(segment.code, segment.meaning) for segment in TASKS["stroke"].segments] == [("55641003", "Infarct")]
