"""The configs and options of `python -m scripts.run`."""

import pytest

from scripts.run import config_files
from tests.support import ROOT, run_of


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RANK", raising=False)


@pytest.mark.parametrize(
    ("words", "is_distributed", "files"),
    [
        (["train", "quickstart"], False, ["train", "quickstart"]),
        (["train"], True, ["train", "multi_gpu_train"]),
        (["train", "multi_gpu_train"], True, ["train", "multi_gpu_train"]),
        (["inference"], True, ["inference"]),
        (["train", "quickstart", "--recipe=code"], True, ["train", "recipe_code", "quickstart", "multi_gpu_train"]),
        (["train", "--recipe", "table"], False, ["train", "recipe_table"]),
        (["train", "--recipe=text"], False, ["train"]),
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
