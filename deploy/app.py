"""The application: `python -m deploy.app --input=STUDY --bundle=BUNDLE --output=DIR`; see README.md in this folder."""

import json
import os
import shutil
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from common.errors import InputError, input_error_message, show
from common.weights.records import path_of
from deploy.bundle import Bundle, check_options, open_bundle, split_options
from deploy.dicom.geometry import grid_of
from deploy.dicom.series.choice import choose_series
from deploy.dicom.series.names import read_table
from deploy.dicom.series.request import parse_series_option
from deploy.dicom.study import read_study
from deploy.job import REPORT, RESULT_FILES, Job, prepare_output, publish
from deploy.process import exit_cleanly_on_signals, restrict_output, run_guarded
from deploy.replaced import read_replaced, remark_on
from scripts.cli import run
from scripts.prepare.volumes import check_grid


def segment(
    input: str = os.environ.get("HOLOSCAN_INPUT_PATH", ""),  # MONAI Deploy's names of options and variables
    bundle: str = os.environ.get("HOLOSCAN_MODEL_PATH", ""),
    output: str = os.environ.get("HOLOSCAN_OUTPUT_PATH", ""),
    series: str = "",
    reference: str = "",
    checkpoint: str = "",
    bundle_options: str = "",
    force: bool = False,
    prepare: bool = False,
    replaces: str = "",
    series_names: str = "",
) -> None:
    """Segment a DICOM study; write segmentation.dcm, measurements.dcm, summary.dcm and result.json.

    Args:
        input: folder with the DICOM files of one study, also in subfolders; by default the variable
            HOLOSCAN_INPUT_PATH.
        bundle: folder of brats_finetune or atlas_finetune, with weights; by default the variable HOLOSCAN_MODEL_PATH.
        output: folder for the results, created if missing; by default the variable HOLOSCAN_OUTPUT_PATH.
        series: numbers or UIDs of series, such as T1=5,T1ce=9; rules choose the series of the remaining modalities.
        reference: modality whose series gives the grid of the result; by default T1ce for tumours (without T1ce, the
            model's first), T1 for strokes.
        checkpoint: file of weights; by default models/model.pt of the bundle.
        bundle_options: additional options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        force: continue despite unmet preconditions; the summary lists them.
        prepare: register the scans to each other and to the model's space, and extract the brain if the model expects
            that. Preconditions are checked afterwards, and results are resampled to the grid of the reference series.
        series_names: YAML file with the modality of each of the site's series names or patterns.
        replaces: folder with earlier results of this study; the new results refer to them as replaced.
    """
    required = {"input": input, "bundle": bundle, "output": output}
    if missing := next((name for name, value in required.items() if not str(value).strip()), None):
        raise InputError(f"--{missing}: missing; it has no default")
    model, options = open_model(bundle, checkpoint, reference, bundle_options)
    exit_cleanly_on_signals()
    requested = parse_series_option(series, model.modalities)
    folder = path_of("output", output)
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(str(input))):
        raise InputError("--output: inside --input; expected a folder outside the study")
    prepare_output(folder)
    names = read_table(path_of("series_names", series_names) if series_names else None)
    choice = choose_series(read_study(Path(str(input))), model.modalities, requested, not prepare, names)
    study = next(iter(choice.series.values())).header.StudyInstanceUID
    replaced = read_replaced(path_of("replaces", replaces), study) if replaces else []
    choice.remarks += remark_on(replaced)
    for selected in choice.series.values():
        check_grid(grid_of([instance.header for instance in selected.instances], selected.name)[0], selected.name)
    for modality, selected in choice.series.items():
        show(f"{modality}: {selected.name}, {len(selected.instances)} images; {choice.reasons[modality]}")
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.absolute()))  # only this user can read it
    try:
        work, results = temporary / "work", temporary / "results"
        work.mkdir()
        results.mkdir()
        grid_modality = reference or model.reference
        chosen = {modality: selected.without_headers() for modality, selected in choice.series.items()}
        job = Job(model, chosen, choice.reasons, grid_modality, work, results, options, force, prepare, choice.remarks)
        job.replaced = replaced
        run_guarded(_run_operators, job)
        for remark in json.loads((results / REPORT).read_text())["remarks"]:
            show(f"remark: {remark['text']}")
        publish(results, folder)
        show(f"wrote {', '.join(RESULT_FILES)}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_model(bundle: str, checkpoint: str, reference: str, bundle_options: str) -> tuple[Bundle, list[str]]:
    """Check the options that do not depend on a study; return the bundle, and `bundle_options` as a list."""
    if not [*distributions(name="monai-deploy-app-sdk")]:
        raise InputError("MONAI Deploy is not installed; run make deploy, then use .venv-deploy/bin/python")
    options = split_options(bundle_options)
    model = open_bundle(path_of("bundle", bundle), path_of("checkpoint", checkpoint) if checkpoint else None)
    check_options(options, model)
    if reference and reference not in model.modalities:
        raise InputError(f"--reference={reference}: expected one of {', '.join(model.modalities)}")
    return model, options


def _run_operators(job: Job) -> None:
    from deploy.operators import SegmentationApplication  # slow import: bad input is refused first

    try:
        SegmentationApplication(job).run()
    except Exception as error:
        if message := input_error_message(error):  # without the output's folder, which may name the patient
            raise InputError(message.replace(f"{job.work.parent}/", "")) from None
        raise


if __name__ == "__main__":
    restrict_output()
    run(segment, "deploy.app")
