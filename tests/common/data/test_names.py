import pytest

from common.data.names import UNCLEAR, check_order, in_folders, modality_of, split_name
from tests.support import refused


def test_usual_spellings_are_known_as_whole_words_at_the_end_of_a_name():
    """Spellings of BraTS 2021 and 2023, the Decathlon (T1gd), BIDS, scanners and people; the longest wins."""
    spellings = {"T1ce": "t1ce t1c T1Gd T1-Gd ceT1w", "T1": "T1 t1n T1w MPRAGE", "FLAIR": "Flair t2f T2-FLAIR"}
    spellings |= {"T2": "T2w t2", "PD": "PDw", "T2star": "T2starw"}
    for modality, words in spellings.items():
        assert {word: modality_of(word) for word in words.split()} == dict.fromkeys(words.split(), modality)
    assert [modality_of(word) for word in ("seg", "brain", "T1map", "11", "")] == [None] * 5
    names = {"S1_T2_FLAIR": ("S1", "FLAIR"), "BraTS-GLI-00005-100-t1c": ("BraTS-GLI-00005-100", "T1ce")}
    names |= {"a_b.T1_Gd": ("a_b", "T1ce"), "T1 w post": ("", UNCLEAR), "FLAIR": ("", "FLAIR"), "S1t1": ("S1t1", None)}
    assert {name: split_name(name) for name in names} == names


@pytest.mark.parametrize(
    ("modality", "names"),
    [
        ("T1ce", "Gd_T1 C+_T1w postcontrast_T1 post-contrast_T1 T1_KM T1+C P1_ce_T1 P1_acq-gd_T1w sub-1_acq-km_T1w"),
        (
            "T1ce",
            "T1_with_contrast post_Gd_T1 T1_post_gado contrast_enhanced_MPRAGE sub-1_ce-gadolinium_T1w T1post T1+",
        ),
        ("T1ce", "P1_t1ce_mprage T1c_MPRAGE enh_T1 sub-1_acq-T1gd_T1w sub-1_acq-mprageCE_T1w sub-1_acq-3dce_T1w"),
        ("T1ce", "sub-1_ce-1_T1w sub-1_acq-postgadolinium_T1w sub-1_acq-mpragePostGd_T1w"),
        ("T1", "sub-1_ce-none_T1w sub-1_acq-space_T1w sub-1_acq-nogd_T1w T1_gad_pre sub-1_acq-postop_T1w P1_t1_mprage"),
        ("T1", "no_gd_T1 pre_contrast_T1 precontrast_T1 T1_without_contrast gadgil_T1 sub-km_T1w sub-post_T1w pre_T1"),
        ("T1", "sub-1_space-MNI152_T1w"),
        (UNCLEAR, "post_T1 T1_post P1_post_T1w sub-1_acq-post_T1w sub-1_acq-mpragepost_T1w"),
        ("FLAIR", "Gd_FLAIR post_FLAIR"),
    ],
)
def test_contrast_agent_is_stated_by_whole_words_beside_t1(modality, names):
    assert {name: split_name(name)[1] for name in names.split()} == dict.fromkeys(names.split(), modality)


@pytest.mark.parametrize(
    ("modality", "folders"),
    [
        ("T1ce", "P1/Gd P1/postcontrast C+/P1 P1_Gd P1/Gd/raw post/Gd T1ce"),
        (UNCLEAR, "P1/post P1/T1_post P1_post post/P1"),
        ("T1", "P1 P1/post-op P1/postop P1/preop P1/baseline P1/no_contrast sub-1/ses-post P1/T1 P1/post_surgery"),
    ],
)
def test_folders_state_contrast_agent_of_a_t1(modality, folders):
    assert {path: in_folders("T1", path.split("/")) for path in folders.split()} == dict.fromkeys(
        folders.split(), modality
    )
    assert {in_folders("FLAIR", path.split("/")) for path in folders.split()} == {"FLAIR"}


def test_images_in_the_place_of_another_modality_are_refused():
    """Not so a name that states none of the modalities, or the one whose own image states it, too."""
    modalities = ["FLAIR", "T1ce", "T1", "T2"]
    for names in ("P1_flair P1_t1ce P1_t1 P1_t2", "P1_FLAIR_to_T1 Gd/T1 T1 T2", "P1_1 P1_2 P1_3 P1_4"):
        check_order([f"{name}.nii.gz" for name in names.split()], modalities)
    for files, name in (
        (["P1_flair.nii.gz", "P1_t1", "P1_t1ce", "P1_t2"], "T1"),
        (["P1_t1", "P1_agent", "P1_flair", None], "T1"),
        ([None, "P1_t1ce", "P1_flair", "P1_t2"], "FLAIR"),
        (["P1_t1", "P1_t1ce", "P1_native", "P1_t2"], "T1"),
    ):
        with refused(f"P1_{name.lower()}", text=f"its name says {name}; expected"):
            check_order(files, modalities)
