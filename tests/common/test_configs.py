"""The check of a run's configs, and the change that is to blame for a component that cannot be built."""

import re

import fire
import pytest
import yaml
from monai.bundle import ConfigParser

from common import configs
from common.configs import blame, check, check_command_line, parsed
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
        ["--train::trainer::max_epochs", "9"],
        ["--meta_file=None", "--run_id=run", "--init_id", "run"],
        ["--tracking", "mlflow", "--experiment_name=a"],
        ["--optimizer::momentum=0.9"],
        ["--loss={'_target_': 'DiceCELoss'}"],
    ],
)
def test_what_a_config_has_passes(config, options, installed):
    installed(True)
    check_command_line([PROGRAM, "run", *options, "--config_file", str(config)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # keys
        (["--learning_rat=1"], r"--learning_rat=1: no such option in .*train\.yaml; did you mean --learning_rate\?"),
        (["--learning-rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--train::trainer::max_epoch=9"], r".*no such option .* did you mean --train::trainer::max_epochs\?"),
        (["--train::foo=1"], "--train::foo=1: no such option .* expected one of trainer, handlers$"),
        (["--train::handlers::1::a", "9"], ".*no such option in .*; train::handlers has 1 items"),
        (["--zzz"], r"--zzz=: no such option .* expected one of learning_rate, pretrained, edges$"),
        (["--epochs=3"], r"--epochs=3: no such option; did you mean --iterations='3 epochs'\?"),
        (["--learning_rate=None"], "--learning_rate=None: MONAI ignores None; write null"),
        (["--meta_file=/nowhere.json"], "--meta_file=/nowhere.json: no such file"),
        (["training"], "--run_id=training: no such key in .*train.yaml; expected run"),
        # values
        (["--learning_rate=@pretraind"], r"--learning_rate=@pretraind: no @pretraind in .* did you mean @pretrained\?"),
        (["--learning_rate=%nope"], "--learning_rate=%nope: no nope in"),
        (["--learning_rate=$1 /"], r"--learning_rate=\$1 /: not a Python expression: invalid syntax"),
        (["--optimizer=SGD"], r"--optimizer=SGD: expected a component, such as \{'_target_': 'torch.optim.SGD', ...\}"),
        (["--loss::_target_=DiceLos"], r".*=DiceLos: no class or function DiceLos; did you mean DiceLoss\?"),
        (["--loss::_target_=Qqqqqq"], ".*: no class or function Qqqqqq; expected one of MONAI, or a full name such as"),
        (["--loss::sigmoit=true"], r"--loss::sigmoit=true: DiceLoss: .*'sigmoit'; did you mean sigmoid\?"),
        (["--optimizer={'_target_':'torch.optim.SGD'}"], ".*: torch.optim.SGD: missing a required argument: 'params'"),
        # tracking
        (["--tracking=mflow"], "--tracking=mflow: expected mlflow, or a file with settings of MONAI's tracking"),
        (["--tracking=mlflow", "--tracking_uri=mlruns"], "--tracking_uri=mlruns: expected a server, such as .*"),
    ],
)
def test_what_the_config_does_not_have_or_cannot_use_is_refused(config, installed, options, message):
    installed(True)
    assert re.match(message, refusal([config], *options))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,1,2", (1, 1, 2)),
        ("[64,64,64]", [64, 64, 64]),
        ("1e-4", 1e-4),
        ("600 epochs", "600 epochs"),
        ("true", "true"),
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
        ({"max_epochs": 5}, r"max_epochs: 5: no such key; did you mean iterations: 5 epochs\?"),
        ({"my_loss": {"_target_": "DiceCELoss"}}, "my_loss: .*: no such key"),
        ({"notes": "/long" * 99}, r"notes: (/long){31}/ \.\.\.: no such key"),
        ({"+edges": 3}, r"\+edges: \+ merges a mapping or a list only, not 3"),
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


@pytest.mark.parametrize("argv", [["pytest", "run", "--zzz=1"], [PROGRAM, "ckpt_export", "--zzz=1"], [PROGRAM], ["-c"]])
def test_other_commands_are_left_alone(argv):
    assert check_command_line(argv) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", 'empty; expected options by name, such as "batch_size: 2"'),
        ("- 1\n- 2", "holds a list; expected options by name"),
        ("a: [1\nb: }", "not YAML: line 2: expected ',' or ']'"),
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
