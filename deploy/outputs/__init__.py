"""DICOM results: each module makes one of them, `make_all` makes all. A module's `STEP` ends its series number."""

from pydicom.dataset import Dataset

from deploy.job import Case
from deploy.outputs import measurements, segmentation, summary


def make_all(case: Case) -> dict[str, Dataset]:
    """Make all DICOM objects of a case; return them by the names of their files, such as segmentation."""
    segments = segmentation.make(case)
    return {"segmentation": segments, "measurements": measurements.make(case, segments), "summary": summary.make(case)}
