"""The jobs of a cross-validation, and errors before it starts."""

from pathlib import Path

import pytest
import torch

from common.errors import InputError
from tests.support import ROOT, one_line


def test_the_jobs_are_the_commands_of_a_user(prepare, own, capsys):
    setup = prepare(model_size="tiny", iterations="2 epochs", val_interval="1 epochs", warmup_iterations="0")
    assert capsys.readouterr().out.endswith("subjects in testing, left out of all folds: 1, such as p8\n")
    out, names = own.parent / "out", ["", "/evaluation"]
    assert list(setup.study.jobs) == [
        *("datalist/fold0", "datalist/fold1"),
        *(f"brats_finetune/fold{fold}{name}" for fold in (0, 1) for name in names),
        "brats_finetune/pooled",
    ]
    assert setup.training(1).command.folder == ROOT / "bundles/brats_finetune"
    assert setup.training(1).command.options == {
        "config_file": "configs/train.yaml",
        "dataset_dir": f"{own.parent}/data",
        "datalist": f"{out}/datalists/datalist-fold1.json",
        "output_dir": f"{out}/runs/brats_finetune/fold1/eval",
        "ckpt_dir": f"{out}/runs/brats_finetune/fold1/models",
        "resume": "auto",
        "modalities": "['T1','FLAIR']",
        "model_size": "tiny",
        "iterations": "2 epochs",
        "val_interval": "1 epochs",
        "warmup_iterations": "0",
    }
    fold_options = setup.study.jobs["datalist/fold1"].command.options
    assert (
        fold_options.items()
        >= {"folds": "2", "fold": "1", "fold_to": "testing", "validation": "1", "seed": "0"}.items()
    )
    assert setup.study.jobs["brats_finetune/pooled"].needs == (
        "brats_finetune/fold0/evaluation",
        "brats_finetune/fold1/evaluation",
    )
    assert not out.exists()


def test_who_is_a_person_is_said_to_the_dealing(prepare):
    fold_options = prepare(person="(p[0-9])").study.jobs["datalist/fold0"].command.options
    assert fold_options["person"] == "(p[0-9])"
    with pytest.raises(InputError, match=r"--person=.b.: does not match the subject p0"):
        prepare(person="(b)")


def test_options_go_where_they_belong(prepare):
    at_evaluation = {"protocol": "dice", "overlap": "0.2"}
    setup = prepare(learning_rate="1e-3", model_size="tiny", window_weighting="constant", **at_evaluation)
    training, evaluation = setup.training(0).command.options, setup.evaluation(0).command.options
    assert training.items() >= {"learning_rate": "1e-3", "model_size": "tiny", "window_weighting": "constant"}.items()
    assert not at_evaluation.keys() & training.keys()
    of_both = {"model_size": "tiny", "window_weighting": "constant", "modalities": "['T1','FLAIR']"}
    assert evaluation.items() >= (of_both | at_evaluation | {"split": "testing"}).items()
    assert "learning_rate" not in evaluation


def test_weights_can_be_those_of_each_fold(prepare, own, monkeypatch):
    monkeypatch.chdir(own.parent)
    for fold in (0, 1):
        torch.save({"weight": torch.zeros(1)}, f"w{fold}.pt")
    setup = prepare(pretrained="w{fold}.pt", seed="{fold}", store="s")
    options = {"pretrained": f"{own.parent}/w1.pt", "store": f"{own.parent}/s", "seed": "1"}
    assert setup.training(1).command.options.items() >= options.items()
    assert own.parent / "w1.pt" in setup.training(1).inputs
    Path("w1.pt").unlink()
    with pytest.raises(InputError) as error:
        prepare(pretrained="w{fold}.pt")
    assert one_line(error) == f"pretrained=w{{fold}}.pt: no file {own.parent}/w1.pt; expected a checkpoint"
