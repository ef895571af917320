import pytest
from monai.bundle import ConfigParser

from common.baselines import NETWORKS
from common.data.datalists import ALL, SPLITS
from common.data.regions import CONVENTIONS
from common.errors import ArgumentError, InputError, input_error_message
from common.metrics.protocols import CHALLENGES, PROTOCOLS
from common.options import OPTIONS, Options, check_trained, read
from common.ssl.networks import SIZES
from common.values import flag, optional


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("true", True), ("True", True), ("FALSE", False), ("false", False)],
)
def test_flags_count_as_they_read(value, expected):
    assert flag("resume", value) is expected


@pytest.mark.parametrize("value", ["yes", "", "1", 1, 0, None, "truee"])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(InputError, match=f"^resume={value}: expected true or false$"):
        flag("resume", value)


# Values


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", 2, 2),
        ("global_batch_size", "null", None),
        ("global_batch_size", None, None),
        ("max_grad_norm", "None", None),
        ("max_grad_norm", 1, 1),
        ("pretrained", "null", None),
        ("pretrained", "a.pt", "a.pt"),
        ("compile", "true", True),
        ("amp", "False", False),
        ("amp", "bf16", "bf16"),
        ("resume", "auto", "auto"),
        ("resume", "true", True),
        ("patch_size", (64, 96, 128), [64, 96, 128]),
        ("modalities", ("T1", "T1"), ["T1", "T1"]),
        ("modality_aliases", {"T2": "FLAIR"}, {"T2": "FLAIR"}),
        ("modality_aliases", "{'T2': 'FLAIR', 'T1ce': 'T1'}", {"T2": "FLAIR", "T1ce": "T1"}),
        ("modality_aliases", "null", None),
        ("checkpoint", ["a.pt", "b.pt"], ["a.pt", "b.pt"]),
        ("flips", [0, 2], [0, 2]),
        ("cohort", 7, "7"),
        ("learning_rate", 1e-6, 1e-6),
    ],
)
def test_a_value_gets_its_own_type(name, value, expected):
    converted = OPTIONS[name](value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("batch_size", "two", "batch_size=two: expected a whole number from 1"),
        ("batch_size", 0, "batch_size=0: expected a whole number from 1"),
        ("batch_size", 1.5, "batch_size=1.5: expected a whole number from 1"),
        ("batch_size", True, "batch_size=True: expected a whole number from 1"),
        ("batch_size", None, "batch_size=None: expected a whole number from 1"),
        ("global_batch_size", 0, "global_batch_size=0: expected a whole number from 1"),
        ("crops_per_volume", 0, "crops_per_volume=0: expected a whole number from 1"),
        ("crops_per_volume", 1.5, "crops_per_volume=1.5: expected a whole number from 1"),
        ("learning_rate", "fast", "learning_rate=fast: expected a number from 1e-12"),
        ("learning_rate", -1, "learning_rate=-1: expected a number"),
        *(
            (name, value, f"{name}={value}: expected a whole number of iterations from 1, or text such as 5 epochs")
            for name in ("iterations", "val_interval")
            for value in (
                0,
                1.5,
                True,
                None,
                "5",
                "epochs",
                "0 epochs",
                "0.0 epochs",
                "-1 epochs",
                "5 epoch 5",
                ". epochs",
                "٥ epochs",
            )
        ),
        ("warmup_iterations", -1, "warmup_iterations=-1: expected a whole number of iterations from 0"),
        ("num_workers", -3, "num_workers=-3: expected a whole number from 0"),
        ("cache_rate", 2, "cache_rate=2: expected a number from 0 to 1"),
        ("cache_rate", float("nan"), "cache_rate=nan: expected a number from 0 to 1"),
        ("overlap", 1, "overlap=1: expected a number from 0 to 0.99"),
        ("seed", "abc", "seed=abc: expected a whole number from 0"),
        ("seed", 100_000, "seed=100000: expected a whole number from 0 to 99999"),
        (
            "patch_size",
            [32, 32, 32],
            "patch_size=[32, 32, 32]: expected three whole numbers, 32 or more, one of them at least 64",
        ),
        (
            "patch_size",
            [64, 64],
            "patch_size=[64, 64]: expected three whole numbers, 32 or more, one of them at least 64",
        ),
        ("patch_size", 96, "patch_size=96: expected three whole numbers, 32 or more, one of them at least 64"),
        ("modalities", "T1", "modalities=T1: expected a list"),
        ("modalities", [1, 2], "modalities=[1, 2]: expected a list"),
        ("modalities", [], "modalities=[]: expected a list"),
        ("save_interval", 0, "save_interval=0: expected a whole number from 1"),
        ("compile", "maybe", "compile=maybe: expected true or false"),
        ("gather_negatives", 2, "gather_negatives=2: expected true or false"),
        ("amp", "half", "amp=half: expected true, false, bf16 or fp16"),
        ("resume", "perhaps", "resume=perhaps: expected true, false or auto"),
        ("keep", 0, "keep=0: expected a whole number from 1"),
        ("max_grad_norm", 0, "max_grad_norm=0: expected a number from 1e-12"),
        ("flips", [3], "flips=[3]: expected a list of the axes 0, 1, 2"),
        ("flips", [0, 0], "flips=[0, 0]: expected a list of the axes 0, 1, 2"),
        ("flips", 0, "flips=0: expected a list of the axes 0, 1, 2"),
        ("head_tokens", "first", "head_tokens=first: expected one of corner, mean"),
        *(
            ("loss_weights", value, f"loss_weights={value}: expected three numbers from 0 to 1000, not all 0")
            for value in (1, [1, 1], [0, 0, 0], [1, -1, 1], [1, True, 1], ["1", 1, 1], [1, float("nan"), 1])
        ),
        ("new_channel_init", "fan", "new_channel_init=fan: expected one of fan_out, fan_in"),
        ("modality_aliases", "T2=FLAIR", "modality_aliases=T2=FLAIR: expected names by names, such as"),
        ("modality_aliases", "{T2", "modality_aliases={T2: expected names by names, such as"),
        ("modality_aliases", {}, "modality_aliases={}: expected names by names, such as"),
        ("modality_aliases", ["T2", "FLAIR"], "modality_aliases=['T2', 'FLAIR']: expected names by names, such as"),
        ("modality_aliases", {"T2": 1}, "modality_aliases={'T2': 1}: expected names by names, such as"),
        ("modality_aliases", {"T2": ["FLAIR"]}, "modality_aliases={'T2': ['FLAIR']}: expected names by names, such as"),
        ("modality_aliases", {"T2": ""}, "modality_aliases={'T2': ''}: expected names by names, such as"),
        ("modality_aliases", 5, "modality_aliases=5: expected names by names, such as"),
        ("pretrained", 5, "pretrained=5: expected a path"),
        ("output_dir", "", "output_dir=: expected a path"),
        ("model_size", 5, "model_size=5: expected one of tiny, small, base, micro"),
        ("split", "test", "split=test: expected one of training, validation, testing, unlabelled, all"),
    ],
)
def test_a_value_that_cannot_be_is_named(name, value, line):
    with pytest.raises(ArgumentError) as error:
        OPTIONS[name](value)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "mps", "meta", 3.5])
