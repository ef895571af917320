"""Options of a config: their values, their spelling, and what contradicts."""

import sys
from pathlib import Path

import monai
import pytest
from monai.bundle import ConfigParser

from common.errors import InputError
from common.options import Options, check_trained
from common.values import OPTIONS
from scripts.configs import as_data


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("global_batch_size", "null", None),
        ("output_dir", "~/out", str(Path.home() / "out")),
        ("checkpoint", "[a.pt, b,c.pt]", ["a.pt", "b", "c.pt"]),
        ("patch_size", (64, 96, 128), [64, 96, 128]),
        ("modalities", "['T1', FLAIR]", ["T1", "FLAIR"]),
        ("cohort", 7, "7"),
        ("cleanup", "WT = 50mm3, ET=largest", "WT=50mm3,ET=largest"),
        ("iterations", "5 epochs", "5 epochs"),
    ],
)
def test_a_value_gets_its_own_type(name, value, expected):
    converted = OPTIONS[name].parse(name, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("patch_size", [24, 32, 64]),
        ("modalities", ["../T1"]),
        ("output_dir", 20261127),
        ("flips", [3]),
        ("label_convention", "core=x"),
        ("cleanup", "WT=most"),
        ("accept", "[spacinng]"),
    ],
)
def test_other_values_are_refused(name, value):
    with pytest.raises(InputError) as error:
        OPTIONS[name].parse(name, value)
    assert (error.value.what, error.value.value) == (name, value)


CONFIG = {
    "imports": ["$import common"],
    "output_dir": "$@place + '/eval'",
    "place": "",
    "modalities": ["T1", "T2"],
    "patch_size": [96, 96, 96],
    "batch_size": 2,
    "crop_foreground": False,
    "resume": False,
    "device": "cpu",
    "is_ssl": False,
    "options": {"_target_": "common.options.read_options", "self_supervised": "@is_ssl"},
    "cropped": "$@options and @crop_foreground",
    "run": ["@cropped"],
}
SSL = {"is_ssl": True}


@pytest.fixture
def options_of(tmp_path, monkeypatch):
    """Return a function that reads the options of a changed config."""
    monkeypatch.setattr("sys.excepthook", sys.excepthook)

    def options(content="options", **changed):
        own = {**changed, **CONFIG, "place": str(tmp_path)}  # also options that CONFIG lacks stand above `options`
        return ConfigParser(own | changed).get_parsed_content(content)

    return options


def test_a_config_reads_its_own_options(options_of, tmp_path):
    assert monai.__version__ == "1.6.1", "`resolver` relies on MONAI's internals"
    options = options_of(crop_foreground="true", **SSL)
    assert isinstance(options, Options)
    assert options.output_dir == f"{tmp_path}/eval"
    assert not (tmp_path / "eval").exists()
    options.make_folders()
    assert (tmp_path / "eval").is_dir()
    assert options_of(content="cropped", crop_foreground="true") is True, "@crop_foreground is the checked value"
    assert options.record(bundle="a").keys() == {"modalities", "patch_size", "batch_size", "crop_foreground", "bundle"}


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_cpu_predicts_in_bfloat16_if_it_has_that_and_never_trains_in_it(options_of, monkeypatch, has_bfloat16):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bfloat16})
    assert options_of(amp="auto", ckpt_dir="models").amp is False
    assert options_of(amp="false").amp is False
    assert options_of(amp="auto").amp is has_bfloat16


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_sise", 3),
        ("modality_alias", {"T1": "T2"}),
        ("output_dirr", as_data("/data/$x #1")),
        ("train", {"trainer": {"epochs": 3}}),
    ],
)
def test_a_value_that_nothing_uses_is_refused(options_of, key, value):
    with pytest.raises(RuntimeError) as error:
        options_of(**{key: value})
    assert error.value.__cause__.what.startswith(key)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 2, "batch_size": "$@scale * 2"},
        {"losses": {"dice": {"_target_": "DiceLoss"}}, "initialize": ["@losses::dice"]},
        {"testing": ["$print(@batch_size)"], "loader": {"_target_": "DataLoader"}},  # to run by `--run_id testing`
        {"tracking_uri": "a", "save_execute_config": False},
    ],
)
def test_a_key_that_something_uses_passes(options_of, values):
    options_of(**values)


@pytest.mark.parametrize(
    ("culprit", "values"),
    [
        ("patch_size", {"patch_size": [72, 72, 72]}),
        ("patch_size", {"patch_size": [32, 32, 32]}),
        ("patch_size", {"patch_size": [64, 96, 96], **SSL}),
        ("batch_size", {"batch_size": 3, "crops_per_volume": 2}),
        ("amp", {"amp": "bf16", "ckpt_dir": "models"}),
        ("modality_aliases", {"modality_aliases": {"T1": "FLAIR"}}),
        ("missing_modalities", {"missing_modalities": ["T1", "T2"]}),
        ("pretrained_lr_factor", {"pretrained_lr_factor": 0.1, "pretrained": None}),
        ("flips", {"flips": [0], "label_convention": "stroke_left=1,stroke_right=2"}),
        ("cleanup", {"cleanup": "WT=largest", "label_convention": "atlas"}),
    ],
)
def test_options_that_contradict_are_refused(options_of, culprit, values):
    with pytest.raises(RuntimeError) as error:
        options_of(**values)
    assert error.value.__cause__.what == culprit


TRAINED = {"patch_size": [64, 64, 64], "label_convention": "brats2021", "model_size": "tiny"}


@pytest.mark.parametrize("convention", ["brats2021", "brats2023", "TC=2,WT=1+2+5,ET=5"])
def test_options_agree_with_the_checkpoint_where_regions_have_the_same_names(convention):
    options = {"patch_size": [64, 64, 64], "label_convention": convention, "checkpoint": "model.pt"}
    check_trained(options, TRAINED)
    with pytest.raises(InputError, match="patch_size"):
        check_trained(options | {"patch_size": [96, 96, 96]}, TRAINED)
