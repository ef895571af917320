import os

import pytest
import torch
from monai.bundle import ConfigParser

from common.baselines import NETWORKS
from common.data.datalists import ALL, SPLITS
from common.data.regions import CONVENTIONS
from common.errors import ArgumentError, chain_of
from common.options import OFF, OPTIONS, Options, check_stated, check_trained
from common.ssl.networks import SIZES
from common.values import optional
from tests.support import refused

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


REFUSED = {
    "batch_size": ["two", 0, 1.5, True, None, "1e4"],
    "global_batch_size": [0],
    "learning_rate": ["fast", -1, float("nan"), "1e-4", "1.5e4", "1E3"],  # YAML reads the last three as text
    "iterations": [0, 1.5, True, None, "0 epochs", "5 epoch 5", 10**13, "1e13 epochs"],
    "warmup_iterations": [-1],
    "seed": ["abc", 100_000],
    "patch_size": [[32, 32, 32], [31, 64, 64], [64, 64], 96, [64.0, 64, 64]],
    "modalities": ["T1", [1, 2], [], ["T1", ""], ["$1+1"], ["a\nb"], ["a/b"]],
    "missing_modalities": ["T1"],
    "crop_foreground": ["yes", 1, None],
    "amp": ["half"],
    "compile": ["yes", 1],
    "attention": ["flash"],
    "flips": [[3], [0, 0], 0],
    "cleanup": ["WT", "WT=small", "$print()=holes", ["WT=holes"], True],
    "max_grad_norm": [0, -1, "big"],
    "average_decay": [-0.1, 1, "no"],
    "patience": [0, 1.5],
    "without": ["gamma", ["gama"]],
    "spacing": [[1, 1], [0, 1, 1], "1"],
    "loss_weights": [1, [], [1, -1, 1], [1, float("nan"), 1], {"rotation": "1"}],
    "modality_aliases": ["T2=FLAIR", {}, {"T2": 1}],
    "accept": ["spacinng", [1]],
    "pretrained": [5],
    "output_dir": ["", "a\0b"],
    "model_size": [5],
    "split": ["test"],
    "label_convention": ["brats"],
    "device": ["gpu", 3.5, "cuda:2"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_cannot_be_is_named(name, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for value in REFUSED[name]:
        with refused(name, value):
            OPTIONS[name](value)
    accepted = ("cuda", "cuda:0", "cuda:1", "cpu", torch.device("cpu"))  # configs have the last where there is no GPU
    assert all(OPTIONS["device"](device) == device for device in accepted)


def test_a_refusal_says_what_was_expected():
    for name, value, text in (
        ("batch_size", "two", "batch_size=two: expected a whole number from 1, crops"),
        ("learning_rate", "1e-4", "learning_rate=1e-4: YAML reads this as text; write a point and a sign, as in 1.0e-"),
        ("device", "cuda:99", "device=cuda:99: available GPUs: "),
        ("pretrained", 5, "pretrained=5: expected a path; if the name is a number"),
        ("label_convention", "brats", "label_convention=brats: expected one of atlas, brats2021, "),
    ):
        with refused(text=text):
            OPTIONS[name](value)


def test_words_are_those_that_the_code_knows():
    def words(name):
        return set(OPTIONS[name].kind.values.removeprefix("one of ").split(", "))

    custom = "or regions such as core=1+3,whole=1+2+3"
    assert words("label_convention") == {*CONVENTIONS, custom}
    assert words("model_size") == set(SIZES)
    assert words("architecture") == set(NETWORKS)
    assert words("split") == {*SPLITS, ALL}


def test_a_value_that_turns_an_option_off_is_one_that_the_option_accepts():
    assert {name: OPTIONS[name](value) for name, value in OFF.items()} == OFF


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


@pytest.mark.parametrize("of_workflow", [{"ckpt_dir": "/models"}, {"protocol": "atlas"}, {}])
def test_a_folder_of_events_has_a_name_in_utf_8(tmp_path, of_workflow):
    """TensorBoard requires UTF-8; inference writes no events."""
    folder = tmp_path / os.fsdecode(b"Dos\xe9")
    options = Options(output_dir=str(folder), **of_workflow)
    if of_workflow:
        with refused("output_dir", str(folder)):
            options.make_folders()
        assert list(tmp_path.iterdir()) == []
    else:
        options.make_folders()
        options.release_folders()


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_cpu_predicts_in_bfloat16_if_it_has_that_and_never_trains_in_it(options_of, monkeypatch, has_bfloat16):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bfloat16})
    assert options_of(amp="auto", ckpt_dir="models").amp is False
    assert options_of(amp="false").amp is False
    assert options_of(amp="auto").amp is has_bfloat16


SSL = {"self_supervised": True}
CONVOLUTIONS = {"architecture": "segresnet"}


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


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("batch_size", 1, SSL),
        ("patch_size", [64, 96, 128], SSL),
        ("mask_edge", 64, {"patch_size": [64, 64, 32], **SSL}),
        ("batch_size", 4, {"crops_per_volume": 3}),
        ("batch_size", "two", {}),
        ("batchsize", 3, {}),
        ("recipe", "code", {}),
        ("patch_size", [96, 96, 72], {}),
        ("patch_size", [96, 96, 70], CONVOLUTIONS),
        ("model_size", "tiny", CONVOLUTIONS),
        ("activation_checkpointing", True, {"architecture": "transbts"}),
        ("modality_aliases", {"T1": "PD"}, {"pretrained": None}),
        ("modality_aliases", {"PD": "T1"}, {"pretrained": "a.pt"}),
        ("pretrained_lr_factor", 0.1, {"pretrained": None}),
        ("frozen_iterations", 5, {"pretrained": "a.pt", "architecture": "probe"}),
        ("patch_size", [96, 96, 72], {"architecture": "probe"}),
        ("modality_dropout", 0.5, {"modalities": ["T1"]}),
        ("missing_modalities", ["T2", "T1"], {}),
        ("missing_modalities", ["PD"], {}),
        ("background", "PD", {}),
        ("flips", [1, 0], {"label_convention": "stroke_left=1,stroke_right=2"}),
        ("best_metric", "contrastive", {"tasks": [{"_target_": "my.Rotation"}], "loss_weights": [1], **SSL}),
    ],
)
def test_options_that_do_not_fit_are_named(options_of, name, value, others):
    with pytest.raises(RuntimeError) as error:
        options_of(**{name: value}, **others)
    culprit = next(link for link in chain_of(error.value) if isinstance(link, ArgumentError))
    assert (culprit.what, culprit.value) == (name, value)


