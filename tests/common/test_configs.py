"""The check of a run's configs, and the change that is to blame for a component that cannot be built."""

import re

import fire
import pytest
import yaml
from monai.bundle import ConfigParser

from common import configs
from common.configs import blame, check, check_command_line, check_known, parsed
from common.errors import InputError

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
OVERLAY = {"iterations": 8, "train::trainer::max_epochs": 2}


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


def refusal(files, *options):
    with pytest.raises(InputError) as error:
        check_command_line([PROGRAM, "run", f"--config_file={[str(file) for file in files]}", *options])
    assert "\n" not in str(error.value)
    return str(error.value)


# Keys


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
def test_what_a_config_has_passes(config, options, monkeypatch):
    monkeypatch.setattr(configs, "find_spec", lambda name: name == "mlflow")
    check_command_line([PROGRAM, "run", *options, "--config_file", str(config)])
    check_command_line([PROGRAM, "run", *options, f"--config_file={config}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning_rat=1"], r"--learning_rat=1: no such option in .*train\.yaml; did you mean --learning_rate\?"),
        (["--learning_rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--learning-rat", "1"], r"--learning_rat=1: no such option .* did you mean --learning_rate\?"),
        (["--pretrained", "a.pt", "--pretraind", "b.pt"], "--pretraind=b.pt: no such option"),
        (["--train::trainer::max_epoch=9"], r"no such option .* did you mean --train::trainer::max_epochs\?"),
        (["--train::trainr::max_epochs", "9"], r"no such option .* did you mean --train::trainer\?"),
        (["--train::foo=1"], "--train::foo=1: no such option .* expected one of trainer, handlers$"),
        (["--trane::foo=1"], r"--trane::foo=1: no such option .* did you mean --train\?"),
        (["--train::handlers::1::a", "9"], "no such option in .*; train::handlers has 1 items"),
        (["--learning_rate::a=9"], "no such option in .*; learning_rate has no keys"),
        (["--zzz"], r"--zzz=: no such option .* expected one of learning_rate, pretrained, edges$"),
        (["--config_fil", "x"], r"did you mean --config_file\?"),
        (["--experiment_name=a"], "--experiment_name=a: no such option"),
        (["--epochs=3"], r"--epochs=3: no such option; did you mean --iterations='3 epochs'\?"),
        (["--learning_rate=None"], "--learning_rate=None: MONAI ignores None; write null"),
        (["--meta_file=/nowhere.json"], "--meta_file=/nowhere.json: no such file"),
        (["--logging_file=/nowhere.conf"], "--logging_file=/nowhere.conf: no such file"),
        (["training"], "--run_id=training: no such key in .*train.yaml; expected run"),
    ],
)
def test_what_no_config_has_is_refused(config, options, message):
    assert re.match(message if message.startswith("-") else f".*{message}", refusal([config], *options))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,1,2", (1, 1, 2)),
        ("(64,64,64)", (64, 64, 64)),
        ("[64,64,64]", [64, 64, 64]),
        ("1e-4", 1e-4),
        ("600 epochs", "600 epochs"),
        ("true", "true"),
        ("null", "null"),
        ("05", "05"),
        ("{'T2':FLAIR}", {"T2": "FLAIR"}),
        ("@learning_rate", "@learning_rate"),
        ("", True),
    ],
)
def test_a_value_is_read_as_monais_command_reads_it(text, value):
    word = "--option" if text == "" else f"--option={text}"
    assert parsed(text) == value == fire.Fire(lambda option: [option], command=[word])[0]


