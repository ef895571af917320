"""Mistakes in the other commands: folders that lack something, options out of range, files of another kind."""

from pathlib import Path

import torch

from tests.faults.table import Fault, Prepare, written

LIST = "--datalist={cohorts}/brats.json"
DATA = f"{LIST} --dataset_dir={{cohorts}}/brats"
NEW = "--output={folder}/new"
SCORES = "--predictions={folder}/a --references={folder}/b --output={output}"
TWICE = 'not JSON (the key "name" occurs twice); expected'


def _labels(folder: Path, cohorts: Path) -> None:
    """Folders `a` and `b` with a label map of the cohort."""
    source = next((cohorts / "brats").rglob("*_seg.nii.gz"))
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "one.nii.gz").write_bytes(source.read_bytes())


def _weights(folder: Path, cohorts: Path) -> None:
    """A plain state dict with a record that has a key twice."""
    torch.save({"a": torch.zeros(1)}, folder / "model.pt")
    _twice("model.json")(folder, cohorts)


def _twice(name: str) -> Prepare:
    return written(name, '{"name": "a", "name": "b"}')


ROWS: dict[str, str] = {  # command line: its last line
    f"scripts.evaluate {SCORES} --protocol=brats": "--predictions={folder}/a: no such folder; expected one …",
    "scripts.report {folder}/none": "{folder}/none: no such folder; expected one that holds run.json files",
    f"scripts.datalists brats --root={{folder}}/none {NEW}": "--root={folder}/none: …; expected a folder of a cohort",
    f"scripts.datalists brats --root={{cohorts}}/brats {NEW} --validation=-1": (
        "--validation=-1: expected a number of people, or a fraction from 0 to below 1"
    ),
    f"scripts.datalists generic --root={{folder}} {NEW}": "--root={folder}: no data set of a known layout; expected …",
    f"scripts.datalists check {LIST} --root={{folder}}": "--root={folder}: none of the 30 files is below --root; …",
    f"scripts.store brats_finetun --store={{folder}}/store {DATA}": "BUNDLE brats_finetun: no such; did you mean …?",
    f"scripts.store brats_finetune --store={{folder}}/store {DATA} --lerning_rate=1": (
        "--lerning_rate=1: no such option in …train.yaml; did you mean --learning_rate?"
    ),
    f"scripts.folds brats_finetune {DATA} --folds=99 {NEW}": "--folds=99: expected no more than the 5 people …",
    "scripts.experiments plan {folder}/none.yaml": "study {folder}/none.yaml: no such file; expected one of …",
    f"scripts.export brats_finetune torchscrip {{folder}}/model.ts {DATA}": (
        "--format=torchscrip: expected one of torchscript, onnx, state_dict"
    ),
    "scripts.options brats_finetun": "--bundle=brats_finetun: expected one of atlas_finetune, …",
    "scripts.intensities --subjects=0": "--subjects=0: expected a whole number from 1 to 1000",
    "scripts.intensities --spacing=9": "--spacing=9: expected millimetres from 1 to 4",
    f"scripts.probe {DATA}": "no embeddings; expected embeddings.npz of one network or several",
    f"scripts.package brats_finetun {NEW}": "bundle brats_finetun: expected one of atlas_finetune, atlas_stage2, …",
    f"scripts.prepare --root={{folder}}/none {NEW} --like=brats": "--root={folder}/none: …; expected …",
    f"scripts.phantoms make --layout=brat --subjects=1 {NEW}": "--layout=brat: expected one of ukb, brats, …",
    f"deploy.app --input={{folder}} --bundle={{folder}} {NEW}": "MONAI Deploy is not installed; run make deploy, …",
    "deploy.pacs --input={folder}/none --bundle={folder}": "--input: no such folder; expected a folder with …",
    "deploy.service status": "--url: missing; expected it, or the variable ORTHANC_URL",
}
PREPARED: list[tuple[str, str, Prepare]] = [
    (f"scripts.evaluate {SCORES} --protocol=atlas", "{folder}/b/one.nii.gz: label 2, 4; expected labels 0, 1", _labels),
    ("scripts.evaluate page {folder}", f"{{folder}}/summary.json: {TWICE} a summary by …", _twice("summary.json")),
    ("scripts.report {folder}", f"{{folder}}/run.json: {TWICE} the record of a run", _twice("run.json")),
    ("scripts.report {folder}", '{folder}/run.json: $ is []; expected type "object"', written("run.json", "[]")),
    (
        f"scripts.consort {{folder}}/flow.json {NEW}.svg",
        f"--flow={{folder}}/flow.json: {TWICE} …",
        _twice("flow.json"),
    ),
    ("scripts.weights inspect {folder}/model.pt", f"{{folder}}/model.json: {TWICE} the SHA-256 of …", _weights),
    (
        "scripts.weights convert {folder}/model.pt --output={folder}/model.pt",
        "--output={folder}/model.pt: exists already; expected a new file",
        written("model.pt", ""),
    ),
    (
        "scripts.package verify {folder}/package.zip",
        "{folder}/package.zip: cannot be read as a zip (File is not a zip file); expected a package",
        written("package.zip", "no archive"),
    ),
    (
        "deploy.service status --url=http://127.0.0.1:1 --user=a --password_file={folder}/password",
        "--url: Orthanc does not answer (ConnectionError); expected an Orthanc that accepts --user and …",
        written("password", "secret"),
    ),
]
FAULTS = [
    *(Fault(*command.split(maxsplit=1), line) for command, line in ROWS.items()),
    *(Fault(*command.split(maxsplit=1), line, prepare) for command, line, prepare in PREPARED),
]