# Options and the checkpoint

TRAINED = {"patch_size": [64, 64, 64], "label_convention": "brats2021", "model_size": "tiny"}


@pytest.mark.parametrize("convention", ["brats2021", "brats2023", "TC=2,WT=1+2+5,ET=5"])
def test_options_agree_with_the_checkpoint_where_regions_have_the_same_names(convention):
    check_trained({"patch_size": [64, 64, 64], "label_convention": convention, "checkpoint": "model.pt"}, TRAINED)


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", [96, 96, 96]), ("label_convention", "atlas"), ("label_convention", "WT=2,TC=1,ET=4")],
)
def test_an_option_that_contradicts_the_checkpoint_is_named(name, value):
    with refused(name, value, f"model.pt was trained with {TRAINED[name]}"):
        check_trained({name: value, "checkpoint": "model.pt"}, TRAINED)


@pytest.mark.parametrize(
    "stated",
    [{"model_size": "huge"}, {"patch_size": [33, 64, 64]}, {"patch_size": [64, 64, 544]}, {"spacing": [0, 1, 1]}],
)
def test_settings_that_no_training_has_are_blamed_on_the_checkpoint(stated):
    ((name, value),) = stated.items()
    with refused("checkpoint model.pt: metadata", text=f"{name}={value}: expected "):
        check_stated(TRAINED | stated, "model.pt")
    check_stated(TRAINED, "model.pt")


def test_postprocessing_is_of_regions_of_the_convention_and_may_differ_from_the_checkpoints():
    stated = TRAINED | {"cleanup": "lesion=holes"}
    with refused(
        "checkpoint model.pt: metadata", text="cleanup=lesion=holes: no region lesion; expected some of TC, WT, ET"
    ):
        check_stated(stated, "model.pt")
    check_stated(TRAINED | {"cleanup": "WT=holes"}, "model.pt")
    check_stated({"label_convention": "stroke_left=1", "flips": [0]}, "model.pt")  # --flips can replace them
    for cleanup in (None, "WT=largest"):
        check_trained({"cleanup": cleanup, "checkpoint": "model.pt"}, TRAINED | {"cleanup": "WT=holes"})
