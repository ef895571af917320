import pytest
from monai.bundle import ConfigParser

from common.baselines import NETWORKS
from common.data.datalists import ALL, SPLITS
from common.data.regions import CONVENTIONS
from common.options import OPTIONS, Options, check_trained
from common.ssl.networks import SIZES
from common.values import optional

# Values


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("global_batch_size", "null", None),
        ("pretrained", "a.pt", "a.pt"),
        ("crop_foreground", "True", True),
        ("amp", "FALSE", False),
        ("amp", "bf16", "bf16"),
        ("patch_size", (64, 96, 128), [64, 96, 128]),
        ("modality_aliases", "null", None),
        ("missing_modalities", (), []),
        ("cohort", 7, "7"),
        ("cleanup", "WT = holes+ largest + 50.0mm3", "WT=50mm3+largest+holes"),
        ("cleanup", "none", None),
        ("iterations", "5epochs", "5 epochs"),
        ("val_interval", ".5 epochs", ".5 epochs"),
    ],
)
def test_a_value_gets_its_own_type(name, value, expected):
    converted = OPTIONS[name](value)
    assert converted == expected
    assert type(converted) is type(expected)


def test_words_are_those_that_the_code_knows():
    def words(name):
        return set(OPTIONS[name].kind.values.removeprefix("one of ").split(", "))

    custom = "or regions such as core=1+3,whole=1+2+3"
    assert words("label_convention") == {*CONVENTIONS, custom}
    assert words("model_size") == set(SIZES)
    assert words("architecture") == set(NETWORKS)
    assert words("split") == {*SPLITS, ALL}


# A config's options

CONFIG_OF_A_RUN = {
    "imports": ["$import common"],
    "output_dir": "$@place + '/eval'",
    "place": "",
    "modalities": ["T1", "T2"],
    "patch_size": [96, 96, 96],
    "batch_size": 2,
    "iterations": 1000,
    "val_interval": 500,
    "warmup_iterations": 500,
    "crop_foreground": False,
    "resume": False,
    "device": "cpu",
    "not_an_option": 3,
    "options": {"_target_": "common.options.read", "self_supervised": "@not_an_option"},
    "cropped": "$@options and @crop_foreground",
}


@pytest.fixture
def options_of(tmp_path, monkeypatch):
    """Return a function that reads the options of a changed config, for segmentation unless `self_supervised`."""
    monkeypatch.setattr("sys.excepthook", None)

    def options(self_supervised=False, content="options", **changed):
        config = CONFIG_OF_A_RUN | {"place": str(tmp_path), "not_an_option": self_supervised} | changed
        return ConfigParser(config).get_parsed_content(content)

    return options


def test_a_config_reads_its_own_options(options_of, tmp_path):
    options = options_of(self_supervised=True, crop_foreground="true")
    assert isinstance(options, Options)
    assert options.output_dir == f"{tmp_path}/eval"
    assert not (tmp_path / "eval").exists()
    options.make_folders()
    assert (tmp_path / "eval").is_dir()
    assert options.crop_foreground is True
    assert not hasattr(options, "not_an_option")
    assert options_of(content="cropped", crop_foreground="true") is True, "@crop_foreground is the checked value"
    recorded = {
        "modalities",
        "patch_size",
        "batch_size",
        "warmup_iterations",
        "crop_foreground",
        "iterations",
        "val_interval",
    }
    assert options.record(bundle="a").keys() == recorded | {"bundle"}


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_cpu_predicts_in_bfloat16_if_it_has_that_and_never_trains_in_it(options_of, monkeypatch, has_bfloat16):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bfloat16})
    assert options_of(amp="auto", ckpt_dir="models").amp is False
    assert options_of(amp="false").amp is False
    assert options_of(amp="auto").amp is has_bfloat16


SSL = {"self_supervised": True}


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 1, "patch_size": [64, 96, 128]},  # a single crop with unequal edges
        {"patch_size": [224, 224, 144], "architecture": "segresnet", "model_size": "micro"},
        {"modalities": ["T1"], "missing_modalities": [], "modality_dropout": 0.0},
        {"modality_aliases": {"T1": "FLAIR"}, "pretrained": "a.pt"},
        {"background": "T2"},
        {"flips": [0, 1], "label_convention": "atlas"},
        {"flips": [1, 2], "label_convention": "stroke_left=1,stroke_right=2"},
        {"background": None, "protocol": None, "label_convention": "atlas"},
        {"batch_size": 6, "crops_per_volume": 3, **SSL},
        {"pretrained_lr_factor": 1.0, "frozen_iterations": 0, "pretrained": None, "architecture": "probe"},
        {"pretrained_lr_factor": 0.1, "frozen_iterations": 5, "pretrained": "a.pt"},
    ],
)
def test_options_that_fit_pass(options_of, values):
    options = options_of(**values)
    expected = {name: optional(value) for name, value in values.items() if name in OPTIONS}
    assert {name: getattr(options, name) for name in expected} == expected


# Options and the checkpoint

TRAINED = {"patch_size": [64, 64, 64], "label_convention": "brats2021", "model_size": "tiny"}


@pytest.mark.parametrize("convention", ["brats2021", "brats2023", "TC=2,WT=1+2+5,ET=5"])
def test_options_agree_with_the_checkpoint_where_regions_have_the_same_names(convention):
    check_trained({"patch_size": [64, 64, 64], "label_convention": convention, "checkpoint": "model.pt"}, TRAINED)
