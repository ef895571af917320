"""What a cross-validation runs, and what is refused before anything starts."""

import json
from pathlib import Path

import pytest

from common.errors import InputError, input_error_message
from scripts.folds.setup import check_output
from tests.support import ROOT, one_line


def options_of(job):
    return dict(word.removeprefix("--").split("=", 1) for word in job.commands[0].words if word.startswith("--"))


def test_the_jobs_are_the_commands_of_a_user(prepare, own, capsys):
    setup = prepare(model_size="tiny", iterations="2 epochs", val_interval="1 epochs", warmup_iterations="0")
    assert capsys.readouterr().out == "left out of all folds: 1 subjects in testing, such as p8\n"
    out, names = own.parent / "out", ["", "/evaluation"]
    assert list(setup.jobs) == [
        *("datalist/fold0", "datalist/fold1"),
        *(f"brats_finetune/fold{fold}{name}" for fold in (0, 1) for name in names),
        "brats_finetune/pooled",
    ]
    assert setup.training(1).commands[0].folder == ROOT / "bundles/brats_finetune"
    assert options_of(setup.training(1)) == {
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
    dealing = options_of(setup.jobs["datalist/fold1"])
    assert dealing.items() >= {"folds": "2", "fold": "1", "fold_to": "testing", "validation": "1", "seed": "0"}.items()
    assert setup.pooled.needs == ("brats_finetune/fold0/evaluation", "brats_finetune/fold1/evaluation")
    assert not out.exists()


def test_options_go_where_they_belong(prepare):
    at_evaluation = {"protocol": "dice", "overlap": "0.2"}
    setup = prepare(learning_rate="1e-3", model_size="tiny", window_weighting="constant", **at_evaluation)
    training, evaluation = options_of(setup.training(0)), options_of(setup.evaluation(0))
    assert training.items() >= {"learning_rate": "1e-3", "model_size": "tiny", "window_weighting": "constant"}.items()
    assert not at_evaluation.keys() & training.keys()
    of_both = {"model_size": "tiny", "window_weighting": "constant", "modalities": "['T1','FLAIR']"}
    assert evaluation.items() >= (of_both | at_evaluation | {"split": "testing"}).items()
    assert "learning_rate" not in evaluation


def test_weights_can_be_those_of_each_fold(prepare, own, monkeypatch):
    monkeypatch.chdir(own.parent)
    for fold in (0, 1):
        Path(f"w{fold}.pt").touch()
    setup = prepare(pretrained="w{fold}.pt", seed="{fold}")
    assert options_of(setup.training(1)).items() >= {"pretrained": f"{own.parent}/w1.pt", "seed": "1"}.items()
    assert own.parent / "w1.pt" in setup.training(1).inputs
    Path("w1.pt").unlink()
    with pytest.raises(InputError) as error:
        prepare(pretrained="w{fold}.pt")
    assert one_line(error) == f"pretrained=w{{fold}}.pt: no file {own.parent}/w1.pt; expected a checkpoint"
    assert "pretrained" in options_of(prepare(pretrained="null").training(0))


def test_the_folds_of_a_file_may_have_any_numbers(prepare, own, capsys):
    images = [{"fold": 3 + number % 2, "image": f"x/p{number}/t1.nii"} for number in range(7)]
    (own.parent / "folds.json").write_text(json.dumps({"training": images}))
    setup = prepare(folds=str(own.parent / "folds.json"), fold_to="validation", validation=None)
    assert setup.numbers == [3, 4]
    assert options_of(setup.jobs["datalist/fold4"])["folds"] == f"{own.parent}/folds.json"
    assert options_of(setup.evaluation(4))["split"] == "validation"
    assert capsys.readouterr().out.count("in no fold: 1 subjects, such as p7") == 1


def test_overlays_and_gpus_are_those_of_a_study(prepare):
    setup = prepare(overlays=["quickstart.yaml"], gpus=2, model_size="micro_tiny")
    words = setup.training(0).commands[0].words
    assert "--nproc_per_node=2" in words
    assert "--config_file=['configs/train.yaml','configs/quickstart.yaml','configs/multi_gpu_train.yaml']" in words
    evaluation = options_of(setup.evaluation(0))
    assert evaluation["model_size"] == "micro_tiny"
    assert "patch_size" not in evaluation  # of the overlay: the checkpoint has it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "ukb_ssl_pretrain"}, "--bundle=ukb_ssl_pretrain: expected one of atlas_finetune, brats_finetune"),
        ({"datalist": "/no/such.json"}, "datalist /no/such.json: No such file or directory; expected a JSON file"),
        ({"dataset_dir": "/no/such"}, "root /no/such: no such folder; expected the one where the paths of"),
        ({"output": f"{__file__}/x"}, f"--output={__file__}/x: "),
        ({"folds": 1}, "--folds=1: expected a whole number from 2"),
        ({"folds": 9}, "--folds=9: expected no more than the 8 people with labels"),
        ({"folds": "no.json"}, "--folds=no.json: No such file or directory; expected a JSON file, or a number"),
        ({"fold_to": "validation"}, "--validation=1: expected none together with --folds and --fold_to=validation"),
        ({"validation": 0}, "--validation=0: 0 of 4 people, who choose the checkpoint; expected 1 at least"),
        ({"validation": 4}, "nobody is left for training"),
        ({"overlays": ["../configs/train.yaml"]}, "--overlays=../configs/train.yaml: brats_finetune has no such"),
        ({"ckpt_dir": "/x"}, "--ckpt_dir=/x: set for each fold by this command; expected none"),
        ({"model_sise": "tiny"}, "--model_sise=tiny: no such option in "),
        ({"model_size": "huge"}, "--model_size=huge: expected one of tiny, small"),
        ({"iterations": "3", "val_interval": "2"}, "iterations=3: expected a multiple of val_interval=2"),
        ({"protocol": "dice", "challenge": "MET"}, "challenge"),
        ({"modalities": "['T1','T2']"}, "modality T2: not in "),
        ({"label_convention": "brats2021"}, "--label_convention=brats2021: the labels of "),
        ({"seed": "{flod}"}, "no flod; expected one of fold"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_written(prepare, own, changes, message):
    with pytest.raises((InputError, RuntimeError)) as error:  # MONAI's, whose cause is reported
        prepare(**changes)
    told = input_error_message(error.value)
    assert message in told
    assert "\n" not in told
    assert not (own.parent / "out").exists()


def test_subjects_without_label_and_files_that_are_missing_are_named(prepare, own):
    (own.parent / "data/p7_seg.nii").unlink()
    with pytest.raises(InputError, match=r"p7_seg\.nii: no such file, of subject p7"):
        prepare()
    content = json.loads(own.read_text())
    del content["validation"][0]["label"]
    own.write_text(json.dumps(content))
    with pytest.raises(InputError, match="subject p6 of validation has no label; expected one"):
        prepare()


def test_held_out_subjects_may_lack_what_training_subjects_lack(prepare, own):
    """Otherwise the evaluation would refuse them, hours later."""
    content = json.loads(own.read_text())
    content["training"][0]["image"][1] = None  # the only one without FLAIR: held out in one of the two folds
    own.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"^modality_dropout=0: fold \d trains on no subject without FLAIR, which p0, "
    ):
        prepare()
    prepare(modality_dropout="0.3")
    prepare(modalities="['T1']")
    for entry in content["training"][:5]:
        entry["image"][1] = None  # in both folds, some subject without FLAIR is trained on
    own.write_text(json.dumps(content))
    prepare()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": ""}, "holds notes.txt; expected a new folder, or one of an earlier run"),
        ({"folds.json": '{"bundle": "b", "folds": 5}'}, "holds a run with folds=5; expected folds=2"),
        ({"folds.json": '{"bundle": "x", "folds": 2}'}, "holds a run with bundle=x; expected bundle=b"),
        ({"folds.json": "[]"}, "holds a run with bundle=None; expected bundle=b"),
        ({"folds.json": "{"}, "folds.json: not JSON"),
    ],
)
def test_an_output_folder_of_something_else_is_refused(tmp_path, files, message):
    identity = {"bundle": "b", "folds": 2}
    check_output(tmp_path / "new", identity)
    check_output(tmp_path, identity)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        check_output(tmp_path, identity)
    assert message in one_line(error)
    (tmp_path / "folds.json").write_text(json.dumps(identity | {"cases": 3}))
    check_output(tmp_path, identity)
