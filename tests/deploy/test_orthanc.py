import urllib.error
import urllib.request

import pytest

from deploy.orthanc import running_orthanc
from tests.deploy.checks import WITH_ORTHANC

pytestmark = WITH_ORTHANC


def test_the_pacs_requires_its_password_and_is_stopped_after_an_exception(tmp_path):
    def fail():
        with running_orthanc(tmp_path) as pacs:
            seen.append(pacs)
            assert pacs.query("studies") == []
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with pytest.raises(urllib.error.HTTPError, match="401"):
                opener.open(f"http://127.0.0.1:{pacs.http}/dicom-web/studies")
            raise RuntimeError

    seen = []
    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(OSError, match="refused"):
        seen[0].query("studies")
    assert "Orthanc has stopped" in (tmp_path / "orthanc.log").read_text()
