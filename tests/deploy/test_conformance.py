"""The conformance statement agrees with the code."""

import re

from common.data.cohorts import COHORTS
from common.data.regions import segments_of
from common.dicom.series.evidence import MR_IMAGES
from deploy.outputs.segmentation import ANATOMY, CATEGORY, OWN_CATEGORY
from deploy.replaced import PURPOSE
from deploy.source_header import IDENTITY
from tests.support import ROOT

PAGE = (ROOT / "docs/reference/dicom-conformance.md").read_text()


def cells(section):
    """Return the table rows of a section, without headings."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [
        row
        for row, below in zip(rows, [*rows[1:], [""]], strict=True)
        if not below[0].startswith("--") and "--" not in row[0]
    ]


def test_it_names_the_classes_attributes_and_codes_of_the_code():
    assert {uid for _, uid in cells("Objects that are read")} == {str(uid) for uid in MR_IMAGES}
    written = {row[0]: row[1] for row in cells("Objects that are written") if row[0].startswith("copied")}
    assert [*written.values()] == [", ".join(IDENTITY)]
    first, *rows = cells("Codes")
    conventions = [next(iter(card.conventions)) for card in COHORTS.values() if card.conventions]
    assert {tuple(row[:2]) for row in (first, *rows)} == {
        (segment.label, segment.code.replace(" SCT", "")) for name in conventions for segment in segments_of(name)
    }
    assert f"{OWN_CATEGORY.value} {OWN_CATEGORY.meaning} (SCT)" in PAGE
    assert first[2:] == [f"{code.value} {code.meaning}" for code in (CATEGORY, ANATOMY)]
    assert re.search(
        rf'`{PURPOSE["CodeValue"]}`, "{PURPOSE["CodeMeaning"]}" \({PURPOSE["CodingSchemeDesignator"]}\)', PAGE
    )
