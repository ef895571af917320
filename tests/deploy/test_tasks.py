from pydicom.sr.codedict import codes

from common.data.cohorts import COHORTS
from common.data.regions import colours
from deploy.tasks import TASKS

TUMOUR, STROKE = (TASKS[name].segments for name in ("brats", "atlas"))


def test_segments_have_snomed_codes():
    """Compared with pydicom's tables, which lack 55641003, |Infarct (morphologic abnormality)|."""
    known = [(code.value, code.meaning) for code in (codes.SCT.Necrosis, codes.SCT.Edema, codes.SCT.Neoplasm)]
    found = [(segment.code, segment.meaning) for segment in (*TUMOUR, *STROKE)]
    assert found == [*known, ("55641003", "Infarct")]


def test_segments_have_the_colours_of_their_regions():
    for name, task in TASKS.items():
        convention = next(iter(COHORTS[name].conventions))
        assert {segment.colour for segment in task.segments} == {*colours(convention).values()}
        assert all(segment.colour == colours(convention)[segment.region] for segment in task.segments)
        assert task.reference in COHORTS[name].modalities
