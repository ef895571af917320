"""The configs and options of `python -m scripts.run`; tests/faults has the mistakes of whole command lines."""

import sys

import pytest
from monai.bundle import ConfigParser

from common.cli import log_unexpected
from common.configs import Change
from common.errors import InputError
from scripts.run import blaming, check_early, check_paths, read_command_line
from tests.support import BUNDLES, ROOT, execute, refused


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


def test_an_overlay_may_be_any_file_and_the_results_have_any_place():
    files, options = read_command_line(["brats_finetune", "train", "/data/my.yaml", "--bundle_root", "/data"])
    assert files[1:] == ["/data/my.yaml"]
    assert options == {"bundle_root": "/data"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "BUNDLE: missing; expected one of atlas_finetune, "),
        (["brats_finetune"], "CONFIG: missing; expected one of evaluate, inference, "),
        (["brats_finetune", "embed"], "unknown config 'embed'; expected one of evaluate, inference, "),
        (["brats_finetune", "train", "quickstrt"], "unknown overlay 'quickstrt'; did you mean quickstart?"),
        (["brats_finetune", "train", "--seed=3", "quickstart"], "argument quickstart: expected --OPTION=VALUE; "),
        (["brats_finetune", "train", "--config_file=a.yaml"], "--config_file=a.yaml: expected overlays as words"),
        (["brats_finetune", "train", "--device="], "--device: no value"),
        (["brats_finetune", "train", "--recipe=cod"], "recipe=cod: expected one of text, table, code, robust"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused(arguments, line):
    with refused(text=line):
        read_command_line(arguments)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("scripts.run b train --a=b", True), ("scripts.folds b train", False), ("scripts.run b evaluate train", False)],
)
def test_only_a_training_ends_with_its_status_after_an_early_signal(line, expected):
    module, *words = line.split()
    code = f"import sys; sys.orig_argv, sys.argv = ['python', '-m', '{module}', *{words}], ['-m', *{words}]"
    result = execute([sys.executable, "-c", f"{code}; import scripts; print(scripts.IS_TRAINING)"])
    assert result.stdout == f"{expected}\n", result.stderr


WRONG = {  # option -> part of the message
    "--iterations=many": "iterations=many: expected a whole number",
    "--batchsize=2": "no such option in bundles/brats_finetune/configs/train.yaml; did you mean --batch_size?",
    "--max_epochs=3": "did you mean --iterations='N epochs'?",
    "--patch_size=[65,64,64]": "expected three multiples of 32",
    "--warmup_iterations=60000": "warmup_iterations=60000: expected at most iterations=50000",
    "--pretrained_lr_factor=0.5": "needs --pretrained",
    "--datalist=none.json": "datalist none.json: No such file or directory",
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_refused_by_the_options_alone(option):
    with refused(text=WRONG[option]):
        check_early(*read_command_line(["brats_finetune", "train", option]))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--best_metric=nonsense"], "best_metric=nonsense: expected one of total, reconstruction, rotation, contrast"),
        (["masked", "--best_metric=rotation"], "best_metric=rotation: expected one of total, masked"),
        (["--loss_weights=[1,1]"], "loss_weights=[1.0, 1.0]: expected a weight for each of reconstruction, "),
        (["four_tasks", "--loss_weights={'mask': 0}"], "loss_weights={'mask': 0.0}: expected a weight for each of "),
    ],
)
def test_an_option_for_no_proxy_task_of_the_config_is_refused_by_the_options_alone(words, line):
    with refused(text=line):
        check_early(*read_command_line(["ukb_ssl_pretrain", "train", *words]))


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


@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_runs_is_not_refused(bundle):
    check_early(
        *read_command_line([bundle, "train", "quickstart", "--device=cuda:7", "--tracking=mlflow", "--+a::b=1"])
    )
    check_early(*read_command_line([bundle, "inference", "--checkpoint=[a.pt,b.pt]"]))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--dataset_dir=nowhere"], "dataset_dir=nowhere: no such folder"),
        (["--store=README.md"], "store=README.md: a file"),
        (["--pretrained=no.pt"], "pretrained=no.pt: no such file"),
        (["--checkpoint=[README.md,docs]"], "checkpoint=docs: a folder"),
    ],
)
def test_what_an_option_reads_must_exist(options, line):
    _, values = read_command_line(["brats_finetune", "train", "--pretrained=null", "--dataset_dir=docs", *options])
    with refused(text=line):
        check_paths(values)


def test_an_unexpected_failure_is_one_line_and_its_traceback_is_kept(tmp_path, capsys):
    error = RuntimeError(
        "Failed to instantiate component 'monai.losses.dice.DiceLoss' with keywords: sigmoit\nand more"
    )
    error.__cause__ = TypeError("DiceLoss.__init__() got an unexpected keyword argument 'sigmoit'")
    error.add_note("changed here: --loss::sigmoit=1")
    log = tmp_path / "eval/error.log"
    expected = "TypeError: DiceLoss.__init__() got an unexpected keyword argument 'sigmoit'"
    with pytest.raises(SystemExit, match="1"):
        log_unexpected(type(error), error, None, {"output_dir": log.parent})
    line = (
        f"error: monai.losses.dice.DiceLoss: {expected}; changed here: --loss::sigmoit=1; the traceback is in {log}\n"
    )
    assert capsys.readouterr().err == line
    assert f"\n{expected}\n" in f"\n{log.read_text()}"


@pytest.mark.parametrize(("key", "is_blamed"), [("train", True), ("run", False)])
def test_an_overlay_is_blamed_for_its_components_and_not_for_what_fails_while_its_steps_run(
    monkeypatch, key, is_blamed
):
    monkeypatch.setattr("scripts.run.place_in_user_code", lambda _: "")  # otherwise it is this module
    expected = r"^o\.yaml: " if is_blamed else "Failed to evaluate"
    ours = Change("loss", 1, "bundles/brats_finetune/configs/quickstart.yaml")
    changes = [Change(key, 0, "o.yaml"), Change("seed", 1), ours]
    with pytest.raises(InputError if is_blamed else RuntimeError, match=expected) as error, blaming(changes):
        ConfigParser({key: ["$[][0]"]}).get_parsed_content(key)
    assert is_blamed or error.value.__notes__ == [f"changed here: o.yaml: {key}=0"]


def test_a_scan_that_cannot_be_prepared_is_named_with_the_transforms_that_were_changed():
    expected = "no transform (a.nii.gz); changed here: --train::dataset::transform=null"
    with (
        refused(text=f"subject a: cannot be prepared: ValueError: {expected}"),
        blaming([Change("train::dataset::transform", "null")]),
    ):
        raise InputError("subject a: cannot be prepared: ValueError: no transform (a.nii.gz)")
