"""Check a run's configs."""

import os
from pathlib import Path

import fire
import monai.bundle
import pytest
import yaml
from monai.bundle import ConfigParser

from common.configs import argument, as_data, check, parsed, read
from common.options import OPTIONS
from tests.support import BUNDLES, ROOT, refused

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
    """Return a function that writes a file beside the config and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def config(write):
    return write("train.yaml", CONFIG)


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
    """In this process, and on the command line of `monai.bundle run`."""
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


@pytest.mark.parametrize(
    ("name", "text"), [("loss::_target_", "os.getpid"), ("loss", "{'_target_': 'os.getpid'}")], ids=["name", "mapping"]
)
def test_an_option_that_sets_a_component_can_name_any_callable(name, text):
    parser = ConfigParser({"loss": {"_target_": "DiceLoss"}})
    parser.update({name: as_data(name, parsed(name, text))})
    assert parser.get_parsed_content("loss") == os.getpid()


def test_monai_runs_the_same_text_in_a_config_and_on_its_own_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ConfigParser({"text": EVIL}).get_parsed_content("text")
    Path("owned").unlink()
    Path("config.yaml").write_text("{text: 0, run: ['@text']}")
    monai.bundle.run(config_file="config.yaml", text=EVIL)
    assert Path("owned").exists()


# Files


@pytest.mark.parametrize(
    ("content", "key", "text"),
    [
        ({"lerning_rate": 5}, ": lerning_rate", "did you mean learning_rate?"),
        ({"max_epochs": 5}, ": max_epochs", "did you mean iterations='N epochs'?"),
        ({"my_loss": {"_target_": "DiceCELoss"}}, ": my_loss", "no such key"),
        ({"learning_rate": "%x"}, ": learning_rate", "MONAI reads % as a reference to a config file"),
        ({"bundle_root": ".", "run": []}, "", "a config that runs by itself; expected an overlay"),
        # files without options
        ("", "", "empty; expected a mapping of options, such as {batch_size: 2}"),
        ("- 1\n- 2", "", "of type list; expected a mapping of options"),
        ("5", "", "of type int; expected a mapping of options"),
    ],
)
def test_an_overlay_may_change_only_what_is_there(config, write, content, key, text):
    overlay = write("overlay.yaml", content)
    with refused(f"{overlay}{key}", text=text):
        check([config, overlay], {})


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
