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
    (bids.root / "derivatives/manual" / file).write_text(text)


def test_a_table_at_the_top_names_the_regions(bids, capsys):
    table(bids, "dseg.tsv", TISSUES)
    assert bids.scan()["regions"] == {
        "Gray_Matter": {"labels": [100], "colour": "#ff53bb"},
        "White_Matter": {"labels": [101], "colour": "#2f8bbe"},
        "Brainstem": {"labels": [102], "colour": "#36de72"},
    }
    assert "regions from derivatives/manual/dseg.tsv\n" in capsys.readouterr().out


def test_the_nearest_table_with_the_entities_of_the_label_map_holds(bids):
    table(bids, "dseg.tsv", TISSUES)
    table(bids, "seg-eyes_dseg.tsv", "nothing that is read")
    for person in ("01", "02", "03"):
        table(bids, f"sub-{person}/anat/sub-{person}_space-orig_dseg.tsv", TUMOUR)
        table(bids, f"sub-{person}/anat/sub-{person}_dseg.tsv", "nothing that is read")
    assert bids.scan()["regions"] == {"necrosis": [1], "oedema": {"labels": [2], "colour": "#e69f00"}}


def test_tables_that_disagree_are_refused_unless_the_user_decides(bids):
    table(bids, "dseg.tsv", TISSUES)
    table(bids, "sub-02/anat/sub-02_space-orig_dseg.tsv", TUMOUR)
    with pytest.raises(InputError, match=r"dseg\.tsv has the regions Gray.* has necrosis=1.*tables that agree"):
        bids.scan()
    regions = bids.write("regions.yaml", "tissue: {labels: [100, 101]}")
    assert bids.scan(regions=regions)["regions"] == {"tissue": [100, 101]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,name\n1,a\n", "columns index,name; expected index and name, separated by tabs"),
        ("index\tname\tcolor\n1\ta\tred\n", "line 2: color=red: expected six hexadecimal digits, such as #ff53bb"),
        ("index\tname\n1\ta b\n2\ta_b\n", "line 3: name=a_b: there is another a_b; expected different names"),
        ("index\tname\n300\ta\n", "expected labels from 1 to 255; 0 is background; or --regions=REGIONS.yaml"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(bids, text, message):
    table(bids, "dseg.tsv", text)
    with pytest.raises(InputError) as caught:
        bids.scan()
    assert one_line(caught).startswith(f"{bids.root}/derivatives/manual/dseg.tsv: ")
    assert message in str(caught.value)
