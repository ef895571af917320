"""Mistakes in the other commands: folders that lack something, options out of range, files of another kind."""

from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import torch

from tests.faults.table import Fault

Prepare = Callable[[Path, Path], object]
LIST = "--datalist={cohorts}/brats.json"
DATA = f"{LIST} --dataset_dir={{cohorts}}/brats"


def _labels(*names: str) -> Prepare:
    """Folders with label maps of the cohort: `a` with the first names, `b` with all of them."""

    def prepare(folder: Path, cohorts: Path) -> None:
        source = next((cohorts / "brats").rglob("*_seg.nii.gz"))
        for place, some in (("a", names[:1]), ("b", names)):
            (folder / place).mkdir()
            for name in some:
                (folder / place / f"{name}.nii.gz").write_bytes(source.read_bytes())

    return prepare


def _file(name: str, content: str) -> Prepare:
    return lambda folder, _: (folder / name).write_text(content)


def _plain_weights(folder: Path, _: Path) -> None:
    """A plain state dict with a record that names two files."""
    torch.save({"a": torch.zeros(1)}, folder / "model.pt")
    (folder / "model.json").write_text('{"sha256": "a", "sha256": "b"}')


def _archive(folder: Path, _: Path) -> None:
    with ZipFile(folder / "package.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("bundle/zeros", bytes(10 * 2**20))


SCORES = "--predictions={folder}/a --references={folder}/b --output={output}"
ROWS: dict[str, list[tuple[str, str, Prepare | None]]] = {
    "scripts.evaluate": [
        (f"{SCORES} --protocol=brats", "--predictions={folder}/a: no such folder; expected one of NIfTI files", None),
        (
            f"{SCORES} --protocol=brats",
            "--predictions={folder}/a: no prediction for 1 of 2 cases: two; expected one for each reference, …",
            _labels("one", "two"),
        ),
        (f"{SCORES} --protocol=bratz", "--protocol=bratz: expected one of brats, atlas, isles, dice", _labels("one")),
        (
            f"{SCORES} --protocol=brats --challenge=XYZ",
            "--challenge=XYZ: expected one of GLI, MET, MEN, SSA, PED",
            _labels("one"),
        ),
        (f"{SCORES} --protocol=atlas", "{folder}/b/one.nii.gz: label 2, 4; expected labels 0, 1", _labels("one")),
        ("page {folder}", "{folder}/summary.json: No such file or directory; expected a JSON file", None),
        (
            "page {folder}",
            "{folder}/summary.json: no protocol; expected a summary by scripts.evaluate or evaluate.yaml",
            _file("summary.json", "{}"),
        ),
        (
            "page {folder}",
            '{folder}/summary.json: not JSON (the key "protocol" occurs twice); expected a summary by …',
            _file("summary.json", '{"protocol": "brats", "protocol": "atlas"}'),
        ),
    ],
    "scripts.report": [
        ("{folder}/none", "{folder}/none: no such folder; expected one that holds run.json files", None),
        ("{folder}", "{folder}: no run.json in or below it; expected the folder of at least one run", None),
        ("{folder}", '{folder}/run.json: $ is []; expected type "object"', _file("run.json", "[]")),
        (
            "{folder}",
            '{folder}/run.json: not JSON (the key "bundle" occurs twice); expected the record of a run',
            _file("run.json", '{"bundle": "a", "bundle": "b"}'),
        ),
    ],
    "scripts.datalists": [
        (
            "brats --root={folder}/none --output={folder}/new.json",
            "--root={folder}/none: No such file or directory; expected a folder of a cohort",
            None,
        ),
        (
            "brats --root={folder} --output={folder}/new.json",
            "--root={folder}: no subject of brats; expected folders such as BraTS2021_00000 or …; found nothing",
            None,
        ),
        (
            "brats --root={cohorts}/brats --output={folder}/new.json --validation=99",
            "--validation=99 --testing=0: nobody is left for training, of 6 people; expected 2 at least, …",
            None,
        ),
        (
            "brats --root={cohorts}/brats --output={folder}/new.json --validation=-1",
            "--validation=-1: expected a number of people, or a fraction from 0 to below 1",
            None,
        ),
        (
            f"subset {LIST} --output={{folder}}/new.json --fraction=0",
            "--fraction=0: expected a number above 0, up to 1",
            None,
        ),
        (
            f"subset {LIST} --output={{folder}}/new.json --fraction=1.5",
            "--fraction=1.5: expected a number above 0, up to 1",
            None,
        ),
        (
            f"subset {LIST} --output={{folder}}/new.json --fraction=0.5 --seed=-1",
            "--seed=-1: expected a whole number from 0",
            None,
        ),
        (
            "generic --root={folder} --output={folder}/new.json",
            "--root={folder}: no data set of a known layout; expected …; found no folder",
            None,
        ),
        (
            f"check {LIST} --root={{folder}}",
            "--root={folder}: none of the 30 files is below --root; expected …_flair.nii.gz there",
            None,
        ),
    ],
    "scripts.store": [
        (
            f"brats_finetun --store={{folder}}/store {DATA}",
            "BUNDLE brats_finetun: no such; did you mean brats_finetune?",
            None,
        ),
        (
            f"brats_finetune --store={{folder}}/store {DATA} --jobs=-1",
            "--jobs=-1: expected a whole number from 0 to 1024",
            None,
        ),
        (
            f"brats_finetune --store={{folder}}/store {DATA} --lerning_rate=1",
            "--lerning_rate=1: no such option in …train.yaml; did you mean --learning_rate?",
            None,
        ),
    ],
    "scripts.folds": [
        (
            f"brats_finetune {DATA} --folds=1 --output={{folder}}/folds",
            "--folds=1: expected a whole number from 2",
            None,
        ),
        (
            f"brats_finetune {DATA} --folds=99 --output={{folder}}/folds",
            "--folds=99: expected no more than the 5 people with labels",
            None,
        ),
    ],
    "scripts.experiments": [
        ("plan {folder}/none.yaml", "study {folder}/none.yaml: no such file; expected one of …, or a YAML file", None),
        (
            "plan {folder}/study.yaml",
            "study {folder}/study.yaml: the file: [1] is not of type 'object'",
            _file("study.yaml", "- 1\n"),
        ),
        (
            "plan {folder}/study.yaml",
            "study {folder}/study.yaml: no YAML (while parsing a flow sequence …",
            _file("study.yaml", "a: [1\n"),
        ),
    ],
    "scripts.export": [
        (
            f"brats_finetune torchscrip {{folder}}/model.ts {DATA}",
            "--format=torchscrip: expected one of torchscript, onnx, state_dict",
            None,
        ),
        (
            f"brats_finetun torchscript {{folder}}/model.ts {DATA}",
            "bundle brats_finetun: no configs/inference.yaml and metadata.json there; expected a folder, or …",
            None,
        ),
    ],
    "scripts.weights": [
        (
            "inspect {folder}/model.pt",
            '{folder}/model.json: not JSON (the key "sha256" occurs twice); expected the SHA-256 of model.pt and …',
            _plain_weights,
        ),
        (
            "convert {folder}/none.pt --output={folder}/new.pt",
            "checkpoint {folder}/none.pt: no such file",
            None,
        ),
        (
            "convert {folder}/model.pt --output={folder}/model.pt",
            "--output={folder}/model.pt: exists already; expected a new file",
            _file("model.pt", ""),
        ),
    ],
    "scripts.options": [
        ("brats_finetun", "--bundle=brats_finetun: expected one of atlas_finetune, …", None),
        ("ukb_ssl_pretrain --workflow=evaluate", "--workflow=evaluate: expected one of train, inference", None),
    ],
    "scripts.intensities": [
        ("--subjects=0", "--subjects=0: expected a whole number from 1 to 1000", None),
        ("--spacing=9", "--spacing=9: expected millimetres from 1 to 4", None),
    ],
    "scripts.consort": [
        (
            "{folder}/flow.json --output={folder}/flow.svg",
            '--flow={folder}/flow.json: not JSON (the key "name" occurs twice); expected …',
            _file("flow.json", '{"name": "a", "name": "b"}'),
        ),
        (
            "{folder}/flow.json --output={folder}/flow.pdf",
            "--output={folder}/flow.pdf: expected a file that ends in .svg or .png",
            _file("flow.json", "{}"),
        ),
    ],
    "scripts.probe": [
        (DATA, "no embeddings; expected embeddings.npz of one network or several", None),
        (
            f"{{folder}}/embeddings.npz {DATA}",
            "{folder}/embeddings.npz: …; expected embeddings.npz of an embedding run",
            _file("embeddings.npz", "no archive"),
        ),
        (
            f"{{folder}}/embeddings.npz {DATA} --repeats=0",
            "--repeats=0: expected a whole number from 1",
            None,
        ),
    ],
    "deploy.app": [
        (
            "--input={folder} --bundle={folder} --output={folder}/new",
            "MONAI Deploy is not installed; run make deploy, then use .venv-deploy/bin/python",
            None,
        ),
        ("--inputt={folder}", "an option: no such option; did you mean --input?", None),
    ],
    "deploy.pacs": [
        ("--bundle={folder}", "--input: missing; it has no default", None),
        (
            "--input={folder}/none --bundle={folder}",
            "--input: no such folder; expected a folder with the DICOM files of one study",
            None,
        ),
    ],
    "deploy.service": [
        ("status", "--url: missing; expected it, or the variable ORTHANC_URL", None),
        (
            "status --url=http://127.0.0.1:1 --user=a --password_file={folder}/none",
            "--password_file={folder}/none: No such file or directory; expected a file with the password",
            None,
        ),
        (
            "status --url=http://127.0.0.1:1 --user=a --password_file={folder}/password",
            "--url: Orthanc does not answer (ConnectionError); expected an Orthanc that accepts --user and …",
            _file("password", "secret"),
        ),
    ],
    "scripts.package": [
        (
            "brats_finetun --output={folder}",
            "bundle brats_finetun: expected one of atlas_finetune, atlas_stage2, brats_finetune, …",
            None,
        ),
        ("verify {folder}", "folder: LICENSE is missing", None),
        (
            "verify {folder}/package.zip --largest_package=0.001",
            "{folder}/package.zip: 0.00977 GiB in it; expected 0.001 GiB at most, unless --largest_package is …",
            _archive,
        ),
        (
            "verify {folder}/package.zip",
            "{folder}/package.zip: cannot be read as a zip (File is not a zip file); expected a package",
            _file("package.zip", "no archive"),
        ),
    ],
    "scripts.prepare": [
        ("--root={folder}/none --output={folder}/new --like=brats", "--root={folder}/none: …; expected …", None),
        ("--root={folder} --output={folder}/new --like=brats", "--root={folder}: …; expected …", None),
    ],
    "scripts.phantoms": [
        (
            "make --layout=brat --subjects=1 --output={folder}/new",
            "--layout=brat: expected one of ukb, brats, brats2023, atlas, atlas_sites",
            None,
        ),
        (
            "make --layout=brats --subjects=0 --output={folder}/new",
            "--subjects=0: expected a whole number from 1 to 9999",
            None,
        ),
    ],
}
FAULTS = [
    Fault(f"{module}: {line}", module, arguments, line, prepare=prepare or (lambda folder, cohorts: None))
    for module, rows in ROWS.items()
    for arguments, line, prepare in rows
]
