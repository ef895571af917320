"""The configs and options of `python -m scripts.run`."""

import sys

import pytest

from scripts.run import check_early, read_command_line
from tests.support import ROOT, execute


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
def test_configs_are_named_by_words_and_torchrun_adds_its_overlay_to_a_training(words, is_distributed, files):
    names = [f"bundles/brats_finetune/configs/{file}.yaml" for file in files]
    expected = names, {"bundle_root": "bundles/brats_finetune", "seed": 3}
    assert read_command_line(["brats_finetune", *words, "--seed=3"], is_distributed) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [("scripts.run b train --a=b", True), ("scripts.folds b train", False), ("scripts.run b evaluate train", False)],
)
def test_only_a_training_ends_with_its_status_after_an_early_signal(line, expected):
    module, *words = line.split()
    code = f"import sys; sys.orig_argv, sys.argv = ['python', '-m', '{module}', *{words}], ['-m', *{words}]"
    result = execute([sys.executable, "-c", f"{code}; import scripts; print(scripts.IS_TRAINING)"])
    assert result.stdout == f"{expected}\n", result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["masked", "--best_metric=masked"],
        ["--loss_weights={'rotation': 0}"],
        ["--tasks::2::_disabled_=true", "--loss_weights=[1,1]"],  # MONAI merges these parts later
        ["--+tasks=[{'_target_':'common.ssl.Masked'}]", "--best_metric=masked", "--loss_weights=[1,1,1,1]"],
    ],
)
def test_options_for_the_proxy_tasks_of_the_config_pass(words):
    check_early(*read_command_line(["ukb_ssl_pretrain", "train", *words]))
