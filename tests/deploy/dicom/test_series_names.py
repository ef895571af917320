"""Names of series as sites, public collections and strangers in some 30 languages write them: right or asked."""

import csv
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from deploy.dicom.series.evidence import ASK, MIN_SLICES, candidates_of
from deploy.dicom.study import Instance, Series


def series_of(name, agent):
    instances = []
    for number in range(MIN_SLICES):
        image = Dataset()
        image.SOPClassUID, image.Modality, image.SeriesDescription = MRImageStorage, "MR", name
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
        image.ContrastBolusAgent = "gadobutrol" if agent else ""
        instances.append(Instance(Path(), image))
    return Series(f"{name} {agent}", tuple(instances))


def test_each_name_is_right_or_asked():
    """`answer` is a modality, none, or ask; no table of a site, and a T1 without agent beside the series."""
    with Path(__file__).with_name("series_names.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    plain, wrong, asked, answerable = series_of("T1", ""), [], 0, 0
    for row in rows:
        modality = candidates_of([series_of(row["name"], row["agent"]), plain], ())[0].modality
        if modality in (ASK, None):
            asked += row["answer"] not in (ASK, "none")
        elif modality != row["answer"]:
            wrong.append((row, modality))
        answerable += row["answer"] not in (ASK, "none")
    assert wrong == []
    assert asked < 0.1 * answerable
