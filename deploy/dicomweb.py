"""DICOMweb client: `python -m deploy.dicomweb fetch --study=UID --output=STUDY`, and `store --input=RESULT`.

The service (service.py) uses Orthanc's own interface, because DICOMweb cannot mark a study.
"""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import UID

from common.cli import run
from common.dicom.study import without_values
from common.errors import InputError, show
from common.values import FOLDER
from deploy.job import DICOM_FILES, RESULT_FILES
from deploy.login import hint_of, login, session_of
from deploy.process import exit_cleanly_on_signals, restrict_output

TIMEOUTS = (10.0, 300.0)  # for connecting and for each read, seconds
AS_STORED = (("application/dicom", "*"),)  # in any transfer syntax


@contextmanager
def _client() -> Iterator[DICOMwebClient]:
    """Context manager: yield a client of the DICOMweb server in the environment variables.

    Any failure in the block is raised as an InputError that names no study.
    """
    url, user, password = login("DICOMWEB_URL", "DICOMWEB_USER", "DICOMWEB_PASSWORD_FILE")
    session = session_of(user, password)
    session.max_redirects = 0  # a redirect could send images and password elsewhere
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = DICOMwebClient(url.rstrip("/"), session, timeout=TIMEOUTS)
            client.set_http_retry_params(retry=False)  # a retry of a large POST would have no body
            yield client
    except InputError:
        raise
    except OSError as error:
        if not isinstance(error, requests.RequestException):
            raise InputError(f"--output: {error.strerror}; expected a writable folder") from None
        status = "" if error.response is None else f", status {error.response.status_code}"
        what = f"({type(error).__name__}{status}){hint_of(error, 'the server')}"
        raise InputError(f"DICOMWEB_URL: the server does not answer as expected {what}") from None
    except Exception as error:  # the libraries raise many types, and their messages quote values
        raise InputError(f"DICOMWEB_URL: the server's answer is invalid ({type(error).__name__})") from None


def fetch(study: str, output: str) -> None:
    """Fetch the MR series of a study by QIDO-RS and WADO-RS; write nothing unless all images arrive.

    The environment variables DICOMWEB_URL, DICOMWEB_USER and DICOMWEB_PASSWORD_FILE give the server and the login.

    Args:
        study: StudyInstanceUID.
        output: new folder for the images.
    """
    exit_cleanly_on_signals()
    if not UID(study).is_valid:
        raise InputError("--study: expected a StudyInstanceUID")
    folder = Path(FOLDER.parse("output", output))
    if folder.exists():
        raise InputError("--output: exists; expected a new folder")
    with _client() as client:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as temporary:
            staging, count = Path(temporary, "study"), 0
            staging.mkdir()
            for series in client.search_for_series(study, search_filters={"Modality": "MR"}, get_remaining=True):
                uid = series["0020000E"]["Value"][0]
                images = client.search_for_instances(study, uid, get_remaining=True)
                expected = {image["00080018"]["Value"][0] for image in images}
                for image in client.iter_series(study, uid, AS_STORED):
                    expected.discard(image.SOPInstanceUID)
                    image.save_as(staging / f"{count:06d}.dcm", enforce_file_format=True)
                    count += 1
                if expected:
                    lacking = f"{len(expected)} of {len(images)} are missing"
                    raise InputError(f"DICOMWEB_URL: the server did not send all images of a series; {lacking}")
            if not count:
                raise InputError("--study: no MR images at DICOMWEB_URL; expected a study with MR images")
            staging.rename(folder)
    show(f"wrote {count} images")


def store(input: str) -> None:
    """Store the results of deploy.app by STOW-RS; a repeated call changes nothing.

    The environment variables are those of `fetch`.

    Args:
        input: folder with results of deploy.app.
    """
    exit_cleanly_on_signals()
    folder = Path(FOLDER.parse("input", input))
    if missing := next((name for name in RESULT_FILES if not (folder / name).is_file()), None):
        raise InputError(f"--input: lacks {missing}; expected a folder with results of deploy.app")
    with without_values("--input: a result cannot be read"):
        results = [pydicom.dcmread(folder / name) for name in DICOM_FILES]
    with _client() as client:
        answer = client.store_instances(results)
        stored = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", [])}
        if failed := [result for result in results if result.SOPInstanceUID not in stored]:
            raise InputError(f"DICOMWEB_URL: the server did not store {len(failed)} of {len(results)} results")
    show(f"stored {len(results)} results")


if __name__ == "__main__":
    run({"fetch": fetch, "store": store}, "deploy.dicomweb", confidential=restrict_output)
