"""Regions from BIDS's lookup tables. The first table is an example of the specification."""

import pytest

from common.errors import InputError
from tests.support import one_line

TISSUES = (
    "index\tname\tabbreviation\tcolor\tmapping\n"
    "100\tGray Matter\tGM\t#ff53bb\t1\n"
    "101\tWhite Matter\tWM\t#2f8bbe\t2\n"
    "102\tBrainstem\tBS\t#36de72\t11\n"
)
TUMOUR = "index\tname\tcolor\n0\tBackground\tn/a\n1\tnecrosis\tn/a\n2\toedema\t#E69F00\n\n"


@pytest.fixture
def bids(data):
    """Three people with segmentations."""
    for person in ("01", "02", "03"):
        data.touch(f"sub-{person}/anat/sub-{person}_T1w.nii.gz")
        data.touch(f"derivatives/manual/sub-{person}/anat/sub-{person}_space-orig_dseg.nii.gz")
    return data


def table(bids, file, text):
    bids.touch(f"derivatives/manual/{file}")
    (bids.root / "derivatives/manual" / file).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_a_table_at_the_top_names_the_regions(bids, capsys):
    table(bids, "dseg.tsv", TISSUES)
    assert bids.scan()["regions"] == {
        "Gray_Matter": {"labels": [100], "colour": "#ff53bb"},
        "White_Matter": {"labels": [101], "colour": "#2f8bbe"},
        "Brainstem": {"labels": [102], "colour": "#36de72"},
    }
    printed = capsys.readouterr().out
    assert "regions from derivatives/manual/dseg.tsv\n" in printed
    assert "regions: Gray_Matter=100:ff53bb,White_Matter=101:2f8bbe,Brainstem=102:36de72\n" in printed


def test_the_nearest_table_with_the_entities_of_the_label_map_holds(bids):
    table(bids, "dseg.tsv", TISSUES)
    table(bids, "seg-eyes_dseg.tsv", "nothing that is read")
    table(bids, "notes_mydseg.tsv", "nothing that is read")
    for person in ("01", "02", "03"):
        table(bids, f"sub-{person}/anat/sub-{person}_space-orig_dseg.tsv", TUMOUR)
        table(bids, f"sub-{person}/anat/sub-{person}_dseg.tsv", "nothing that is read")
    assert bids.scan()["regions"] == {"necrosis": [1], "oedema": {"labels": [2], "colour": "#e69f00"}}


def test_tables_in_another_order_agree(bids, capsys):
    head, *rows = TISSUES.splitlines()
    table(bids, "sub-01/anat/sub-01_space-orig_dseg.tsv", TISSUES)
    table(bids, "sub-02/anat/sub-02_space-orig_dseg.tsv", "\n".join([head, *reversed(rows)]))
    assert list(bids.scan()["regions"]) == ["Gray_Matter", "White_Matter", "Brainstem"]
    assert "sub-01_space-orig_dseg.tsv and 1 tables like it\n" in capsys.readouterr().out


def test_tables_that_disagree_are_refused_unless_the_user_decides(bids):
    table(bids, "dseg.tsv", TISSUES)
    table(bids, "sub-02/anat/sub-02_space-orig_dseg.tsv", TUMOUR)
    with pytest.raises(InputError) as caught:
        bids.scan()
    assert str(caught.value) == (
        f"--root={bids.root}: derivatives/manual/dseg.tsv has the regions "
        "Gray_Matter=100:ff53bb,White_Matter=101:2f8bbe,Brainstem=102:36de72, "
        "derivatives/manual/sub-02/anat/sub-02_space-orig_dseg.tsv has necrosis=1,oedema=2:e69f00; "
        "expected tables that agree, or --regions=REGIONS.yaml"
    )
    regions = bids.write("regions.yaml", "tissue: {labels: [100, 101]}")
    assert bids.scan(regions=regions)["regions"] == {"tissue": [100, 101]}


def test_tables_of_subjects_without_images_and_of_masks_do_not_count(bids):
    table(bids, "dseg.tsv", TISSUES)
    bids.touch("derivatives/manual/sub-04/anat/sub-04_dseg.nii.gz")
    table(bids, "sub-04/anat/sub-04_dseg.tsv", TUMOUR)
    assert len(bids.scan()["regions"]) == 3
    for person in ("01", "02", "03"):
        bids.label(f"derivatives/manual/sub-{person}/anat/sub-{person}_label-lesion_mask.nii.gz", 1)
    assert bids.scan()["regions"] == {"lesion": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,name\n1,a\n", "columns index,name; expected index and name, separated by tabs"),
        ("", "columns none; expected index and name"),
        ("name\tindex\na\t1.5\n", "line 2: index=1.5: expected a label value, a whole number"),
        ("index\tname\n1\n", "line 2: name=: expected the name of the region"),
        ("index\tname\tcolor\n1\ta\tred\n", "line 2: color=red: expected six hexadecimal digits, such as #ff53bb"),
        ("index\tname\n1\ta b\n2\ta_b\n", "line 3: name=a_b: there is another a_b; expected different names"),
        ("index\tname\n1\ta\n1\tb\n", "regions=a=1,b=1: a and b have the same labels; or --regions=REGIONS.yaml"),
        ("index\tname\n300\ta\n", "expected labels from 1 to 255; 0 is background; or --regions=REGIONS.yaml"),
        ("index\tname\n0\tBackground\n", "only background; expected a region"),
        (b"index\tname\n1\t\xff\n", "no text in Unicode; expected a BIDS lookup table"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(bids, text, message):
    table(bids, "dseg.tsv", text)
    with pytest.raises(InputError) as caught:
        bids.scan()
    assert one_line(caught).startswith(f"{bids.root}/derivatives/manual/dseg.tsv: ")
    assert message in str(caught.value)