def test_several_config_files_are_all_asked(config, write):
    files = [config, write("quickstart.yaml", {"pretrained": "a.pt", "train::trainer::max_epochs": 2})]
    names = f"['{files[0]}','{files[1]}']"
    changes = check_command_line([PROGRAM, "run", "--config_file", names, "--pretrained=b.pt"])
    assert changes == {
        "pretrained": "--pretrained=b.pt",
        "train::trainer::max_epochs": f"{files[1]}: train::trainer::max_epochs: 2",
    }
    check_command_line([PROGRAM, "run", "--config_file", ",".join(map(str, files))])
    assert refusal(files, "--pretraind=1").endswith(
        f"no such option in {names[2:-2]}; did you mean --pretrained?".replace("','", ", ")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lerning_rate": 5}, r"lerning_rate: 5: no such key in .*; did you mean learning_rate\?"),
        (
            {"train::trainer::max_epoch": 5},
            r"max_epoch: 5: no such key in .*; did you mean train::trainer::max_epochs\?",
        ),
        ({"trane::trainer::max_epochs": 5}, r"no such key in .*; did you mean train\?"),
        ({"max_epochs": 5}, r"max_epochs: 5: no such key; did you mean iterations: 5 epochs\?"),
        ({"optimizer::momentun": 5}, r"momentun: 5: torch.optim.SGD: .*'momentun'; did you mean momentum\?"),
        ({"my_loss": {"_target_": "DiceCELoss"}}, "my_loss: .*: no such key"),
        ({"notes": "/long" * 99}, r"notes: (/long){31}/ \.\.\.: no such key"),
        ({"notes": {"a": "long " * 99}}, r"notes: \{'a': 'long long .{90,160} \.\.\.: no such key"),
        ({"+edges": 3}, r"\+edges: \+ merges a mapping or a list only, not 3"),
        ({"loss": None}, r"loss: None: expected a component, such as \{'_target_': 'DiceLoss', ...\}"),
        ({"train": {"a": 1}}, "train: {'a': 1}: leaves no train::trainer, which run::0 refers to"),
    ],
)
def test_an_overlay_may_change_only_what_is_there(config, write, content, message):
    assert re.search(f"overlay.yaml: {message}|^.*{message}", refusal([config, write("overlay.yaml", content)]))


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
    overlay = write("overlay.yaml", content)
    changes = check({"config_file": [str(config), str(overlay)]})
    assert changes.keys() == {key.removeprefix("+") for key in content}


def test_a_file_of_arguments_is_read(config, write):
    arguments = write("args.yaml", {"config_file": str(config), "learning_rate": 3})
    check_command_line([PROGRAM, "run", "--args_file", str(arguments)])
    check_command_line([PROGRAM, "run", f"--args_file={arguments}", "--pretrained=a.pt"])
    with pytest.raises(InputError, match=r"--pretraind=a\.pt: no such option"):
        check_command_line([PROGRAM, "run", f"--args_file={arguments}", "--pretraind=a.pt"])
    write("args.yaml", {"config_file": str(config), "learning_rat": 3})
    with pytest.raises(InputError, match="--learning_rat=3: no such option"):
        check_command_line([PROGRAM, "run", "--args_file", str(arguments)])


@pytest.mark.parametrize("argv", [["pytest", "run", "--zzz=1"], [PROGRAM, "ckpt_export", "--zzz=1"], [PROGRAM], ["-c"]])
def test_other_commands_are_left_alone(argv):
    assert check_command_line(argv) == {}


def test_the_options_of_several_workflows_are_known(config, write):
    other = write("evaluate.yaml", {"overlap": 0.5})
    check_known({"learning_rate": 1, "overlap": 0.1}, [config, other])
    with pytest.raises(InputError, match=r"--overlab=1: no such option in .*; did you mean --overlap\?"):
        check_known({"overlab": 1}, [config, other])


# Tracking


@pytest.mark.parametrize(
    ("options", "installed", "message"),
    [
        (["--tracking=mlflow"], False, "--tracking=mlflow: no module mlflow; expected it in this environment: .*"),
        (["--tracking=mflow"], True, "--tracking=mflow: expected mlflow, or a file with settings of MONAI's tracking"),
        (["--tracking=mlflow", "--tracking_uri=mlruns"], True, "--tracking_uri=mlruns: expected a server, such as .*"),
        (["--tracking=mlflow", "--tracking_uri=file:///a"], True, "--tracking_uri=file:///a: expected a server, .*"),
        (["--experiment_name=a"], True, "--experiment_name=a: no such option in .*"),
    ],
)
def test_what_cannot_be_tracked_is_refused(config, monkeypatch, options, installed, message):
    monkeypatch.setattr(configs, "find_spec", lambda name: installed or None)
    assert re.fullmatch(message, refusal([config], *options))


