"""The trial with Orthanc: send, fetch, segment, store, find."""

import pytest

pytest.importorskip("monai.deploy", reason="needs the environment of make deploy")

from deploy.orthanc import missing_tools
from tests.deploy.dicom_study import Study, write_brats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"{missing_tools()} missing (Debian: orthanc orthanc-dicomweb dcmtk)"
    ),
]


def test_the_segmentation_of_a_study_in_a_pacs_is_found_there(cohorts, application, tmp_path):
    write_brats(tmp_path / "study", cohorts("brats"), Study(), shuffle=True)

    result = application("brats", tmp_path / "study", tmp_path, module="deploy.pacs", package=True)

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    count = len(list((tmp_path / "study").rglob("*.dcm")))
    assert lines[:2] == ["C-STORE: study sent", f"WADO-RS: {count} images fetched"]
    assert lines[-2].startswith("QIDO-RS and C-FIND: structured report found, series 1.2.826.0.1.")
    assert lines[-1].startswith("QIDO-RS and C-FIND: segmentation found, series 1.2.826.0.1.")
    assert "SENTINEL" not in result.stdout + result.stderr
    assert "127.0.0.1" not in result.stderr
