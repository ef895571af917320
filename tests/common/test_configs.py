"""The check of a run's configs."""

import re
from pathlib import Path

import fire
import monai.bundle
import pytest
import yaml
from monai.bundle import ConfigParser

from common.configs import argument, as_data, check, parsed, read, warn_of_program
from common.errors import InputError
from common.options import OPTIONS
from tests.support import BUNDLES, ROOT, one_line

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


def refusal(*files, **options):
    with pytest.raises(InputError) as error:
        check(files, options)
    return one_line(error)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learning_rate": 1},
        {"train::trainer::max_epochs": 9},
        {"optimizer::momentum": 0.9},
        {"loss": {"_target_": "DiceCELoss"}},
    ],
)
def test_what_a_config_has_passes(config, options):
    check([config], options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        # keys
        ("learning_rat", 1, r"--learning_rat=1: no such option in .*train\.yaml; did you mean --learning_rate\?"),
        ("train::trainer::max_epoch", 9, ".*no such option .* did you mean --train::trainer::max_epochs"),
        ("train::foo", 1, "--train::foo=1: no such option .* expected one of trainer, handlers$"),
        ("learning_rate::a", 9, ".*no such option in .*; learning_rate has no keys of its own"),
        ("zzz", True, "--zzz=True: no such option .* expected one of imports, learning_rate, pretrained, edges, run$"),
        ("args_file", "a.json", "--args_file=a.json: no such option"),
        ("tracking", "a.json", "tracking=a.json: expected one of mlflow$"),
        ("epochs", 3, r"--epochs=3: no such option; did you mean --iterations='N epochs'\?"),
        ("learning_rate", None, "--learning_rate=None: MONAI ignores None; write null"),
        # values
        (
            "train",
            {"handlers": []},
            ".*: no @train::trainer, which run.* refers to; --train replaces the whole section; ",
        ),
        ("loss", {"_target_": "DiceLos"}, ".*loss: no class or function DiceLos of MONAI$"),
        ("loss", {"_target_": "common.ssl.Rotashun"}, ".*loss: no class or function .*; did you mean common.ssl"),
        ("", 5, "--=5: no such option"),
        ("loss", "DiceLoss", "--loss=DiceLoss: expected a component, such as {_target_: DiceLoss}$"),
        ("loss", {"sigmoid": True}, "--loss={'sigmoid': True}: expected a component, such as "),
        ("imports", 5, "--imports=5: expected a list, as it replaces one$"),
        ("optimizer::_target_", "torch.optim.Adan", ".*: no class or function .*; did you mean torch.optim.Adam"),
    ],
)
def test_what_the_config_does_not_have_or_cannot_use_is_refused(config, name, value, message):
    assert re.match(message, refusal(config, **{name: value}))


def test_mlflow_brings_options_of_its_own_and_a_training_those_that_its_config_need_not_name(config, write):
    check([config], {"tracking": "mlflow", "experiment_name": "a"})
    assert refusal(config, experiment_name="a").startswith("--experiment_name=a: no such option")
    training = write("training.yaml", CONFIG | {"ckpt_dir": "models"})
    check([training, write("overlay.yaml", {"cohort": "a"})], {"keep": 3})
    assert (read([training])["keep"], read([training], {"keep": 3})["keep"]) == (2, 3)
    assert refusal(config, keep=3).startswith("--keep=3: no such option")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loss::weight", "1,1,2", (1, 1, 2)),
        ("patch_size", "[64,64,64]", [64, 64, 64]),
        ("learning_rate", "1e-4", 1e-4),
        ("iterations", "600 epochs", "600 epochs"),
        ("loss::squared", "true", "true"),
        ("amp", "", True),
    ],
)
def test_a_value_that_is_not_text_is_read_as_monais_command_reads_it(name, text, value):
    word = "--option" if text == "" else f"--option={text}"
    assert parsed(name, text) == value == fire.Fire(lambda option: [option], command=[word])[0]


