"""In many languages, harmless words beside a modality change nothing, and ambiguous words make a name doubtful."""

from collections import Counter

import pytest

from common.dicom.series.words import GROUPS, POST, WITH, WITHOUT, read_words

# fmt: off
NAMES = {  # kind and contrast, by names
    ("T1", None): ["T1 sag ripetizione", "t1_tra_omtag", "T1W_MPR_vNav", "T1 sag Skyra", "T1 axialis", "T1 obeliaia"],
    ("T1", WITHOUT): [
        "T1 do kontrasta", "T1 brez kontrasta", "T1 u. kontrast", "T1 não contraste", "T1 z/contrast",
        "T1 kontrasztmentes", "T1 choris skiagrafiko", "Τ1 ΠΡΙΝ ΣΚΙΑΓΡΑΦΙΚΟ", "T1 بدون تزریق",
        "T1 打藥前", "T1 造影剤投与前", "T1 プレーン", "T1 ไม่ฉีดสี", "T1 chưa tiêm thuốc", "T1 án skuggaefnis",
        "T1 без контрастування", "T1 bez ks",
    ],
    ("T1", WITH): [
        "T1 s kontrastem", "T1 posle kontrasta", "T1 tehosteella", "T1 kontraszt után", "T1 m/k", "T1 sag KL",
        "Τ1 ΜΕΤΑ ΣΚΙΑΓΡΑΦΙΚΟ", "T1 meta skiagrafiko", "AX VIBE +C", "T1 na contrast herhaling", "T1 nakon kontrasta",
        "T1 kontrast madde sonrası", "T1 AX INJ FS", "opt_T1_TSE_enh", "T1 C/C", "T1 m kontrast", "T1 橫斷面 顯影後",
        "ｿﾞｳｴｲ T1", "T1 조영제 주입 후", "T1 หลังฉีดสี", "T1 са контрастом", "T1 post gd day 2", "GK T1 +C frame",
    ],
    ("T2", None): [
        "T2 tra herhaling", "T2 TEKRAR", "T2 povtor", "T2 ΕΓΚΑΡΣΙΑ", "T2 egkarsia", "T2 ESR bis", "T2 重扫 横断",
        "T2 supine HFS", "T2 腦部 軸狀", "T2 sọ não", "t2_arms_fse_tra", "T2 POST OP DAY 1", "Т2 глава коронарно",
    ],
    ("FLAIR", None): ["VFLAIR sag", "fFLAIR ax", "AX T2 FALIR", "FLAIR SM gl", "FLAIR sag deep resolve boost"],
}
DOUBTFUL = [
    "t1_mprage_sag_MPR_tra", "T1_MPR_tra", "MPR - T1 tra", "FLAIR reformat", "T2 recon", "AX T1 2", "AX T1 2nd",
    "AX VIBE", "FLAIR VIBE", "T1 SENSE contrast", "T1 kl", "T1 KL FOV", "T1 2nd inj", "T2 CAP", "T1 opak", "T1 pro GD",
    "T1 dyn", "T2 temporal", "T1 enhanced", "T1 enh filter", "T1 só não contraste", "T1 POST DAY 3", "T2 prone",
    "T2 спина", "T2 spinal", "MP2RAGE_T1_Images", "T1_Images", "AX T1 S CONTRASTE", "T1_s_gd", "T1 high contrast",
    "T1 10% dose gad", "t2_tse_dixon_tra_F", "AI-generated T2", "FLAIR Auge",
]
# fmt: on


@pytest.mark.parametrize(("meaning", "name"), [(meaning, name) for meaning, names in NAMES.items() for name in names])
def test_names_are_read_in_many_languages(meaning, name):
    words = read_words(name)
    assert (words.kind, words.contrast, words.unread) == (*meaning, False)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_reformats_second_scans_and_ambiguous_words_are_doubtful(name):
    assert read_words(name).unread


@pytest.mark.parametrize("plain", ["t1_mprage_sag post", "AX T1 FS post", "T1 brain post", "Post T1 SE"])
@pytest.mark.parametrize(
    "event", ["", "DBS", "LGK", "seizure", "op", "visit 2", "治療", "biopsie", "quux", "day 3", "6"]
)
def test_post_alone_states_no_agent(plain, event):
    for name in (f"{plain} {event}", f"{event} {plain}"):
        words = read_words(name)
        assert words.contrast == POST or words.unread, name
    assert read_words(f"{plain} gado").contrast == WITH


def test_no_word_has_two_meanings():
    words = Counter(word for words in GROUPS.values() for word in set(words.split()))
    assert [word for word, count in words.items() if count > 1] == []


@pytest.mark.parametrize(
    ("name", "kind", "contrast", "unread"),
    [
        ("sub-014_ses-02_run-1_T1w", "T1", None, False),
        ("sub-07_ses-01_ce-gadolinium_T1w", "T1", "with", False),
        ("t1_mprage_tra +C SUB-PRE", "T1", "unclear", True),  # of BIDS only if the whole name is
        ("T1 KM Sub-traktion", "T1", "with", True),
        ("T1 RUN-OFF", "T1", None, True),
        ("T1 tra post 3mm", "T1", "post", False),
        ("t2_flair_tra post", "FLAIR", "post", False),
    ],
)
def test_names_of_bids_and_numbers_beside_post(name, kind, contrast, unread):
    words = read_words(name)
    assert (words.kind, words.contrast, words.unread) == (kind, contrast, unread)