@pytest.mark.parametrize("name", ["device", "stitch_device"])
def test_a_device_that_is_not_there_is_named(name, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ArgumentError, match=rf"^{name}={device}: "):
        OPTIONS[name](device)
    assert OPTIONS[name]("cpu") == "cpu"


def test_null_is_for_options_that_may_be_missing():
    assert optional("null") is optional("None") is optional(None) is None
    assert optional(0) == 0


def test_words_are_those_that_the_code_knows():
    def words(name):
        return set(OPTIONS[name].kind.values.split(", "))

    own = "or regions such as core=1+3,whole=1+2+3"
    assert words("label_convention") == words("output_convention") == {*CONVENTIONS, own}
    assert words("model_size") == set(SIZES)
    assert words("architecture") == set(NETWORKS)
    assert words("protocol") == set(PROTOCOLS)
    assert words("challenge") == set(CHALLENGES)
    assert words("split") == {*SPLITS, ALL}


def test_every_option_says_what_it_accepts_and_means():
    for option in OPTIONS.values():
        assert option.values
        assert option.meaning
        assert not option.meaning.endswith(".")
        assert len(option.meaning) < 90


# A config's options

CONFIG_OF_A_RUN = {
    "imports": ["$import common"],
    "output_dir": "$@place + '/eval'",
    "place": "",
    "modalities": ["T1"],
    "patch_size": [96, 96, 96],
    "batch_size": 2,
    "iterations": 1000,
    "val_interval": 500,
    "warmup_iterations": 500,
    "compile": False,
    "resume": False,
    "device": "cpu",
    "not_an_option": 3,
    "options": {"_target_": "common.options.read", "self_supervised": "@not_an_option"},
}


