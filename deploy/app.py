"""The application: `python -m deploy.app --input=STUDY --bundle=BUNDLE --output=DIR`; see README.md of this folder."""

import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

from common.preflight import InputError, flag
from common.weights import path_of
from deploy.apart import end_in_order, run_apart
from deploy.bundle import Bundle, open_bundle, split_options
from deploy.dicom_series import Series, choose, read_study, wanted_series
from deploy.geometry import grid_of
from deploy.job import RESULTS, Job, Source
from deploy.privacy import keep_silent
from scripts.cli import run

__all__ = ["segment"]


def segment(
    input: str = os.environ.get("HOLOSCAN_INPUT_PATH", ""),  # the names of options are MONAI Deploy's
    bundle: str = os.environ.get("HOLOSCAN_MODEL_PATH", ""),
    output: str = os.environ.get("HOLOSCAN_OUTPUT_PATH", ""),
    series: str = "",
    reference: str = "",
    checkpoint: str = "",
    bundle_options: str = "",
    force: bool = False,
) -> None:
    """Segment the study in a folder; write segmentation.dcm, summary.dcm and result.json.

    Args:
        input: folder with the DICOM files of one study, in subfolders or not; in a container HOLOSCAN_INPUT_PATH.
        bundle: folder of brats_finetune or atlas_finetune, with weights; in a container HOLOSCAN_MODEL_PATH.
        output: folder for the results; made where it is missing. In a container HOLOSCAN_OUTPUT_PATH.
        series: series that you choose yourself, such as T1=5,T1ce=9 (numbers or UIDs); rules choose the others.
        reference: modality whose series gives the grid of the result: T1ce for tumours, T1 for strokes by default.
        checkpoint: file of weights; models/model.pt of the bundle by default.
        bundle_options: further options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        force: go on where a precondition is not met, and say so in the summary.
    """
    keep_silent()
    end_in_order()
    given = {"input": input, "bundle": bundle, "output": output}
    if missing := next((name for name, value in given.items() if not str(value).strip()), None):
        raise InputError(f"--{missing}: missing; it has no default")
    if importlib.util.find_spec("monai.deploy") is None:
        raise InputError("MONAI Deploy is not installed; make deploy, and use .venv-deploy/bin/python")
    go_on = flag("force", force)
    options = split_options(bundle_options)
    model = open_bundle(_bundle_folder(bundle), path_of("--checkpoint=", checkpoint) if checkpoint else None)
    wanted = wanted_series(series, model.modalities)
    if reference and reference not in model.modalities:
        raise InputError(f"--reference={reference}: expected one of {', '.join(model.modalities)}")
    place = _free(path_of("--output=", output))
    chosen = choose(read_study(Path(str(input))), model.modalities, wanted)
    for each in chosen.values():
        grid_of([instance.header for instance in each.instances], each.name)
    for modality, each in chosen.items():
        print(f"{modality}: {each.name}, {len(each.instances)} images", flush=True)
    _run(model, chosen, reference or model.task.reference, place, options, go_on)


def _bundle_folder(bundle: str) -> Path:
    """The bundle's folder; a container's folder of models holds it under its name."""
    folder = path_of("--bundle=", bundle)
    below = [path.parents[1] for path in folder.glob("*/configs/metadata.json")]
    return below[0] if len(below) == 1 and not (folder / "configs").exists() else folder


def _free(output: Path) -> Path:
    """The folder for the results, made where it is missing. Messages do not name it: it may be called by a patient.

    Raises:
        InputError: it cannot be written, or holds results.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        occupied = next((name for name in RESULTS if (output / name).exists()), None)
    except OSError as error:
        raise InputError(f"--output: {error.strerror}; expected a folder that can be written") from error
    if occupied:
        raise InputError(f"--output: holds {occupied} already; expected a folder without results")
    if not os.access(output, os.W_OK):
        raise InputError("--output: cannot be written; expected a folder that can be written")
    return output


def _run(
    model: Bundle, chosen: dict[str, Series], reference: str, output: Path, options: list[str], force: bool
) -> None:
    """Run the application in a folder beneath the output that only this user can read; then move the results."""
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output))
    try:
        staged, work, results = (temporary / name for name in ("staged", "work", "results"))
        for folder in (staged, work, results):
            folder.mkdir()
        _stage(chosen, staged)
        sources = {modality: Source.of(series) for modality, series in chosen.items()}
        run_apart(_apply, Job(model, sources, reference, staged, work, results, options, force))
        for remark in json.loads((results / RESULTS[-1]).read_text())["remarks"]:
            print(f"remark: {remark}", flush=True)
        _hand_over(results, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _apply(job: Job) -> None:
    from deploy.operators import SegmentationApplication  # seconds that bad input need not wait for

    SegmentationApplication(job).run()


def _hand_over(results: Path, output: Path) -> None:
    """Give the results their final place, all or none; the last one says that all are there."""
    moved: list[Path] = []
    try:
        for name in RESULTS:
            if (output / name).exists():
                raise InputError(f"--output: holds {name} by now; expected a folder without results")
            moved.append((results / name).rename(output / name))
    except BaseException:
        for path in moved:
            path.unlink()
        raise
    print(f"wrote {', '.join(RESULTS)}", flush=True)


def _stage(chosen: dict[str, Series], folder: Path) -> None:
    """Links to the files of the chosen series under neutral names: the loader takes all that it finds in a folder."""
    for modality, series in chosen.items():
        for number, instance in enumerate(series.instances):
            (folder / f"{modality}-{number:05d}.dcm").symlink_to(instance.path.resolve())


if __name__ == "__main__":
    run(segment, "deploy.app")
