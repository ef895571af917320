"""Mistakes in the other commands: folders that lack something, options out of range, files of another kind."""

from pathlib import Path

from tests.faults.table import Fault, Prepare, written

LIST = "--datalist={cohorts}/brats.json"
DATA = f"{LIST} --dataset_dir={{cohorts}}/brats"
NEW = "--output={folder}/new"
SCORES = "--predictions={folder}/a --references={folder}/b --output={output}"
TWICE = 'not JSON (the key "name" occurs twice); expected'
TEXT = '{"name": "a", "name": "b"}'


def _labels(folder: Path, cohorts: Path) -> None:
    """Folders `a` and `b` with a label map of the cohort."""
    source = next((cohorts / "brats").rglob("*_seg.nii.gz"))
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "one.nii.gz").write_bytes(source.read_bytes())


ROWS: dict[str, str] = {  # command line: its last line
    "scripts.report {folder}/none": "{folder}/none: no such folder; expected one that holds run.json files",
    f"scripts.datalists brats --root={{cohorts}}/brats {NEW} --validation=-1": (
        "--validation=-1: expected a number of people, or a fraction from 0 to below 1"
    ),
    f"scripts.datalists check {LIST} --root={{folder}}": "--root={folder}: none of the 30 files is below --root; …",
    f"scripts.store brats_finetune --store={{folder}}/store {DATA} --lerning_rate=1": (
        "--lerning_rate=1: no such option in …train.yaml; did you mean --learning_rate?"
    ),
    f"scripts.folds brats_finetune {DATA} --folds=99 {NEW}": "--folds=99: expected no more than the 5 people …",
    "scripts.experiments plan {folder}/none.yaml": "study {folder}/none.yaml: no such file; expected one of …",
    f"scripts.export brats_finetune torchscrip {{folder}}/model.ts {DATA}": (
        "--format=torchscrip: expected one of torchscript, onnx, state_dict"
    ),
    "scripts.options brats_finetun": "--bundle=brats_finetun: expected one of atlas_finetune, …",
    f"scripts.probe {DATA}": "no embeddings; expected embeddings.npz of one network or several",
    f"scripts.package brats_finetun {NEW}": "bundle brats_finetun: expected one of atlas_finetune, atlas_stage2, …",
    f"scripts.prepare --root={{folder}}/none {NEW} --like=brats": "--root={folder}/none: …; expected …",
    f"scripts.public_scans --clones={{folder}}/none {NEW}": "--clones={folder}/none: no such folder; expected a …",
    f"scripts.phantoms make --layout=brat --subjects=1 {NEW}": "--layout=brat: expected one of ukb, brats, …",
    f"deploy.app --input={{folder}} --bundle={{folder}} {NEW}": "MONAI Deploy is not installed; run make deploy, …",
    "deploy.service status": "--url: missing; expected it, or the variable ORTHANC_URL",
}
PREPARED: list[tuple[str, str, Prepare]] = [
    (f"scripts.evaluate {SCORES} --protocol=atlas", "{folder}/b/one.nii.gz: label 2, 4, which …", _labels),
    (
        "scripts.report {folder}",
        "{folder}/run.json: $ = []: …; expected the record …",
        written("run.json", "[]"),
    ),
    (f"scripts.consort {{folder}}/flow.json {NEW}.svg", f"--flow=…: {TWICE} …", written("flow.json", TEXT)),
    (
        "scripts.weights inspect {folder}/model.pt",
        "checkpoint {folder}/model.pt: cannot be read as tensors alone: …",
        written("model.pt", "{}"),
    ),
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
]
FAULTS = [
    *(Fault(*command.split(maxsplit=1), line) for command, line in ROWS.items()),
    *(Fault(*command.split(maxsplit=1), line, prepare) for command, line, prepare in PREPARED),
    Fault(
        "scripts.phantoms",
        "make --layout=atlas --subjects=1 --spacing=4 --output={output}/atlas --workers=1",
        "{output}/atlas/….nii.gz: File too large; expected a …",
        disk=2**14,
    ),
]