def test_the_environment_may_name_the_server(config, monkeypatch):
    monkeypatch.setattr(configs, "find_spec", lambda name: True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    check_command_line([PROGRAM, "run", f"--config_file={config}", "--tracking=mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "/data/mlruns")
    assert refusal([config], "--tracking=mlflow").startswith("MLFLOW_TRACKING_URI=/data/mlruns: expected a server")


def test_a_file_of_tracking_settings_passes(config, write):
    settings = write("tracking.json", "{}")
    check_command_line([PROGRAM, "run", f"--config_file={config}", f"--tracking={settings}", "--run_name=a"])


# Values


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--learning_rate=@nope", "no @nope in"),
        ("--learning_rate=@pretraind", r"no @pretraind in .*; did you mean @pretrained\?"),
        ("--learning_rate=%nope", "no nope in"),
        ("--learning_rate=%/nope.yaml::a", "no such file"),
        ("--learning_rate=$1 /", "not a Python expression: invalid syntax"),
        ("--loss=null", r"expected a component, such as \{'_target_': 'DiceLoss', ...\}"),
        ("--optimizer=SGD", r"expected a component, such as \{'_target_': 'torch.optim.SGD', ...\}"),
        ("--loss::_target_=DiceLos", r"no class or function DiceLos; did you mean DiceLoss\?"),
        ("--loss::_target_=torch.nn.L1Los", r"no class or function torch.nn.L1Los; did you mean torch.nn.L1Loss\?"),
        ("--loss::_target_=Qqqqqq", "no class or function Qqqqqq; expected one of MONAI, or a full name such as"),
        ("--loss::_target_=3", "_target_ 3: expected the name of a class or function"),
        ("--loss::sigmoit=true", r"DiceLoss: .*'sigmoit'; did you mean sigmoid\?"),
        ("--loss::_mode_=call", "_mode_ call: expected default or callable"),
        ("--optimizer={'_target_':'torch.optim.SGD'}", "torch.optim.SGD: missing a required argument: 'params'"),
    ],
)
def test_a_value_that_the_config_cannot_use_is_named(config, option, message):
    assert re.match(f"{re.escape(option)}: {message}", refusal([config], option))


def test_a_mistake_in_the_first_file_is_found_there(config, write):
    content = CONFIG | {"loss": {"_target_": "DiceLos"}}
    path = write("own.yaml", content)
    assert refusal([path]).startswith(f"{path}: loss: DiceLos: no class or function DiceLos")


# Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", 'empty; expected options by name, such as "batch_size: 2"'),
        ("# nothing", "empty"),
        ("- 1\n- 2", "holds a list; expected options by name"),
        ("text", "holds a str; expected options by name"),
        ("a: [1\nb: }", "not YAML: line 2: expected ',' or ']'"),
        ("a: \x00", "cannot be read: ReaderError"),
        (None, "no such file"),
    ],
)
@pytest.mark.parametrize("is_overlay", [False, True])
def test_a_file_that_is_no_config_is_refused(config, write, tmp_path, content, message, is_overlay):
    path = tmp_path / "other.yaml" if content is None else write("other.yaml", content)
    line = refusal([config, path] if is_overlay else [path])
    assert line.startswith(f"--config_file={path}: {message}")


def test_the_nearest_file_is_proposed(config):
    wrong = config.with_name("trainn.yaml")
    assert refusal([wrong]) == f"--config_file={wrong}: no such file; did you mean {config}?"
    with pytest.raises(InputError, match="--config_file: missing; expected a file such as"):
        check({})


# Blame


def failure(config, **changed):
    with pytest.raises(RuntimeError) as error:
        ConfigParser(config | changed).get_parsed_content("optimizer")
    return error.value


def test_a_change_of_a_part_is_to_blame():
    error = failure(CONFIG, optimizer=CONFIG["optimizer"] | {"lr": "abc"})
    line = blame(error, {"optimizer::lr": "--optimizer::lr=abc", "loss": "--loss=1"})
    assert line.startswith("--optimizer::lr=abc: optimizer cannot be built: TypeError: '<' not supported between")


def test_a_change_of_the_whole_is_to_blame():
    error = failure(CONFIG, optimizer="$1 / 0")
    assert blame(error, {"optimizer": "a.yaml: optimizer: $1 / 0"}) == (
        "a.yaml: optimizer: $1 / 0: optimizer cannot be built: ZeroDivisionError: division by zero"
    )


def test_no_overlay_is_to_blame_for_what_happens_while_its_run_runs():
    with pytest.raises(RuntimeError) as error:
        ConfigParser({"run": ["$1 / 0"]}).get_parsed_content("run")
    assert blame(error.value, {"run": "a.yaml: run: ['$@tracker.start()', '$@train::trainer.run()']"}) is None


def test_the_part_that_fails_is_to_blame_not_what_needs_it():
    error = failure(CONFIG, network={"_target_": "torch.nn.Linear", "in_features": "a", "out_features": 1})
    changes = {"network::in_features": "--network::in_features=a", "optimizer::lr": "--optimizer::lr=1"}
    assert blame(error, changes).startswith("--network::in_features=a: network cannot be built: TypeError: ")


@pytest.mark.parametrize("changes", [{}, {"loss": "--loss=1"}, {"optimizer_2": "--optimizer_2=1"}])
def test_a_mistake_that_no_change_made_keeps_its_traceback(changes):
    assert blame(failure(CONFIG, optimizer="$1 / 0"), changes) is None
    assert blame(ValueError("outside of a config"), {"optimizer": "--optimizer=1"}) is None
