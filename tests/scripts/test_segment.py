"""`python -m scripts.segment`: from a moved raw head to a label map on its grid."""

import subprocess
import sys
from functools import partial
from hashlib import sha256
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common import made
from common.data.volumes import write_volume
from common.errors import InputError
from scripts.prepare.steps import send_all
from scripts.prepare.subjects import Outcome
from scripts.segment import LABELS, PREDICTED, check_made_here, predict, segment
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
    assert written == {f"{subject}.nii.gz", "made.json", "volumes.csv", "dseg.tsv", "slicer.ctbl", "itksnap.txt"}
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
        ({"bundle": "brats_stage2"}, "bundle=brats_stage2: expected one of atlas_finetune, brats_finetune"),
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


def test_what_cannot_be_prepared_is_named_without_an_option_of_the_preparation_alone(tmp_path):
    scans, output = tmp_path / "raw", str(tmp_path / "out")
    (scans / "a").mkdir(parents=True)
    (scans / "a/a_T1.nii.gz").touch()
    file = untrained("atlas_finetune", tmp_path / "model.pt", modalities=["T1", "PD"])
    odd = untrained("atlas_finetune", tmp_path / "odd.pt", modalities=["T 1"])
    for options, message in (
        ({"scans": f"{scans}/b"}, f"^{scans}/b: no such folder; expected a folder of raw scans$"),
        ({"scans": str(scans)}, f"^{scans}: no file of PD "),
        ({"scans": str(scans), "checkpoint": odd}, r"^modalities \['T 1'\]: expected different names"),
        (
            {"scans": str(scans), "patterns": {"T1": "*x.nii"}},
            r"^--patterns={'T1': '\*x.nii'}: no file of T1 .* subject$",
        ),
        ({"scans": str(scans), "missing": "drop"}, "^missing=drop: expected one of refuse, keep$"),
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
    states, commands = [0, 1, 2], []
    (tmp_path / "model.pt").write_bytes(b"new")

    def start(command, **_):
        commands.append(command)
        return SimpleNamespace(returncode=states.pop(0))

    monkeypatch.setattr(subprocess, "run", start)
    run = partial(predict, "atlas_finetune", tmp_path / "model.pt", tmp_path, "cpu")
    assert run()
    made.Results(tmp_path / PREDICTED, {"checkpoints": {"model.pt": "of older weights"}, "settings": {}}).begin()
    assert not run()
    made.Results(
        tmp_path / PREDICTED, {"checkpoints": {"moved.pt": sha256(b"new").hexdigest()}, "settings": {}}
    ).begin()
    with pytest.raises(SystemExit, match="2"):
        run()
    existing = [word for command in commands for word in command if word.startswith("--existing=")]
    assert existing == ["--existing=skip", "--existing=replace", "--existing=skip"]


def test_workers_are_forked_before_the_threads_of_openmp(tmp_path):
    """They would wait for these threads forever."""
    (tmp_path / "raw").mkdir()
    file = untrained("atlas_finetune", tmp_path / "model.pt")
    code = "import os, sys, torch; from scripts.prepare import steps; from scripts.segment import segment"
    code += "; torch.set_num_threads(3); count = lambda: len(os.listdir('/proc/self/task')); before = count()"
    code += "; steps.prepare_scans = lambda *_, **__: print(count() - before, torch.get_num_threads()) or []"
    code += "; segment(sys.argv[1] + '/raw', 'atlas_finetune', sys.argv[1] + '/out', sys.argv[2])"
    ended = execute([sys.executable, "-c", code, str(tmp_path), file])
    assert (ended.stdout, ended.returncode) == ("0 3\n", 1)


def test_label_maps_that_were_corrected_by_hand_stay_until_their_sources_change(tmp_path, monkeypatch):
    """Saved by a program that writes no intent; a failed return is tried again."""

    def send(work, *_):
        sent.append("".join(sorted(work)))
        for subject in work:
            write_volume(tmp_path / LABELS / f"{subject}.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))
        return [
            Outcome(subject, is_new=subject not in failing, fault="lost" * (subject in failing)) for subject in work
        ]

    monkeypatch.setattr("scripts.prepare.steps.run_in_processes", send)
    sent, failing = [], {"b"}
    maps = {subject: tmp_path / PREDICTED / f"{subject}.nii.gz" for subject in "ab"}
    for subject, file in maps.items():
        write_volume(file, np.ones((2, 2, 2), np.uint8), np.eye(4), is_label=True)
        (tmp_path / "prepared" / subject).mkdir(parents=True)
        (tmp_path / "prepared" / subject / "prepare.json").write_text("{}")
    for _ in range(3):
        send_all(maps, tmp_path / "prepared", tmp_path / LABELS)
        failing = set()
    (tmp_path / "prepared/a/prepare.json").write_text('{"of": "another scan"}')
    send_all(maps, tmp_path / "prepared", tmp_path / LABELS)
    write_volume(maps["b"], np.zeros((2, 2, 2), np.uint8), np.eye(4), is_label=True)
    send_all({"b": maps["b"]}, tmp_path / "prepared", tmp_path / LABELS)
    assert sent == ["ab", "b", "", "a", "b"]
    (tmp_path / LABELS / "b.nii.gz").unlink()
    send_all(maps, tmp_path / "prepared", tmp_path / LABELS)
    assert sent[-1] == "b"
    check_made_here(tmp_path)
