from pydicom.sr.codedict import codes

from common.prepare.targets import TARGETS
from deploy.tasks import TASKS

TUMOUR, STROKE = (TASKS[name].segments for name in ("tumour", "stroke"))


def test_segments_have_snomed_codes():
    """Compared with pydicom's tables, which lack 55641003, |Infarct (morphologic abnormality)|."""
    known = [(code.value, code.meaning) for code in (codes.SCT.Necrosis, codes.SCT.Edema, codes.SCT.Neoplasm)]
    found = [(segment.code, segment.meaning) for segment in (*TUMOUR, *STROKE)]
    assert found == [*known, ("55641003", "Infarct")]


def test_scans_are_prepared_as_the_model_expects_the_brain():
    for task in TASKS.values():
        assert (TARGETS[task.cohort].brain != "none") == task.skull_stripped
        assert task.reference in TARGETS[task.cohort].modalities
