"""`python -m scripts.segment`: from a moved raw head to a label map on its grid."""

import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.data.volumes import write_volume
from common.errors import InputError
from common.files import read_json, write_json
from common.inference import Volumes, files_of, finished
from scripts.segment import LABELS, NOTES, PREDICTED, bring_back, forget, predicts, segment
from tests.bundles.workflows import untrained
from tests.oracles import nifti
from tests.scripts.prepare.moved_heads import make_raw
from tests.support import execute, one_line


@pytest.mark.slow
def test_raw_scans_become_label_maps_on_their_own_grids(trained, tmp_path):
    """A subject without T1 is left out in one line."""
    subject = make_raw("atlas", 0, tmp_path, seed=4, spacing=4.0)
    raw = tmp_path / f"raw/{subject}/{subject}_T1.nii.gz"
    nifti.contradict(raw)
    scan = nibabel.load(raw)
    (tmp_path / "raw/other").mkdir()
    nibabel.save(scan, tmp_path / "raw/other/other_FLAIR.nii.gz")
    output = tmp_path / "out"
    options = ["--bundle=atlas_finetune", f"--checkpoint={trained('atlas_finetune') / 'models/model.pt'}"]
    options += [f"--output={output}"]
    command = [sys.executable, "-m", "scripts.segment", str(tmp_path / "raw"), *options]
    ended = execute(command)
    assert ended.returncode == 1, "other was left out"
    assert "other: T1: no file; expected one file" in ended.stdout
    assert "put a voxel in places up to 40 mm apart; expected one place (the sform is used)" in ended.stdout
    labels = nibabel.load(output / f"labels/{subject}.nii.gz")
    assert labels.shape == scan.shape
    assert nifti.forms((output / f"labels/{subject}.nii.gz").read_bytes()) == nifti.forms(raw.read_bytes())
    assert set(np.unique(labels.dataobj)) <= {0, 1}
    written = {path.name for path in (output / "labels").iterdir()}
    assert written == {f"{subject}.nii.gz", "volumes.csv", "dseg.tsv", "slicer.ctbl", "itksnap.txt"}
    voxels = int((np.asarray(labels.dataobj) == 1).sum())
    volume = voxels * abs(np.linalg.det(scan.affine[:3, :3])) / 1000  # ml, of the sform
    assert (output / "labels/volumes.csv").read_text().splitlines()[1:] == [f"{subject},lesion,{volume:.6g},{voxels}"]


def test_a_checkpoint_that_is_missing_is_refused_before_anything_is_written(tmp_path):
    file = untrained("ukb_ssl_pretrain", tmp_path / "ssl.pt")
    other = untrained("brats_finetune", tmp_path / "other.pt")
    for options, message in (
        (
            {"bundle": "atlas_finetune", "checkpoint": other},
            "other.pt: of the bundle brats_finetune; expected the weig",
        ),
        (
            {"bundle": "atlas_finetune", "checkpoint": str(tmp_path / "no.pt")},
            "no.pt: no such file; expected one file, of a",
        ),
        (
            {"bundle": "atlas_finetune", "checkpoint": [file, other]},
            r"^checkpoint=\[.*\]: expected the path of one file",
        ),
        ({"bundle": "atlas_finetune", "checkpoint": file}, "ssl.pt: holds SSLHead; expected the weights of a tr"),
        ({"bundle": "brats_stage2"}, "bundle=brats_stage2: expected one of brats_finetune, atlas_finetune"),
    ):
        with pytest.raises(InputError, match=message) as error:
            segment(str(tmp_path / "raw"), output=str(tmp_path / "out"), **options)
        assert one_line(error)
    assert not (tmp_path / "out").exists()


def test_label_maps_of_another_origin_are_not_removed(tmp_path):
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/labels/truth.nii.gz").touch()
    with pytest.raises(InputError, match=r"labels/truth\.nii\.gz: not of an earlier run; expected another --output$"):
        segment(str(tmp_path / "raw"), "atlas_finetune", str(tmp_path / "out"))
    assert (tmp_path / "out/labels/truth.nii.gz").exists()


def test_tables_of_another_origin_are_refused_before_the_scans_are_prepared(tmp_path):
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/labels/volumes.csv").write_text("a,b\n")
    file = untrained("atlas_finetune", tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"labels/volumes\.csv: unexpected header row; expected an earlier table"):
        segment(str(tmp_path / "raw"), "atlas_finetune", str(tmp_path / "out"), file)


