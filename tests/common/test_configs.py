"""The check of a run's configs, and the change that is to blame for a component that cannot be built."""

import re

import fire
import pytest
import yaml
from monai.bundle import ConfigParser

from common import configs
from common.configs import blame, check, check_command_line, check_known, parsed
from common.errors import InputError
from tests.support import one_line

PROGRAM = "/site-packages/monai/bundle/__main__.py"
CONFIG = {
    "imports": ["$import torch"],
    "learning_rate": 0.1,
    "pretrained": None,
    "edges": [64, 64],
    "network": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    "loss": {"_target_": "DiceLoss", "sigmoid": True},
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": "@learning_rate"},
    "train": {"trainer": {"max_epochs": 3}, "handlers": [{"a": 1}]},
    "run": ["$@train::trainer"],
}


@pytest.fixture
def write(tmp_path):
    """Writes a file beside the config; returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def config(write):
    return write("train.yaml", CONFIG)


@pytest.fixture
def installed(monkeypatch):
    """Says whether a module is there."""
    return lambda is_there: monkeypatch.setattr(configs, "find_spec", lambda name: is_there or None)


def refusal(files, *options):
    with pytest.raises(InputError) as error:
        check_command_line([PROGRAM, "run", f"--config_file={[str(file) for file in files]}", *options])
    return one_line(error)


# Options


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--learning_rate=1"],
        ["--learning-rate", "-1"],
        ["--train::trainer::max_epochs", "9"],
        ["--train#trainer#max_epochs=9"],
        ["--pretrained=/data/a=b.pt"],
        ["--meta_file=None", "--run_id=run", "--init_id", "run"],
        ["run"],
        ["--tracking", "mlflow", "--experiment_name=a"],
        ["--optimizer::momentum=0.9"],
        ["--optimizer::lr=@train::trainer::max_epochs"],
        ["--optimizer=@loss"],
        ["--loss={'_target_': 'DiceCELoss'}"],
        ["--learning_rate=$1 / 3"],
    ],
)
def test_what_a_config_has_passes(config, options, installed):
    installed(True)
    check_command_line([PROGRAM, "run", *options, "--config_file", str(config)])
    check_command_line([PROGRAM, "run", *options, f"--config_file={config}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # keys
        (["--learning_rat=1"], r"--learning_rat=1: no such option in .*train\.yaml; did you mean --learning_rate\?"),
        (["--learning-rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--pretrained", "a.pt", "--pretraind", "b.pt"], "--pretraind=b.pt: no such option"),
        (["--train::trainer::max_epoch=9"], r".*no such option .* did you mean --train::trainer::max_epochs\?"),
        (["--train::trainr::max_epochs", "9"], r".*no such option .* did you mean --train::trainer\?"),
        (["--train::foo=1"], "--train::foo=1: no such option .* expected one of trainer, handlers$"),
        (["--trane::foo=1"], r"--trane::foo=1: no such option .* did you mean --train\?"),
        (["--train::handlers::1::a", "9"], ".*no such option in .*; train::handlers has 1 items"),
        (["--learning_rate::a=9"], ".*no such option in .*; learning_rate has no keys"),
        (["--zzz"], r"--zzz=: no such option .* expected one of learning_rate, pretrained, edges$"),
        (["--config_fil", "x"], r".*did you mean --config_file\?"),
        (["--experiment_name=a"], "--experiment_name=a: no such option"),
        (["--epochs=3"], r"--epochs=3: no such option; did you mean --iterations='3 epochs'\?"),
        (["--learning_rate=None"], "--learning_rate=None: MONAI ignores None; write null"),
        (["--meta_file=/nowhere.json"], "--meta_file=/nowhere.json: no such file"),
        (["--logging_file=/nowhere.conf"], "--logging_file=/nowhere.conf: no such file"),
        (["training"], "--run_id=training: no such key in .*train.yaml; expected run"),
        # values
        (["--learning_rate=@nope"], "--learning_rate=@nope: no @nope in"),
        (["--learning_rate=@pretraind"], r"--learning_rate=@pretraind: no @pretraind in .* did you mean @pretrained\?"),
        (["--learning_rate=%nope"], "--learning_rate=%nope: no nope in"),
        (["--learning_rate=%/nope.yaml::a"], "--learning_rate=%/nope.yaml::a: no such file"),
        (["--learning_rate=$1 /"], r"--learning_rate=\$1 /: not a Python expression: invalid syntax"),
        (["--loss=null"], r"--loss=null: expected a component, such as \{'_target_': 'DiceLoss', ...\}"),
        (["--optimizer=SGD"], r"--optimizer=SGD: expected a component, such as \{'_target_': 'torch.optim.SGD', ...\}"),
        (["--loss::_target_=DiceLos"], r".*=DiceLos: no class or function DiceLos; did you mean DiceLoss\?"),
        (["--loss::_target_=torch.nn.L1Los"], r".*: no class or function torch.nn.L1Los; .* mean torch.nn.L1Loss\?"),
        (["--loss::_target_=Qqqqqq"], ".*: no class or function Qqqqqq; expected one of MONAI, or a full name such as"),
        (["--loss::_target_=3"], "--loss::_target_=3: _target_ 3: expected the name of a class or function"),
        (["--loss::sigmoit=true"], r"--loss::sigmoit=true: DiceLoss: .*'sigmoit'; did you mean sigmoid\?"),
        (["--loss::_mode_=call"], "--loss::_mode_=call: _mode_ call: expected default or callable"),
        (["--optimizer={'_target_':'torch.optim.SGD'}"], ".*: torch.optim.SGD: missing a required argument: 'params'"),
        # tracking
        (["--tracking=mflow"], "--tracking=mflow: expected mlflow, or a file with settings of MONAI's tracking"),
        (["--tracking=mlflow", "--tracking_uri=mlruns"], "--tracking_uri=mlruns: expected a server, such as .*"),
        (["--tracking=mlflow", "--tracking_uri=file:///a"], "--tracking_uri=file:///a: expected a server, .*"),
    ],
)
def test_what_the_config_does_not_have_or_cannot_use_is_refused(config, installed, options, message):
    installed(True)
    assert re.match(message, refusal([config], *options))


def test_tracking_needs_its_package_a_server_or_a_file_of_settings(config, write, installed, monkeypatch):
    settings = write("tracking.json", "{}")
    check_command_line([PROGRAM, "run", f"--config_file={config}", f"--tracking={settings}", "--run_name=a"])
    installed(False)
    assert refusal([config], "--tracking=mlflow").startswith("--tracking=mlflow: no module mlflow; expected it in this")
    installed(True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    check_command_line([PROGRAM, "run", f"--config_file={config}", "--tracking=mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "/data/mlruns")
    assert refusal([config], "--tracking=mlflow").startswith("MLFLOW_TRACKING_URI=/data/mlruns: expected a server")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,1,2", (1, 1, 2)),
        ("[64,64,64]", [64, 64, 64]),
        ("1e-4", 1e-4),
        ("600 epochs", "600 epochs"),
        ("true", "true"),
        ("05", "05"),
        ("{'T2':FLAIR}", {"T2": "FLAIR"}),
        ("@learning_rate", "@learning_rate"),
        ("", True),
    ],
)
def test_a_value_is_read_as_monais_command_reads_it(text, value):
    word = "--option" if text == "" else f"--option={text}"
    assert parsed(text) == value == fire.Fire(lambda option: [option], command=[word])[0]


# Files


def test_several_config_files_are_all_asked(config, write):
    files = [config, write("quickstart.yaml", {"pretrained": "a.pt", "train::trainer::max_epochs": 2})]
    names = f"['{files[0]}','{files[1]}']"
    changes = check_command_line([PROGRAM, "run", "--config_file", names, "--pretrained=b.pt"])
    overlay = f"{files[1]}: train::trainer::max_epochs: 2"
    assert changes == {"pretrained": "--pretrained=b.pt", "train::trainer::max_epochs": overlay}
    check_command_line([PROGRAM, "run", "--config_file", ",".join(map(str, files))])
    line = f"no such option in {files[0]}, {files[1]}; did you mean --pretrained?"
    assert refusal(files, "--pretraind=1").endswith(line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lerning_rate": 5}, r"lerning_rate: 5: no such key in .*; did you mean learning_rate\?"),
        (
            {"train::trainer::max_epoch": 5},
            r"train::trainer::max_epoch: 5: no such key in .*; did you mean train::trainer::max_epochs\?",
        ),
        ({"max_epochs": 5}, r"max_epochs: 5: no such key; did you mean iterations: 5 epochs\?"),
        ({"optimizer::momentun": 5}, r".*momentun: 5: torch.optim.SGD: .*'momentun'; did you mean momentum\?"),
        ({"my_loss": {"_target_": "DiceCELoss"}}, "my_loss: .*: no such key"),
        ({"notes": "/long" * 99}, r"notes: (/long){31}/ \.\.\.: no such key"),
        ({"notes": {"a": "long " * 99}}, r"notes: \{'a': 'long long .{90,160} \.\.\.: no such key"),
        ({"+edges": 3}, r"\+edges: \+ merges a mapping or a list only, not 3"),
        ({"loss": None}, r"loss: None: expected a component, such as \{'_target_': 'DiceLoss', ...\}"),
        ({"train": {"a": 1}}, "train: {'a': 1}: leaves no train::trainer, which run::0 refers to"),
    ],
)
def test_an_overlay_may_change_only_what_is_there(config, write, content, message):
    assert re.match(rf"{config.parent}/\w+.yaml(, .*)?: {message}", refusal([config, write("overlay.yaml", content)]))


@pytest.mark.parametrize(
    "content",
    [
        {"my_loss": {"_target_": "DiceCELoss"}, "loss": "@my_loss"},
        {"scale": 2, "learning_rate": "$@scale * 0.1"},
        {"optimizer::momentum": 0.9},
        {"+edges": [64]},
        {"+loss": {"batch": True}},
        {"loss::_disabled_": True},
    ],
)
def test_an_overlay_may_add_what_something_uses(config, write, content):
    changes = check({"config_file": [str(config), str(write("overlay.yaml", content))]})
    assert changes.keys() == {key.removeprefix("+") for key in content}


def test_a_file_of_arguments_is_read(config, write):
    arguments = write("args.yaml", {"config_file": str(config), "learning_rate": 3})
    check_command_line([PROGRAM, "run", "--args_file", str(arguments)])
    with pytest.raises(InputError, match=r"--pretraind=a\.pt: no such option"):
        check_command_line([PROGRAM, "run", f"--args_file={arguments}", "--pretraind=a.pt"])
    write("args.yaml", {"config_file": str(config), "learning_rat": 3})
    with pytest.raises(InputError, match="--learning_rat=3: no such option"):
        check_command_line([PROGRAM, "run", "--args_file", str(arguments)])


@pytest.mark.parametrize("argv", [["pytest", "run", "--zzz=1"], [PROGRAM, "ckpt_export", "--zzz=1"], [PROGRAM], ["-c"]])
def test_other_commands_are_left_alone(argv):
    assert check_command_line(argv) == {}


def test_the_options_of_several_workflows_are_known(config, write):
    files = [config, write("evaluate.yaml", {"overlap": 0.5})]
    check_known({"learning_rate": 1, "overlap": 0.1}, files)
    with pytest.raises(InputError, match=r"--overlab=1: no such option in .*; did you mean --overlap\?"):
        check_known({"overlab": 1}, files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", 'empty; expected options by name, such as "batch_size: 2"'),
        ("- 1\n- 2", "holds a list; expected options by name"),
        ("text", "holds a str; expected options by name"),
        ("a: [1\nb: }", "not YAML: line 2: expected ',' or ']'"),
        ("a: \x00", "cannot be read: ReaderError"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_config_is_refused(config, write, content, message):
    path = config.with_name("other.yaml") if content is None else write("other.yaml", content)
    for files in ([path], [config, path]):
        assert refusal(files).startswith(f"--config_file={path}: {message}")


def test_the_nearest_file_is_proposed_and_a_mistake_in_the_first_one_found(config, write):
    wrong = config.with_name("trainn.yaml")
    assert refusal([wrong]) == f"--config_file={wrong}: no such file; did you mean {config}?"
    own = write("own.yaml", CONFIG | {"loss": {"_target_": "DiceLos"}})
    assert refusal([own]).startswith(f"{own}: loss: DiceLos: no class or function DiceLos")
    with pytest.raises(InputError, match="--config_file: missing; expected a file such as"):
        check({})


# Blame


def failure(changed, id="optimizer"):
    with pytest.raises(RuntimeError) as error:
        ConfigParser(CONFIG | changed).get_parsed_content(id)
    return error.value


BROKEN = {"optimizer": "$1 / 0"}
EDGE = {"network": {"_target_": "torch.nn.Linear", "in_features": "a", "out_features": 1}}


@pytest.mark.parametrize(
    ("changed", "changes", "line"),
    [
        (
            {"optimizer": CONFIG["optimizer"] | {"lr": "abc"}},
            {"optimizer::lr": "--optimizer::lr=abc", "loss": "--loss=1"},
            "--optimizer::lr=abc: optimizer cannot be built: TypeError: '<' not supported between",
        ),
        (
            BROKEN,
            {"optimizer": "a.yaml: optimizer: $1 / 0"},
            "a.yaml: optimizer: $1 / 0: optimizer cannot be built: ZeroDivisionError: division by zero",
        ),
        (
            EDGE,  # the part that fails is to blame, not what needs it
            {"network::in_features": "--network::in_features=a", "optimizer::lr": "--optimizer::lr=1"},
            "--network::in_features=a: network cannot be built: TypeError: ",
        ),
    ],
)
def test_the_change_of_what_cannot_be_built_is_to_blame(changed, changes, line):
    assert blame(failure(changed), changes).startswith(line)


@pytest.mark.parametrize("changes", [{}, {"loss": "--loss=1"}, {"optimizer_2": "--optimizer_2=1"}])
def test_a_mistake_that_no_change_made_keeps_its_traceback(changes):
    assert blame(failure(BROKEN), changes) is None
    assert blame(ValueError("outside of a config"), {"optimizer": "--optimizer=1"}) is None


def test_no_overlay_is_to_blame_for_what_happens_while_its_run_runs():
    error = failure({"run": ["$1 / 0"]}, "run")
    assert blame(error, {"run": "a.yaml: run: ['$@tracker.start()', '$@train::trainer.run()']"}) is None
