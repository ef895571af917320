import pytest

from common.data.modalities import SPELLINGS, modality_of, split_name


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        *[(word, "T1ce") for word in ("t1ce", "t1c", "T1Gd", "T1CE", "T1-Gd", "T1_post", "ceT1w")],
        *[(word, "T1") for word in ("T1", "t1n", "T1w", "MPRAGE")],
        *[(word, "FLAIR") for word in ("Flair", "t2f", "T2-FLAIR")],
        *[(word, "T2") for word in ("T2w", "t2")],
        ("PDw", "PD"),
        ("T2starw", "T2star"),
        *[(word, None) for word in ("seg", "brain", "T1map", "11", "")],
    ],
)
def test_usual_spellings_are_known(text, modality):
    """Spellings of BraTS 2021 and 2023, the Decathlon (T1gd), BIDS, scanners and people."""
    assert modality_of(text) == modality


def test_no_spelling_has_two_modalities():
    words = [word for spellings in SPELLINGS.values() for word in spellings]
    assert len(set(words)) == len(words)
    assert all(modality_of(word) == name for name, spellings in SPELLINGS.items() for word in spellings)
    assert all(modality_of(name) == name for name in SPELLINGS)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("S1_T2_FLAIR", ("S1", "FLAIR")),
        ("BraTS-GLI-00005-100-t1c", ("BraTS-GLI-00005-100", "T1ce")),
        ("a_b.T1_post", ("a_b", "T1ce")),
        ("T1 w post", ("", "T1ce")),
        ("FLAIR", ("", "FLAIR")),
        ("S1t1", ("S1t1", None)),
        ("T1_brain", ("T1_brain", None)),
    ],
)
def test_the_longest_spelling_ends_a_name(name, parts):
    assert split_name(name) == parts
