"""Try the application with a real PACS: `python -m deploy.pacs --input=STUDY --bundle=BUNDLE`."""

import tempfile
from pathlib import Path

from common.cli import run
from common.errors import InputError, show
from common.values import flag
from deploy.app import segment
from deploy.orthanc import Pacs, running_orthanc
from deploy.privacy import restrict_output
from deploy.study import read_study
from deploy.subprocess_guard import exit_cleanly_on_signals

__all__ = ["trial"]


def trial(input: str, bundle: str, checkpoint: str = "", bundle_options: str = "", force: bool = False) -> None:
    """Start Orthanc, send it a study, fetch the study, segment it, store the results, and query for them.

    Orthanc and all files are in a temporary folder, which is removed at the end.

    Args:
        input: folder with the DICOM files of one study.
        bundle: folder of brats_finetune or atlas_finetune, with weights.
        checkpoint: file of weights; by default models/model.pt of the bundle.
        bundle_options: additional options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        force: continue when a precondition is not met.
    """
    restrict_output()
    exit_cleanly_on_signals()
    force = flag("force", force)
    study = str(read_study(Path(str(input)))[0].header.StudyInstanceUID)
    with tempfile.TemporaryDirectory(prefix="pacs-") as temporary:
        place = Path(temporary)
        with running_orthanc(place / "orthanc") as pacs:
            pacs.send(Path(str(input)))
            show("C-STORE: study sent")
            count = pacs.fetch(study, place / "study")
            show(f"WADO-RS: {count} images fetched")
            segment(
                str(place / "study"),
                bundle,
                str(place / "results"),
                checkpoint=checkpoint,
                bundle_options=bundle_options,
                force=force,
            )
            pacs.store(sorted((place / "results").glob("*.dcm")))
            show("STOW-RS: results stored")
            for modality, name in (("SR", "structured report"), ("SEG", "segmentation")):
                show(f"QIDO-RS and C-FIND: {name} found, series {_find_series(pacs, study, modality)}")


def _find_series(pacs: Pacs, study: str, modality: str) -> str:
    """UID of the one series of a modality in a study, found by QIDO-RS and by C-FIND."""
    by_web = {answer["0020000E"]["Value"][0] for answer in pacs.query(f"studies/{study}/series", Modality=modality)}
    answers = pacs.find(StudyInstanceUID=study, Modality=modality, SeriesInstanceUID="")
    by_dicom = {str(answer.SeriesInstanceUID) for answer in answers}
    if len(by_web) != 1 or by_web != by_dicom:
        raise InputError(
            f"{modality}: QIDO-RS finds {len(by_web)} series, C-FIND {len(by_dicom)}; expected the one stored"
        )
    return str(by_web.pop())


if __name__ == "__main__":
    run(trial, "deploy.pacs", confidential=True)