EVIL = "$__import__('pathlib').Path('owned').touch()"
TEXTS = [
    "2026_11_27",
    "1.10",
    "None",
    "[a",
    "it's",
    EVIL,
    "@home",
    "%x::y",
    "a@::b",
    "/x $y #1",
    "\udce9",
    "{'_target_': 'os.abort'}",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_monai_takes_every_option_of_a_bundle_as_typed(bundle, text, tmp_path, monkeypatch):
    """In this process, and from the command line of MONAI's own command.

    SECURITY.md: "our commands evaluate no option, whatever it begins with"
    """
    monkeypatch.chdir(tmp_path)
    configs = ROOT / "bundles" / bundle / "configs"
    names = {
        name for config in ("train", "inference") for name in read([configs / f"{config}.yaml"]).get()
    } & OPTIONS.keys()
    values = {name: parsed(name, text) for name in names}
    assert {values[name] for name in names if OPTIONS[name].kind.read is str} == {text}
    words = [argument(f"--{name}={text}") for name in names]
    for changes in (
        {name: as_data(name, value) for name, value in values.items()},
        fire.Fire(lambda **options: [options], command=words)[0],  # in a list, as Fire prints a mapping
    ):
        parser = ConfigParser(changes)
        assert {name: parser.get_parsed_content(name) for name in names} == values
    assert not [*tmp_path.iterdir()]


def test_monai_runs_the_same_text_in_a_config_and_on_its_own_command_line(tmp_path, monkeypatch):
    """SECURITY.md: "MONAI evaluates text that begins with `$` as Python"
    SECURITY.md: "MONAI's own command, `python -m monai.bundle run`, evaluates text with `$`"
    """
    monkeypatch.chdir(tmp_path)
    ConfigParser({"text": EVIL}).get_parsed_content("text")
    Path("owned").unlink()
    Path("config.yaml").write_text("{text: 0, run: ['@text']}")
    monai.bundle.run(config_file="config.yaml", text=EVIL)
    assert Path("owned").exists()


@pytest.mark.parametrize("value", [EVIL, "@loss", "%loss", [1, {"a": EVIL}]], ids=ascii)
def test_an_expression_on_a_command_line_is_refused(config, value):
    assert re.match(r"--loss::name=.*: an expression; expected a value", refusal(config, **{"loss::name": value}))


# Files


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("@pretraind", r".*train.yaml.*: no @pretraind, which learning_rate refers to; did you mean @"),
        ("%x", ".*overlay.yaml: learning_rate=%x: MONAI takes % for another config"),
        ("@optimizer", r".*train.yaml.*: .*optimizer.*learning_rate.*: refers to itself"),
    ],
)
def test_an_overlay_may_refer_only_to_what_is_there(config, write, value, message):
    assert re.match(message, refusal(config, write("overlay.yaml", {"learning_rate": value})))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lerning_rate": 5}, r"lerning_rate=5: no such key in .*; did you mean learning_rate\?"),
        ({"max_epochs": 5}, r"max_epochs=5: no such key; did you mean iterations='N epochs'\?"),
        ({"my_loss": {"_target_": "DiceCELoss"}}, "my_loss=.*: no such key"),
        ({"bundle_root": ".", "run": []}, "a config that runs by itself; expected an overlay, which changes "),
    ],
)
def test_an_overlay_may_change_only_what_is_there(config, write, content, message):
    assert re.match(f"{config.parent}/overlay.yaml: {message}", refusal(config, write("overlay.yaml", content)))


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
    check([config, write("overlay.yaml", content)], {"pretrained": "a.pt"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty; expected a mapping of options, such as {batch_size: 2}"),
        ("- 1\n- 2", "of type list; expected a mapping of options"),
        ("5", "of type int; expected a mapping of options"),
        ("a: [1\nb: }", "not YAML \\(line 2: expected ',' or ']'"),
        (None, r"no such file; did you mean .*/train.yaml\?"),
    ],
)
def test_a_file_without_options_is_named(config, write, content, message):
    file = config.with_name("trainn.yaml") if content is None else write("broken.yaml", content)
    assert re.match(f"{file}: {message}", refusal(config, file))


def test_an_overlay_alone_is_refused(write):
    overlay = write("quickstart.yaml", {"iterations": 5})
    assert refusal(overlay) == f"{overlay}: an overlay; expected a config that runs by itself, such as train"


def test_each_config_from_elsewhere_is_named_as_a_program_before_it_is_checked(config, write, capsys):
    """SECURITY.md: "Before a config, package or study that does not lie in `bundles/` or `studies/` runs, each command
    names it in a warning"
    """
    wrong = write("wrong.yaml", {"learning_rat": 0.2})
    refusal(config, wrong)
    lines = [
        f"warning: {file}: its expressions run as a program, and it is not from bundles/" for file in (config, wrong)
    ]
    warned = capsys.readouterr().err.splitlines()
    assert [line[: len(start)] for line, start in zip(warned, lines, strict=True)] == lines


def test_a_link_does_not_make_a_config_ours_and_one_process_of_several_warns(config, tmp_path, monkeypatch, capsys):
    bundle = ROOT / "bundles/brats_finetune"
    warn_of_program(bundle / "configs/train.yaml")
    (tmp_path / "linked.yaml").symlink_to(bundle / "configs/train.yaml")
    warn_of_program(tmp_path / "linked.yaml")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("common.configs.OURS", [tmp_path / "bundles"])
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/train.yaml").symlink_to(config)
    monkeypatch.setenv("RANK", "1")
    warn_of_program(tmp_path / "bundles/train.yaml")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    warn_of_program(tmp_path / "bundles/train.yaml")
    assert "bundles/train.yaml: its expressions run as a program" in capsys.readouterr().err
