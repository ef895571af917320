"""What users get wrong most often ends in status 2 and one line that names the culprit; nothing on disk changes."""

import os
import shlex
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests import kept
from tests.damaged_scans import cut, save
from tests.programs import run_module
from tests.support import ROOT, TINY

BRATS = "brats_finetune"
DATA = "--dataset_dir={data}/brats --datalist={data}/brats.json"
LIST = "--datalist={data}/brats.json"
TRAIN = f"scripts.run {BRATS} train {' '.join(TINY)} --output_dir=out --ckpt_dir=out/models"
EVALUATE = f"scripts.run {BRATS} evaluate {DATA} --output_dir=out"
SCORED = f"scripts.run {BRATS} evaluate --output_dir=out --checkpoint={{model}}"
SCORE = "scripts.evaluate --predictions=a --references=b --output=out"
REFUSALS = [  # command line, culprit in the error
    # misspelt commands, options and names
    ("scripts.run brats_finetun train", "brats_finetun"),
    (f"scripts.run {BRATS} trian", "trian"),
    (f"{TRAIN} {DATA} --lerning_rate=5", "lerning_rate"),
    (f"scripts.store {BRATS} --store=out {DATA} --outptu=x", "outptu"),
    # missing files and folders
    (f"{TRAIN} --dataset_dir={{data}}/brats --datalist=none.json", "none.json"),
    (f"{TRAIN} --dataset_dir=none {LIST}", "none"),
    (f"{TRAIN} {DATA} --pretrained=none.pt", "none.pt"),
    (f"scripts.segment none --bundle={BRATS} --output=out --checkpoint={{model}}", "none"),
    ("scripts.evaluate --predictions=none --references=b --protocol=dice --output=out", "none"),
    # what does not fit
    (f"scripts.datalists check {LIST} --root=scans", "scans"),
    (f"{TRAIN} --dataset_dir=scans {LIST}", "scans"),
    (f"{TRAIN} {DATA} --modalities=['T1','CT']", "CT"),
    (f"{TRAIN} {DATA} --pretrained=text.pt", "text.pt"),
    (f"{TRAIN} {DATA} --pretrained={{model}} --model_size=tiny", "model_size"),
    (f"{TRAIN} --dataset_dir={{data}}/brats --datalist=text.json", "text.json"),
    (f"{EVALUATE} --checkpoint={{model}} --protocol=isles", "isles"),
    (f"{SCORED} --dataset_dir={{data}}/atlas --datalist={{data}}/atlas.json", "label_convention"),
    ("scripts.datalists brats --root={data}/brats --output=out.json --validation=99", "validation"),
    (f"{SCORE} --protocol=brats", "one.nii.gz"),
    # scans that cannot be read, grids and labels that do not fit
    (f"{TRAIN} --dataset_dir=cut --datalist={{data}}/brats.json", "flair.nii.gz"),
    (f"{SCORED} --dataset_dir=labels {LIST}", "seg.nii.gz"),
    (f"{SCORED} --dataset_dir=moved {LIST}", "seg.nii.gz"),
    # an output that exists, a disk without space
    (f"{TRAIN} {DATA} --ckpt_dir={{trained}}/models", "resume"),
    ("scripts.phantoms make --layout=atlas --subjects=1 --output=held", "held"),
    ("scripts.phantoms make --layout=atlas --subjects=1 --output=/proc/none", "/proc/none"),
]


def _rewrite(path: Path, shift: float = 0, added: int = 0) -> None:
    """Shift a label map's position by mm along each axis, and add to its labels."""
    label = nibabel.load(path)
    affine = label.affine.copy()
    affine[:3, 3] += shift
    save(path, np.asarray(label.dataobj, np.uint8) + np.uint8(added), affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the inputs of all command lines, which none of them may change."""
    folder, cohort = tmp_path_factory.mktemp("refusals"), kept.cohorts() / "brats"
    for name in ("scans", "a", "b", "held"):
        (folder / name).mkdir()
    for name in ("held/result.txt", "text.pt", "text.json"):
        (folder / name).write_text("no such content")
    for name in ("a", "b"):
        shutil.copy(next(cohort.rglob("*_flair.nii.gz")), folder / name / "one.nii.gz")
    for name in ("cut", "labels", "moved"):
        shutil.copytree(cohort, folder / name)
    for path in (folder / "cut").rglob("*_flair.nii.gz"):
        cut(path)
    for path in (folder / "labels").rglob("*_seg.nii.gz"):
        _rewrite(path, added=7)
    for path in (folder / "moved").rglob("*_seg.nii.gz"):
        _rewrite(path, shift=20)
    return folder


def _files(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".in_use")
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


@pytest.mark.parametrize(("command", "culprit"), REFUSALS, ids=lambda text: text[-60:])
def test_a_mistake_ends_in_one_line(folder, command, culprit):
    trained = kept.trained(BRATS)
    places = {"data": kept.cohorts(), "trained": trained, "model": trained / "models/model.pt"}
    for name, place in places.items():
        command = command.replace(f"{{{name}}}", str(place))
    before = _files(folder)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = run_module(shlex.split(command), folder, environment)
    errors = [line for line in ended.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stdout + ended.stderr
    assert culprit in errors[0]
    assert _files(folder) == before


def test_a_misspelt_option_in_monais_own_command_is_refused(folder):
    places = f"--dataset_dir={kept.cohorts()}/ukb --datalist={kept.cohorts()}/ukb.json --output_dir={folder}/new"
    words = shlex.split(f"monai.bundle run --config_file=configs/train.yaml {places} --loss_weigths=[1,2]")
    ended = run_module(words, ROOT / "bundles/ukb_ssl_pretrain", os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 2, ended.stderr
    assert "loss_weigths" in ended.stderr.splitlines()[-1]
    assert not (folder / "new").exists()
