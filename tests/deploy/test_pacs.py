"""A trial through Orthanc: sent, fetched, segmented, stored, found."""

import sys

import pytest

pytest.importorskip("monai.deploy", reason="needs the environment of make deploy")

from deploy.orthanc import missing_tools, running
from tests.bundles.conftest import execute
from tests.deploy.dicom_study import Study, write_brats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"{missing_tools()} missing (Debian: orthanc orthanc-dicomweb dcmtk)"
    ),
]


def test_a_study_goes_through_a_pacs_and_its_segmentation_by_a_package_is_found(cohorts, application, tmp_path):
    write_brats(tmp_path / "study", cohorts("brats"), Study(), shuffle=True)

    result = application("brats", tmp_path / "study", tmp_path, module="deploy.pacs", package=True)

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    count = len(list((tmp_path / "study").rglob("*.dcm")))
    assert lines[:2] == ["C-STORE: study sent", f"WADO-RS: {count} images fetched"]
    assert lines[-1].startswith("QIDO-RS and C-FIND: segmentation found, series 1.2.826.0.1.")
    assert "SENTINEL" not in result.stdout + result.stderr
    assert "127.0.0.1" not in result.stderr


def test_a_pacs_is_stopped_whatever_happens(tmp_path):
    def fail():
        with running(tmp_path) as pacs:
            assert pacs.query("studies") == []
            seen.append(pacs)
            raise RuntimeError

    seen = []
    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(OSError, match="refused"):
        seen[0].query("studies")
    assert "Orthanc has stopped" in (tmp_path / "orthanc.log").read_text()


def test_a_pacs_asks_for_its_password(tmp_path):
    with running(tmp_path) as pacs:
        asked = f"http://127.0.0.1:{pacs.http}/dicom-web/studies"
        code = f"import urllib.request as r; r.build_opener(r.ProxyHandler({{}})).open({asked!r})"
        assert "401" in execute([sys.executable, "-c", code]).stderr
