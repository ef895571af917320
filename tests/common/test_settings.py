"""What a user sets is checked before anything is read: `common.preflight.check_settings`."""

import pytest

from common.preflight import InputError, check_settings, chosen, optional

SETTINGS = {
    "network": "SSLHead",
    "modalities": ["T1", "FLAIR"],
    "patch_size": [96, 96, 96],
    "batch_size": 2,
    "learning_rate": 6e-6,
    "warmup_iterations": 500,
    "iterations": 15000,
    "val_interval": 500,
    "num_workers": 4,
    "cache_rate": 0.0,
    "overlap": 0.5,
    "seed": 0,
    "amp": False,
}


def test_the_defaults_pass(tmp_path):
    check_settings(SETTINGS, "cpu", [str(tmp_path / "new" / "folder")])
    assert (tmp_path / "new" / "folder").is_dir()


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("batch_size", "two", "--batch_size=two: expected a whole number from 1"),
        ("batch_size", 0, "--batch_size=0: expected a whole number from 1"),
        ("batch_size", 1.5, "--batch_size=1.5: expected a whole number from 1"),
        ("batch_size", True, "--batch_size=True: expected a whole number from 1"),
        ("batch_size", 1, "--batch_size=1: expected 2 at least"),
        ("learning_rate", "fast", "--learning_rate=fast: expected a number from 1e-12"),
        ("learning_rate", -1, "--learning_rate=-1: expected a number"),
        ("iterations", 0, "--iterations=0: expected a whole number from 1"),
        ("iterations", 100, "--iterations=100: expected a multiple of --val_interval=500"),
        ("val_interval", 0, "--val_interval=0: expected a whole number from 1"),
        ("warmup_iterations", -1, "--warmup_iterations=-1: expected a whole number from 0"),
        ("num_workers", -3, "--num_workers=-3: expected a whole number from 0"),
        ("cache_rate", 2, "--cache_rate=2: expected a number from 0 to 1"),
        ("cache_rate", float("nan"), "--cache_rate=nan: expected a number from 0 to 1"),
        ("overlap", 1, "--overlap=1: expected a number from 0 to 0.99"),
        ("seed", "abc", "--seed=abc: expected a whole number from 0"),
        ("patch_size", [50, 50, 50], "--patch_size=[50, 50, 50]: expected three multiples of 32 from 64 on"),
        ("patch_size", [32, 32, 32], "--patch_size=[32, 32, 32]: expected three multiples of 32 from 64 on"),
        ("patch_size", [64, 64], "--patch_size=[64, 64]: expected three multiples of 32 from 64 on"),
        ("patch_size", 96, "--patch_size=96: expected three multiples of 32 from 64 on"),
        ("patch_size", [64, 96, 64], "--patch_size=[64, 96, 64]: expected x and y equally long"),
        ("modalities", "T1", "--modalities=T1: expected a list"),
        ("modalities", [1, 2], "--modalities=[1, 2]: expected a list"),
        ("modalities", [], "--modalities=[]: expected a list"),
        ("seed", 100_000, "--seed=100000: expected a whole number from 0 to 99999"),
        ("save_interval", 0, "--save_interval=0: expected a whole number from 1"),
        ("compile", "maybe", "--compile=maybe: expected true or false"),
        ("gather_negatives", 2, "--gather_negatives=2: expected true or false"),
        ("warmup_iterations", 15001, "--warmup_iterations=15001: expected --iterations=15000 at most"),
        ("keep", 0, "--keep=0: expected a whole number from 1"),
        ("max_grad_norm", 0, "--max_grad_norm=0: expected a number from 1e-12"),
    ],
)
def test_a_value_that_cannot_be_is_named(name, value, line):
    with pytest.raises(InputError) as error:
        check_settings(SETTINGS | {name: value}, "cpu")
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_segmentation_network_takes_one_crop_of_unequal_edges():
    check_settings(SETTINGS | {"network": "SwinUNETR", "batch_size": 1, "patch_size": [64, 96, 128]}, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "mps", "meta", 3.5])
def test_a_device_that_is_not_there_is_named(device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=rf"--device={device}: "):
        check_settings(SETTINGS, device)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file/eval: .*expected a folder that can be written"):
        check_settings(SETTINGS, "cpu", [str(tmp_path / "file" / "eval")])


@pytest.mark.parametrize("word", [None, "null", "None"])
def test_gradients_may_go_without_a_limit(word):
    check_settings(SETTINGS | {"max_grad_norm": word}, "cpu")
    assert optional(word) is None
    assert optional(0) == 0


@pytest.mark.parametrize("folder", [5, "", None])
def test_a_folder_that_is_no_path_is_named(folder):
    with pytest.raises(InputError, match=r"^folder .* of --output_dir or --ckpt_dir: expected a path"):
        check_settings(SETTINGS, "cpu", [folder])


def test_a_word_stands_for_one_of_its_choices():
    assert chosen("recipe", "table", {"text": 1, "table": 2}) == 2
    with pytest.raises(InputError, match=r"^--recipe=\['text'\]: expected one of text, table$"):
        chosen("recipe", ["text"], {"text": 1, "table": 2})
    with pytest.raises(InputError, match=r"^--recipe=chart: expected one of text, table$"):
        chosen("recipe", "chart", {"text": 1, "table": 2})
