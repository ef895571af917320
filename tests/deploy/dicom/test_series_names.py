"""Names of series as sites, public collections and strangers in some 30 languages write them: right or asked."""

import csv
from pathlib import Path

from deploy.dicom.series.evidence import ASK, candidates_of
from tests.deploy.dicom.dicom_study import series_of


def test_each_name_is_right_or_asked():
    """`answer` is a modality, none, or ask; no table of a site, and a T1 without agent beside the series."""
    with Path(__file__).with_name("series_names.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    plain, wrong, asked, answerable = series_of("1.2", SeriesDescription="T1"), [], 0, 0
    for row in rows:
        agent = "gadobutrol" if row["agent"] else ""
        series = series_of("1.3", SeriesDescription=row["name"], ContrastBolusAgent=agent)
        modality = candidates_of([series, plain], ())[0].modality
        if modality in (ASK, None):
            asked += row["answer"] not in (ASK, "none")
        elif modality != row["answer"]:
            wrong.append((row, modality))
        answerable += row["answer"] not in (ASK, "none")
    assert wrong == []
    assert asked < 0.1 * answerable
