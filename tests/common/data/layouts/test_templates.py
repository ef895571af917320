"""Match paths with templates and words."""

import pytest

from common.data.cohorts import COHORTS
from common.data.layouts.names import LABEL, Naming, fits
from common.data.layouts.templates import Template


@pytest.mark.parametrize(
    ("path", "words", "expected"),
    [
        ("10/pre/FLAIR", "pre/FLAIR", True),
        ("10/orig/FLAIR", "pre/FLAIR", False),
        ("10/unpre/FLAIR", "pre/FLAIR", False),
        ("10/pre_FLAIR", "FLAIR", True),
        ("10/preFLAIR", "FLAIR", False),
        ("IXI-T1/a/IXI002", "IXI-T1/*", False),
        ("IXI-T1/IXI002", "ixi-t1/*", True),
        ("IXI-T1/a/IXI002", "IXI-T1/**", True),
        ("P1/P1_T1", "{subject}/{subject}_T1", True),
        ("P1/P2_T1", "{subject}/{subject}_T1", False),
        ("a.b/c", "axb/c", False),
    ],
)
def test_words_and_templates_reach_the_path(path, words, expected):
    assert fits(path, words) is expected


@pytest.mark.parametrize(
    "layout", [layout for cohort in COHORTS.values() for layout in cohort.layouts], ids=lambda layout: layout.title
)
def test_a_template_reads_what_it_writes(layout):
    values = {"person": "7", "visit": "2_0", "session": "1", "above": ""}
    for text in layout.files.values():
        fields = Template(text, {"above": ".*"}).match(text.format(**values))
        assert fields == {name: values[name] for name in fields}


def test_a_template_states_the_subject():
    naming = Naming(("T1",), {"T1": "{subject}/pre/T1"})
    assert naming.parse("T1", "Utrecht/10/pre/T1").subject == "10"
    assert naming.parse("T1", "Utrecht/10/orig/T1").kind is None


def test_the_tumour_volume_of_radiotherapy_is_a_label_map():
    assert Naming().parse("BraTS-MEN-RT-0004-1_gtv")[:2] == ("BraTS-MEN-RT-0004-1", LABEL)
