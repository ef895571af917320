"""The configs and options of `python -m scripts.run`; options reach MONAI as data."""

import fire
import pytest
from monai.bundle import ConfigParser

from scripts.configs import as_data
from scripts.run import argument, config_files, typed
from tests.support import ROOT, refused, run_of


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RANK", raising=False)


@pytest.mark.parametrize(
    ("words", "is_distributed", "files"),
    [
        (["train", "quickstart"], False, ["train", "quickstart"]),
        (["train"], True, ["train", "multi_gpu_train"]),
        (["inference"], True, ["inference"]),
        (["train", "quickstart", "--recipe=code"], True, ["train", "recipe_code", "quickstart", "multi_gpu_train"]),
    ],
)
def test_configs_are_named_by_words_and_torchrun_adds_its_overlay_to_a_training(
    words, is_distributed, files, monkeypatch
):
    if is_distributed:
        monkeypatch.setenv("RANK", "0")
    names = [f"bundles/brats_finetune/configs/{file}.yaml" for file in files]
    assert run_of(["brats_finetune", *words, "--num_workers=3"]) == (names, {"num_workers": 3})


def test_an_overlay_may_be_any_file(tmp_path):
    overlay = tmp_path / "my.yaml"
    overlay.write_text("seed: 1")
    assert config_files("brats_finetune", "train", [str(overlay)])[1:] == [str(overlay)]


@pytest.mark.parametrize("option", ["resize=[64,64,64]", "missing_modalities=[T2]", "without=crops", "lr=1e-3"])
def test_an_option_that_only_other_configs_have_is_refused(option):
    """The checkpoint would record it for predictions, though the training had not used it."""
    with refused(option.partition("=")[0], text="no such option"):
        run_of(["brats_finetune", "train", f"--{option}"])
    run_of(["brats_finetune", "train", "--recipe=robust", "--without=crops"])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loss::weight", "1,1,2", (1, 1, 2)),
        ("iterations", "600 epochs", "600 epochs"),
        ("loss_weights", "{'rotation': 0}", {"rotation": 0}),
        ("checkpoint", "['2026.pt','b.pt']", ["2026.pt", "b.pt"]),
    ],
)
def test_a_value_that_is_not_text_is_read_as_monais_command_reads_it(name, text, value):
    assert typed(name, text) == value == fire.Fire(lambda option: [option], command=[f"--option={text}"])[0]


TEXTS = ["2026_11_27", "1.10", "[a", "it's", "$print()", "@home", "%x::y", "a@::b", "/x $y #1", "\udce9", r"a\@b"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_monai_takes_text_as_typed(text):
    """In this process, and on the command line of `monai.bundle run`; also within lists and mappings."""
    values = {name: typed(name, text) for name in ("output_dir", "datalist", "checkpoint")}
    values["nested"] = {"T2": [text, "@x"], "T1": None}
    words = [argument(f"--{name}={value}") for name, value in values.items()]
    for changes in (as_data(values), fire.Fire(lambda **options: [options], command=words)[0]):
        parser = ConfigParser(changes)
        assert {name: parser.get_parsed_content(name) for name in values} == values
