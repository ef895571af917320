import sys

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from deploy.orthanc import missing_tools, running_orthanc
from tests.support import execute

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"{missing_tools()} missing (Debian: orthanc orthanc-dicomweb dcmtk)"
    ),
]


def test_the_pacs_is_stopped_after_an_exception(tmp_path):
    def fail():
        with running_orthanc(tmp_path) as pacs:
            assert pacs.query("studies") == []
            seen.append(pacs)
            raise RuntimeError

    seen = []
    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(OSError, match="refused"):
        seen[0].query("studies")
    assert "Orthanc has stopped" in (tmp_path / "orthanc.log").read_text()


def test_the_pacs_requires_its_password(tmp_path):
    with running_orthanc(tmp_path) as pacs:
        url = f"http://127.0.0.1:{pacs.http}/dicom-web/studies"
        code = f"import urllib.request as r; r.build_opener(r.ProxyHandler({{}})).open({url!r})"
        assert "401" in execute([sys.executable, "-c", code]).stderr
