import subprocess
import sys

import pytest
import yaml
from torch.utils.data import DataLoader, Dataset

from common import preflight
from common.preflight import InputError, check_options, flag, options_of, reason
from tests.oracles.workers import failure_of

PROGRAM = "/site-packages/monai/bundle/__main__.py"
CONFIG = {"learning_rate": 0.1, "pretrained": None, "train": {"trainer": {"max_epochs": 3}, "handlers": [{"a": 1}]}}
OVERLAY = {"iterations": 8, "train::trainer::max_epochs": 2}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture
def overlay(tmp_path):
    path = tmp_path / "quickstart.yaml"
    path.write_text(yaml.safe_dump(OVERLAY))
    return path


# Options


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--learning_rate=1"],
        ["--learning_rate", "1"],
        ["--learning-rate=1"],
        ["--train::trainer::max_epochs", "9"],
        ["--train#trainer#max_epochs=9"],
        ["--pretrained=/data/a=b.pt"],
        ["--learning_rate", "-1"],
        ["--meta_file=None", "--logging_file", "x", "--run_id=run", "--init_id", "i"],
        ["--tracking", "mlflow"],
    ],
)
def test_options_that_a_config_has_pass(config, options):
    check_options([PROGRAM, "run", "--config_file", str(config), *options])
    check_options([PROGRAM, "run", f"--config_file={config}", *options])
    check_options([PROGRAM, "run", *options, "--config_file", str(config)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning_rat=1"], r"--learning_rat=1: no such option in .*train\.yaml; did you mean --learning_rate\?"),
        (["--learning_rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--learning-rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--pretrained", "a.pt", "--pretraind", "b.pt"], "--pretraind=b.pt: no such option"),
        (["--train::trainer::max_epoch=9"], "--train::trainer::max_epoch=9: no such option"),
        (["--train::trainr::max_epochs", "9"], "--train::trainr::max_epochs=9: no such option"),
        (["--train::handlers::1::a", "9"], "--train::handlers::1::a=9: no such option"),
        (["--zzz"], r"--zzz=: no such option .* expected one of learning_rate, pretrained, train"),
        (["--config_fil", "x"], r"did you mean --config_file\?"),
    ],
)
def test_options_that_no_config_has_are_refused(config, options, message):
    with pytest.raises(InputError, match=message) as error:
        check_options([PROGRAM, "run", "--config_file", str(config), *options])
    assert "\n" not in str(error.value)


def test_several_config_files_are_all_asked(config, overlay):
    files = f"['{config}','{overlay}']"
    check_options([PROGRAM, "run", "--config_file", files, "--iterations=3", "--learning_rate", "1"])
    check_options([PROGRAM, "run", f"--config_file={files}", "--iterations=3", "--train::trainer::max_epochs=1"])
    with pytest.raises(InputError, match=r"--iteration=3: no such option in .*quickstart.yaml; did you mean --iterat"):
        check_options([PROGRAM, "run", "--config_file", files, "--iteration=3"])
    with pytest.raises(InputError, match="--iterations=3: no such option"):
        check_options([PROGRAM, "run", "--config_file", str(config), "--iterations=3"])


def test_a_file_of_arguments_is_read(config, tmp_path):
    arguments = tmp_path / "args.yaml"
    arguments.write_text(yaml.safe_dump({"config_file": str(config), "learning_rate": 3}))
    check_options([PROGRAM, "run", "--args_file", str(arguments)])
    check_options([PROGRAM, "run", f"--args_file={arguments}", "--pretrained=a.pt"])
    with pytest.raises(InputError, match=r"--pretraind=a\.pt: no such option"):
        check_options([PROGRAM, "run", f"--args_file={arguments}", "--pretraind=a.pt"])
    arguments.write_text(yaml.safe_dump({"config_file": str(config), "learning_rat": 3}))
    with pytest.raises(InputError, match="--learning_rat=3: no such option"):
        check_options([PROGRAM, "run", "--args_file", str(arguments)])


@pytest.mark.parametrize(
    "argv",
    [
        ["pytest", "run", "--zzz=1"],
        [PROGRAM, "ckpt_export", "--zzz=1"],
        [PROGRAM],
        ["-c"],
    ],
)
def test_other_commands_are_left_alone(argv):
    check_options(argv)


