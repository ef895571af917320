"""The plug-in in a real Orthanc, with a stand-in for deploy.app."""

import sys

import numpy as np
import pytest

from tests.deploy.dicom.dicom_study import Study, write_series
from tests.deploy.orthanc import WITH_ORTHANC, running_orthanc, wait_for
from tests.support import ROOT

pytestmark = WITH_ORTHANC
STAND_IN = [sys.executable, str(ROOT / "tests/deploy/stand_in_segmenter.py")]


@pytest.fixture
def start(tmp_path):
    """Returns a context manager: a running Orthanc with the stand-in."""
    return lambda: running_orthanc(tmp_path / "orthanc", [*STAND_IN, str(tmp_path / "runs")])


@pytest.fixture
def images(tmp_path):
    """Returns a function that writes a series of a study, and returns its folder."""

    def write(description, study=None, number=2):
        folder = tmp_path / f"{description}-{number}"
        write_series(folder, np.ones((4, 4, 3)), np.eye(4), study or Study(), number, SeriesDescription=description)
        return folder

    return write


def runs(tmp_path):
    return (tmp_path / "runs").read_text().splitlines() if (tmp_path / "runs").exists() else []


def test_results_are_stored_and_sent_and_held_ones_go_to_the_review_node(start, images, tmp_path):
    study = Study()
    with start() as orthanc:
        name = orthanc.send(images("t1", study))
        assert orthanc.outcome(name) == "3 done"
        orthanc.received("pacs", 3)
        assert sorted(series["MainDicomTags"]["Modality"] for series in orthanc.request(f"studies/{name}/series")) == [
            "MR",
            *["OT"] * 3,
        ]
        held = orthanc.send(images("doubtful"))
        assert orthanc.outcome(held) == "3 held: T1ce: its name states contrast agent, its header does not"
        orthanc.received("review", 3)
        orthanc.received("pacs", 3)
        failed = orthanc.send(images("refused"))
        assert orthanc.outcome(failed) == "3 failed: error: a slice is missing"
        orthanc.send(images("t1", study, number=3))  # more images of the first study
        wait_for(lambda: orthanc.mark(name).startswith("6 done"))
        assert runs(tmp_path) == ["t1 3", "doubtful 3", "refused 3", "t1 6"]
        orthanc.request(f"studies/{failed}/metadata/4711", "DELETE")  # tries again
        assert orthanc.outcome(failed).startswith("3 failed")
        assert len(runs(tmp_path)) == 5