@pytest.fixture
def options_of_config(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setattr("sys.excepthook", None)

    def options(self_supervised=True, **changed):
        content = CONFIG_OF_A_RUN | {"place": str(tmp_path), "not_an_option": self_supervised} | changed
        return ConfigParser(content).get_parsed_content("options")

    return options


def test_a_config_reads_its_own_options(options_of_config, tmp_path):
    options = options_of_config(compile="true")
    assert isinstance(options, Options)
    assert options.output_dir == f"{tmp_path}/eval"
    assert not (tmp_path / "eval").exists()
    options.make_folders()
    assert (tmp_path / "eval").is_dir()
    assert options.compile is True
    assert not hasattr(options, "not_an_option")
    kept = {"modalities", "patch_size", "batch_size", "warmup_iterations", "compile"}
    kept |= {"iterations", "val_interval"}
    assert options.record(bundle="a").keys() == kept | {"bundle"}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"batch_size": 1}, "batch_size=1: expected at least 2"),
        ({"batch_size": 4, "crops_per_volume": 3}, "batch_size=4: expected a multiple of crops_per_volume=3"),
        ({"batch_size": 2, "crops_per_volume": 4}, "batch_size=2: expected a multiple of crops_per_volume=4"),
        ({"patch_size": [64, 96, 64]}, "patch_size=[64, 96, 64]: expected equal x and y"),
        ({"batch_size": "two"}, "batch_size=two: expected a whole number from 1"),
    ],
)
def test_options_that_do_not_fit_are_named(options_of_config, changed, line):
    with pytest.raises(RuntimeError) as error:
        options_of_config(**changed)
    assert input_error_message(error.value).startswith(f"--{line}")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"pretrained": None}, "modality_aliases={'T1': 'T2'}: expected pretrained, the checkpoint with these filters"),
        ({"pretrained": "a.pt", "modalities": ["T2", "PD"]}, "modality_aliases={'T1': 'T2'}: T1 is not in modalities"),
    ],
)
def test_aliases_that_do_not_fit_are_named(options_of_config, changed, line):
    with pytest.raises(RuntimeError) as error:
        options_of_config(modality_aliases={"T1": "T2"}, **changed)
    assert input_error_message(error.value).startswith(f"--{line}")
    assert options_of_config(modality_aliases={"T1": "T2"}, pretrained="a.pt").modality_aliases == {"T1": "T2"}
    assert options_of_config(modality_aliases="null", pretrained=None).modality_aliases is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"patch_size": [96, 96, 72]},
            "patch_size=[96, 96, 72]: expected three multiples of 32, one of them at least 64",
        ),
        (
            {"patch_size": [96, 96, 72], "architecture": "swin_unetr_v2"},
            "patch_size=[96, 96, 72]: expected three multiples of 32, one of them at least 64",
        ),
        (
            {"patch_size": [96, 96, 70], "architecture": "segresnet"},
            "patch_size=[96, 96, 70]: expected three multiples of 8, one of them at least 64",
        ),
        (
            {"patch_size": [96, 100, 64], "architecture": "transbts"},
            "patch_size=[96, 100, 64]: expected three multiples of 8, one of them at least 64",
        ),
        (
            {"model_size": "tiny", "architecture": "segresnet"},
            "model_size=tiny: expected one of small, micro with architecture=segresnet",
        ),
        (
            {"activation_checkpointing": True, "architecture": "transbts"},
            "activation_checkpointing=true: expected false with architecture=transbts",
        ),
        ({"architecture": "unet"}, "architecture=unet: expected one of swin_unetr, swin_unetr_v2, segresnet, transbts"),
    ],
)
def test_a_network_that_an_architecture_lacks_is_named(options_of_config, given, line):
    with pytest.raises(RuntimeError) as error:
        options_of_config(self_supervised=False, **given)
    assert input_error_message(error.value).startswith(f"--{line}")


