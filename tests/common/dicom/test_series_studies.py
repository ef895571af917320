"""A hundred studies of 17 languages, written without sight of rules and words: no wrong series, few questions.

studies.csv has their headers. 28 of them have no scan after contrast agent, but one after an operation, radiotherapy, a
seizure or a visit. Voxels are those that the headers describe: `truth` and `enhanced` stand in for their comparison.
"""

import csv
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from common.dicom.series.choice import choose_series
from common.dicom.series.pairs import Pairs
from common.dicom.study import Instance, Series
from common.errors import InputError
from tests.common.dicom.dicom_study import header

pytestmark = pytest.mark.slow  # minutes

MODALITIES = ("FLAIR", "T1ce", "T1", "T2")
PLANES = {"ax": [1, 0, 0, 0, 1, 0], "sag": [0, 1, 0, 0, 0, -1], "cor": [1, 0, 0, 0, 0, -1]}
KEYWORDS = {"description": "SeriesDescription", "protocol": "ProtocolName", "time": "AcquisitionTime"}
KEYWORDS |= {"agent": "ContrastBolusAgent", "injected": "ContrastBolusStartTime", "acquisition": "MRAcquisitionType"}
KEYWORDS |= {"echo": "EchoTime", "repetition": "RepetitionTime", "inversion": "InversionTime"}
FIELD, HIGH = 240, 130  # mm, in the plane and across it
LEAST = 1.4  # mm, thickness of the thinnest slices, so that there are few of them


def series_of(row):
    """Return the headers of a series whose field of view contains a brain."""
    uid = f"1.2.{int(row['study'][1:])}.{row['number']}"
    values = {keyword: row[name] for name, keyword in KEYWORDS.items() if row[name]}
    values |= {"ScanningSequence": row["sequence"].split(), "ImageType": row["image_type"].split()}
    values |= {"SOPClassUID": MRImageStorage, "Modality": "MR", "SeriesNumber": row["number"], "StudyDate": "20260102"}
    values |= {"ScanOptions": "FS" if row["fat"] else "", "FrameOfReferenceUID": "1.2.9", "SeriesInstanceUID": uid}
    thickness = max(float(row["thickness"] or 5), LEAST)
    edge = 0.9375 if row["acquisition"] == "2D" else 1.0
    values |= {"Rows": round(FIELD / edge), "Columns": round(FIELD / edge), "PixelSpacing": [edge, edge]}
    cosines = PLANES[row["plane"]]
    step = np.cross(cosines[:3], cosines[3:]) * thickness
    shared = header(**values, ImageOrientationPatient=cosines)
    instances = []
    for number in range(round(HIGH / thickness)):
        image = Dataset()
        image.update(shared)
        image.ImagePositionPatient = [float(value) for value in step * number]
        instances.append(Instance(Path(), image))
    return Series(uid, tuple(instances))


@pytest.fixture(scope="module")
def studies():
    with Path(__file__).with_name("studies.csv").open(encoding="utf-8", newline="") as file:
        studies = [list(rows) for _, rows in groupby(csv.DictReader(file), lambda row: row["study"])]
    return [(rows, [series_of(row) for row in rows]) for rows in studies]


@pytest.mark.parametrize(
    ("compared", "held", "questions", "needless"),
    [(True, 34, 43, 10), (False, 28, 54, 18)],
    ids=["the voxels of two scans of one kind decide", "voxels cannot be compared"],
)
def test_no_study_gets_a_wrong_series(monkeypatch, studies, compared, held, questions, needless):
    """`needless`: number of questions that a reader of the headers would not ask."""
    enhanced = {}

    def compare(_, native, after):
        return enhanced[after.uid] - enhanced[native.uid] if compared else None

    monkeypatch.setattr(Pairs, "_compare", compare)
    monkeypatch.setattr(Pairs, "identical", lambda *_: False)
    wrong, counts = [], {"held": 0, "questions": 0, "needless": 0}
    for rows, series in studies:
        enhanced |= {scan.uid: int(row["enhanced"] == "y") for scan, row in zip(series, rows, strict=True)}
        truth = {scan.uid: row["truth"] for scan, row in zip(series, rows, strict=True)}
        try:
            choice = choose_series(series, MODALITIES, {})
        except InputError:
            counts["questions"] += 1
            counts["needless"] += rows[0]["question"] != "y"
            continue
        wrong += [f"{rows[0]['study']}: {key}" for key, scan in choice.series.items() if truth[scan.uid] != key]
        counts["held"] += any(remark.kind == "contrast" for remark in choice.remarks)
    assert not wrong
    assert counts == {"held": held, "questions": questions, "needless": needless}
