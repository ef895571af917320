import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

import numpy as np
import torch
import yaml
from pydicom.sr.codedict import codes

from common.preflight import InputError
from deploy.bundle import TASKS, _read, _run, open_bundle, split_options
from deploy.geometry import Volume, write_nifti
from tests.bundles.conftest import ROOT

BRATS = ROOT / "bundles/brats_finetune"


@pytest.fixture
def bundle(tmp_path, models):
    """A copy of a bundle's folder, with a checkpoint."""
    folder = tmp_path / "bundle"
    shutil.copytree(BRATS / "configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(models("brats"), folder / "models/model.pt")
    return folder


def test_metadata_say_what_a_bundle_is(bundle):
    opened = open_bundle(bundle)
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert opened.modalities == ("FLAIR", "T1ce", "T1", "T2")
    assert (opened.name, opened.version) == (metadata["name"], metadata["version"])
    assert opened.task is TASKS["tumour"]
    assert opened.config.name == "inference.yaml"
    assert len(opened.digest) == 64


def test_a_bundle_for_strokes_is_told_apart(models):
    opened = open_bundle(ROOT / "bundles/atlas_finetune", models("atlas"))
    assert opened.modalities == ("T1",)
    assert opened.task is TASKS["stroke"]
    assert not opened.task.skull_stripped


def test_inference_may_be_json(bundle):
    config = bundle / "configs/inference.yaml"
    assert "checkpoint" in open_bundle(bundle).settings
    config.with_suffix(".json").write_text(json.dumps(yaml.safe_load(config.read_text())))
    config.unlink()
    assert open_bundle(bundle).config.name == "inference.json"
    assert "checkpoint" in open_bundle(bundle).settings
    config.with_suffix(".json").write_text("no config")
    assert "no config of MONAI" in refusal(bundle)


def test_segments_have_codes_of_snomed():
    """Against pydicom's tables; those lack 55641003, |Infarct (morphologic abnormality)|."""
    known = [codes.SCT.Necrosis, codes.SCT.Edema, codes.SCT.Neoplasm]
    assert [(each.code, each.meaning) for each in TASKS["tumour"].segments] == [
        (code.value, code.meaning) for code in known
    ]
    assert [(each.code, each.meaning) for each in TASKS["stroke"].segments] == [("55641003", "Infarct")]


def refusal(*arguments):
    with pytest.raises(InputError) as error:
        open_bundle(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_archives_are_refused(tmp_path):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.txt", "x")
    assert "Archives are not unpacked here" in refusal(archive)
    assert not (tmp_path.parent.parent / "outside.txt").exists()


class Harm:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/harm-was-done"),)


def test_a_checkpoint_that_holds_code_is_refused(bundle):
    torch.save({"state_dict": {}, "harm": Harm()}, bundle / "models/model.pt")
    assert "unpickling can run any code" in refusal(bundle)
    (bundle / "models/model.pt").write_bytes(pickle.dumps(Harm()))
    assert "cannot be read as tensors alone" in refusal(bundle)
    assert not Path("/tmp/harm-was-done").exists()


def test_a_missing_checkpoint_is_named(bundle):
    (bundle / "models/model.pt").unlink()
    assert refusal(bundle) == f"checkpoint {bundle / 'models/model.pt'}: no such file"


def test_folders_that_are_no_bundle_are_refused(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no configs/inference.yaml or .json" in refusal(tmp_path / "empty")
    assert "no configs/inference.yaml or .json" in refusal(tmp_path / "missing")
    (bundle / "configs/metadata.json").write_text("{")
    assert "not JSON" in refusal(bundle)
    (bundle / "configs/metadata.json").write_text("{}")
    assert "no 'network_data_format'; expected the metadata of a bundle" in refusal(bundle)


def test_a_bundle_that_segments_something_else_is_refused(bundle):
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "spleen"}
    (bundle / "configs/metadata.json").write_text(json.dumps(metadata))
    assert "segments spleen; expected brats_finetune or atlas_finetune" in refusal(bundle)


def test_options_for_the_bundle_are_split_and_those_of_the_application_refused():
    assert split_options("--model_size=tiny --patch_size='[64, 64, 64]'") == [
        "--model_size=tiny",
        "--patch_size=[64, 64, 64]",
    ]
    assert split_options("") == []
    for text, message in {
        "--output_dir=x": "--output_dir is set by the application",
        "--config-file=x": "--config_file is set by the application",
        "word": "word: expected options such as",
        "--name='x": "No closing quotation",
    }.items():
        with pytest.raises(InputError, match=message):
            split_options(text)


def test_the_last_line_of_a_failed_inference_is_told(tmp_path):
    code = "import sys; print('first\\nerror: the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(InputError, match=r"^the bundle's inference ended with status 3: error: the reason$"):
        _run([sys.executable, "-c", code], tmp_path, tmp_path)


def test_of_a_case_that_failed_the_reason_is_told(tmp_path):
    lines = ["case: 0%|   | 0/1", "\rfailed: subject case: T1: zero everywhere", "1 of 1 cases failed"]
    code = f"import sys; print({chr(10).join(lines)!r}, file=sys.stderr); sys.exit(1)"
    expected = "^the bundle's inference ended with status 1: failed: subject case: T1: zero everywhere$"
    with pytest.raises(InputError, match=expected):
        _run([sys.executable, "-c", code], tmp_path, tmp_path)


def test_of_a_failed_inference_no_folder_of_the_user_is_told(tmp_path):
    work = tmp_path / "SENTINEL" / "work"
    code = f"import sys; sys.exit('error: {work}/case_T1.nii: broken')"
    with pytest.raises(InputError, match=r": error: case_T1\.nii: broken$"):
        _run([sys.executable, "-c", code], tmp_path, work)


def test_a_label_map_on_another_grid_is_refused(tmp_path):
    volume = Volume(np.zeros((4, 5, 6), np.float32), np.eye(4))
    with pytest.raises(InputError, match="wrote no label map"):
        _read(tmp_path / "case.nii", volume)
    write_nifti(volume, tmp_path / "case.nii")
    assert _read(tmp_path / "case.nii", volume).dtype == np.uint8
    with pytest.raises(InputError, match="another grid"):
        _read(tmp_path / "case.nii", Volume(volume.array, np.diag([1, 1, 2, 1])))
    with pytest.raises(InputError, match="another grid"):
        _read(tmp_path / "case.nii", Volume(volume.array[1:], np.eye(4)))