@pytest.mark.parametrize(
    ("arguments", "positional", "options"),
    [
        (["a", "--b=c", "d"], ["a", "d"], {"b": "c"}),
        (["a", "--b", "c", "d"], ["a", "d"], {"b": "c"}),
        (["--b", "--c", "d"], [], {"b": "", "c": "d"}),
        (["--b-c=d-e=f"], [], {"b_c": "d-e=f"}),
        (["--b="], [], {"b": ""}),
        (["-5", "--b", "-5"], ["-5"], {"b": "-5"}),
        (["--b", "-", "-.5"], ["-.5"], {"b": "-"}),
        (["-x=3", "a"], ["a"], {"x": "3"}),
        (["-x", "3", "-yes"], [], {"x": "3", "yes": ""}),
        ([], [], {}),
    ],
)
def test_command_lines_are_split_as_python_fire_splits_them(arguments, positional, options):
    assert options_of(arguments) == (positional, options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("true", True), ("True", True), ("FALSE", False), ("false", False)],
)
def test_flags_count_as_they_read(value, expected):
    assert flag("resume", value) is expected


@pytest.mark.parametrize("value", ["yes", "", "1", 1, 0, None, "truee"])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(InputError, match=f"^--resume={value}: expected true or false$"):
        flag("resume", value)


# Reasons


def wrapped(error, times):
    """An exception as MONAI wraps it, once for every section of a config."""
    for number in range(times):
        try:
            raise RuntimeError(f"Failed to evaluate section {number}\nof many lines") from error
        except RuntimeError as outer:
            error = outer
    return error


@pytest.mark.parametrize("times", [0, 1, 4])
def test_the_reason_is_found_below_wrappers(times):
    assert reason(wrapped(InputError("modality T3: not in a.json"), times)) == "modality T3: not in a.json"
    assert reason(wrapped(ValueError("modality T3: not in a.json"), times)) is None


def test_the_reason_is_found_where_an_exception_followed_another():
    with pytest.raises(KeyError) as error:  # noqa: PT012, one is raised while the other is handled
        try:
            raise InputError("root /data: no such folder")
        except InputError:
            raise KeyError("dataset")  # noqa: B904, that is the case
    assert reason(error.value) == "root /data: no such folder"


def test_the_outermost_reason_counts():
    inner, outer = InputError("a.nii.gz: label 3"), InputError("subject a: a.nii.gz: label 3")
    outer.__cause__ = inner
    assert reason(wrapped(outer, 2)) == "subject a: a.nii.gz: label 3"


class Broken(Dataset):
    def __init__(self, error, wrapper=None):
        self.error, self.wrapper = error, wrapper

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.wrapper is None:
            raise self.error
        try:
            raise self.error
        except ValueError as error:
            raise self.wrapper from error


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Broken(InputError("a.nii.gz: label 3")), "a.nii.gz: label 3"),
        (Broken(InputError("a.nii.gz: label 3"), RuntimeError("applying transform X")), "a.nii.gz: label 3"),
        (Broken(InputError("a.nii.gz: label 3"), InputError("subject a: label 3")), "subject a: label 3"),
        (Broken(ValueError("a.nii.gz: label 3")), None),
        (Broken(ValueError("an InputError: or so")), None),
    ],
)
def test_the_reason_survives_a_worker(dataset, expected):
    error = failure_of(DataLoader(dataset, num_workers=1))
    assert "worker process" in str(error)
    assert reason(error) == expected
    assert reason(wrapped(error, 1)) == expected


# The end of a process


def test_bad_input_ends_a_process_with_one_line_and_status_2():
    code = """
from common.preflight import InputError, report_in_one_line
report_in_one_line()
try:
    raise InputError("spacing 9: expected 1 to 4")
except ValueError as error:
    raise RuntimeError("a section\\nof a config") from error
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "error: spacing 9: expected 1 to 4\n")


def test_other_exceptions_keep_their_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    preflight.report_in_one_line()
    error = ValueError("a mistake of ours")
    sys.excepthook(ValueError, error, None)
    assert capsys.readouterr().err == "ValueError: a mistake of ours\n"


def test_ctrl_c_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    preflight.report_in_one_line()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "interrupted\n"


def test_starting_checks_the_options_of_this_process(config, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", [PROGRAM, "run", "--config_file", str(config), "--learning_rat=1"])
    with pytest.raises(InputError, match="--learning_rat=1: no such option"):
        preflight.start()
    assert sys.excepthook is not sys.__excepthook__