@pytest.mark.parametrize("architecture", ["segresnet", "transbts"])
def test_multiples_of_8_are_enough_for_convolutions(options_of_config, architecture):
    options = options_of_config(self_supervised=False, patch_size=[224, 224, 144], architecture=architecture)
    assert options.patch_size == [224, 224, 144]
    assert options.record()["architecture"] == architecture


def test_a_segmentation_network_takes_one_crop_of_unequal_edges(options_of_config):
    assert options_of_config(self_supervised=False, batch_size=1, patch_size=[64, 96, 128]).batch_size == 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"modality_dropout": 1.5}, "modality_dropout=1.5: expected a number from 0 to 1"),
        ({"modality_dropout": 0.5, "modalities": ["T1"]}, "modality_dropout=0.5: expected 0, as there is one modality"),
        (
            {"missing_modalities": ["PD"], "modalities": ["T1", "T2"]},
            "missing_modalities=['PD']: PD is not in modalities; expected some of T1, T2",
        ),
        (
            {"missing_modalities": ["T2", "T1"], "modalities": ["T1", "T2"]},
            "missing_modalities=['T2', 'T1']: none is left; expected some of T1, T2, but not all",
        ),
        ({"missing_modalities": "T1"}, "missing_modalities=T1: expected a list such as"),
    ],
)
def test_missing_modalities_that_cannot_be_are_named(options_of_config, given, line):
    with pytest.raises(RuntimeError) as error:
        options_of_config(self_supervised=False, **given)
    assert input_error_message(error.value).startswith(f"--{line}")


def test_no_modality_may_be_missing(options_of_config):
    given = {"modalities": ["T1"], "missing_modalities": [], "modality_dropout": 0.0}
    options = options_of_config(self_supervised=False, **given)
    assert (options.missing_modalities, options.modality_dropout) == ([], 0.0)


def test_options_are_read_in_a_config_only():
    with pytest.raises(RuntimeError, match="outside of a config"):
        read()


# Options and the checkpoint

TRAINED = {"patch_size": [64, 64, 64], "label_convention": "brats2021", "model_size": "tiny"}


@pytest.mark.parametrize("convention", ["brats2021", "brats2023", "TC=2,WT=1+2+5,ET=5"])
def test_options_agree_with_the_checkpoint_where_regions_have_the_same_names(convention):
    check_trained({"patch_size": [64, 64, 64], "label_convention": convention, "checkpoint": "model.pt"}, TRAINED)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"patch_size": [96, 96, 96]}, "patch_size=[96, 96, 96]: model.pt was trained with [64, 64, 64]; leave the"),
        ({"model_size": "base"}, "model_size=base: model.pt was trained with tiny; leave the option out"),
        (
            {"label_convention": "atlas"},
            "label_convention=atlas: model.pt was trained with brats2021; expected the same",
        ),
        (
            {"label_convention": "WT=2,TC=1,ET=4"},
            "label_convention=WT=2,TC=1,ET=4: model.pt was trained with brats2021",
        ),
    ],
)
def test_an_option_that_contradicts_the_checkpoint_is_named(given, line):
    with pytest.raises(ArgumentError) as error:
        check_trained(given | {"checkpoint": "model.pt"}, TRAINED)
    assert str(error.value).startswith(line)
