"""A trial through a real PACS: `python -m deploy.pacs --input=STUDY --bundle=BUNDLE`.

Orthanc is started on this machine, gets a study, hands it out again, gets the segmentation, and is asked for it.
"""

import tempfile
from pathlib import Path

from common.preflight import InputError, flag
from deploy.apart import end_in_order
from deploy.app import segment
from deploy.dicom_series import read_study
from deploy.orthanc import running
from deploy.privacy import keep_silent
from scripts.cli import run

__all__ = ["trial"]


def trial(input: str, bundle: str, checkpoint: str = "", bundle_options: str = "", force: bool = False) -> None:
    """Send a study to a PACS of its own, fetch it, segment it, store the results and find them by query.

    All of it happens in a temporary folder, which is removed with the PACS in the end.

    Args:
        input: folder with the DICOM files of one study.
        bundle: folder of brats_finetune or atlas_finetune, with weights.
        checkpoint: file of weights; models/model.pt of the bundle by default.
        bundle_options: further options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        force: go on where a precondition is not met.
    """
    keep_silent()
    end_in_order()
    go_on = flag("force", force)
    study = str(read_study(Path(str(input)))[0].header.StudyInstanceUID)
    with tempfile.TemporaryDirectory(prefix="pacs-") as temporary:
        place = Path(temporary)
        with running(place / "orthanc") as pacs:
            pacs.send(Path(str(input)))
            print("C-STORE: study sent")
            count = pacs.fetch(study, place / "study")
            print(f"WADO-RS: {count} images fetched", flush=True)
            segment(
                str(place / "study"),
                bundle,
                str(place / "results"),
                checkpoint=checkpoint,
                bundle_options=bundle_options,
                force=go_on,
            )
            pacs.store(sorted((place / "results").glob("*.dcm")))
            print("STOW-RS: results stored")
            by_web = {
                answer["0020000E"]["Value"][0] for answer in pacs.query(f"studies/{study}/series", Modality="SEG")
            }
            answers = pacs.find(StudyInstanceUID=study, Modality="SEG", SeriesInstanceUID="")
            by_dicom = {str(answer.SeriesInstanceUID) for answer in answers}
    if len(by_web) != 1 or by_web != by_dicom:
        raise InputError(f"QIDO-RS finds {len(by_web)} segmentations, C-FIND {len(by_dicom)}; expected the one stored")
    print(f"QIDO-RS and C-FIND: segmentation found, series {by_web.pop()}")


if __name__ == "__main__":
    run(trial, "deploy.pacs")