def test_options_that_only_the_preparation_has_are_explained(tmp_path):
    scans, output = tmp_path / "raw", str(tmp_path / "out")
    (scans / "a").mkdir(parents=True)
    (scans / "a/a_T1.nii.gz").touch()
    file = untrained("atlas_finetune", tmp_path / "model.pt", modalities=["T1", "PD"])
    odd = untrained("atlas_finetune", tmp_path / "odd.pt", modalities=["T 1"])
    origin = r" \(an option of scripts.prepare, set from {}\)$"
    for options, message in (
        ({"scans": f"{scans}/b"}, f"^{scans}/b: no such folder; expected a folder of raw scans$"),
        ({"scans": str(scans)}, "^--modalities: no file of PD .*" + origin.format(file)),
        ({"scans": str(scans), "checkpoint": odd}, r"^--modalities=\['T 1'\]: expected .*" + origin.format(odd)),
        (
            {"scans": str(scans), "patterns": {"T1": "*x.nii"}},
            r"^--patterns={'T1': '\*x.nii'}: no file of T1 .* subject$",
        ),
        ({"scans": str(scans), "missing": "drop"}, "^--missing=drop: expected one of refuse, keep$"),
        ({"scans": str(scans), "output": str(scans / "out")}, f"^--output={scans}/out: lies in {scans}; expected"),
    ):
        with pytest.raises(InputError, match=message):
            segment(**{"bundle": "atlas_finetune", "checkpoint": file, "output": output} | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("like", "warns"), [("ukb", True), ("atlas", False), (None, False)])
def test_a_space_that_is_not_of_the_bundle_is_warned_of(tmp_path, capsys, like, warns):
    file = untrained("atlas_finetune", tmp_path / "model.pt")
    with pytest.raises(InputError, match="no such folder"):
        segment(str(tmp_path / "raw"), "atlas_finetune", str(tmp_path / "out"), file, like)
    line = f"warning: --like=ukb: expected atlas, unless {file} is of a training on scans like ukb\n"
    assert capsys.readouterr().err == (line if warns else "")


def test_an_inference_that_cannot_go_on_ends_all(tmp_path, monkeypatch):
    """Such as on a full disk; one that fails for some subjects, with status 1, does not."""
    states = [0, 1, 2]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=states.pop(0)))
    run = partial(predicts, "atlas_finetune", tmp_path / "model.pt", tmp_path, "cpu")
    assert (run(), run()) == (True, False)
    with pytest.raises(SystemExit, match="2"):
        run()


def test_reading_weights_starts_no_threads_that_forked_workers_would_wait_for(tmp_path):
    file = untrained("atlas_finetune", tmp_path / "model.pt")
    code = (
        "import os, sys, torch; from pathlib import Path; from scripts.segment import _read; torch.set_num_threads(3)"
    )
    code += "; count = lambda: len(os.listdir('/proc/self/task')); before = count(); _read(Path(sys.argv[1]))"
    code += "; print(count() - before, torch.get_num_threads())"
    assert execute([sys.executable, "-c", code, str(file)]).stdout == "0 3\n"


def test_results_of_other_scans_or_weights_stay_until_they_are_replaced(tmp_path):
    """Inference makes again what has no volumes."""
    folder = tmp_path / PREDICTED
    volumes = Volumes(str(folder), "atlas")
    for subject, weights in (("a", "same"), ("b", "old"), ("c", "same")):
        write_volume(folder / f"{subject}.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))
        volumes.measure(subject, np.ones((2, 2, 2)), np.eye(4))
        write_json(folder / NOTES / f"{subject}.json", {"weights": weights})
    volumes.write()
    sources = {"a": {"weights": "same"}, "b": {"weights": "new"}}
    for _ in range(2):  # killed and repeated
        forget(Volumes(str(folder), "atlas"), sources)
        assert sorted(path.name for path in folder.glob("*.gz")) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
        assert finished({subject: files_of(subject, folder) for subject in "abc"}, folder) == {"a", "c"}
        assert read_json(folder / NOTES / "b.json") == {"weights": "new"}
    assert {subject for subject, _ in Volumes(str(folder), "atlas").rows} == {"a", "c"}, "another batch stays"


def test_label_maps_that_were_corrected_by_hand_stay(tmp_path, monkeypatch):
    def send(maps, prepared, target):
        for subject in maps:
            sent.append(subject)
            target.mkdir(exist_ok=True)
            (target / f"{subject}.nii.gz").write_text("predicted")

    monkeypatch.setattr("scripts.prepare.__main__.send_all", send)
    sources = {"a": {}, "b": {"weights": "1"}}
    volumes = Volumes(str(tmp_path / PREDICTED), "atlas")
    for weights, sends in (("1", "ab"), ("1", ""), ("2", "a")):
        sent = []
        sources["a"] = {"weights": weights}
        forget(volumes, sources)
        assert bring_back(tmp_path, sources)
        assert sent == [*sends]
        for file in (tmp_path / LABELS).iterdir():
            file.write_text("corrected")
    (tmp_path / LABELS / "b.nii.gz").unlink()
    bring_back(tmp_path, sources)
    assert sent == ["a", "b"]
