"""Options reach MONAI as data."""

from pathlib import Path

import fire
import monai.bundle
import pytest
from monai.bundle import ConfigParser

from common.configs import argument, as_data, read, typed
from common.values import OPTIONS
from tests.support import BUNDLES, ROOT


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loss::weight", "1,1,2", (1, 1, 2)),
        ("patch_size", "[64,64,64]", [64, 64, 64]),
        ("learning_rate", "1e-4", 1e-4),
        ("iterations", "600 epochs", "600 epochs"),
        ("loss::squared", "true", "true"),
        ("loss_weights", "{'rotation': 0}", {"rotation": 0}),
    ],
)
def test_a_value_that_is_not_text_is_read_as_monais_command_reads_it(name, text, value):
    assert typed(name, text) == value == fire.Fire(lambda option: [option], command=[f"--option={text}"])[0]


EVIL = "$__import__('pathlib').Path('owned').touch()"
TEXTS = ["2026_11_27", "1.10", "[a", "it's", EVIL, "@home", "%x::y", "a@::b", "/x $y #1", "_a", "\udce9", r"a\@b"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_monai_takes_every_text_option_of_a_bundle_as_typed(bundle, text, tmp_path, monkeypatch):
    """In this process, and on the command line of `monai.bundle run`."""
    monkeypatch.chdir(tmp_path)
    configs = ROOT / "bundles" / bundle / "configs"
    contents = [read([configs / f"{config}.yaml"]).get() for config in ("train", "inference")]
    names = {name for content in contents for name in content if name in OPTIONS and OPTIONS[name].kind.is_text}
    words = [argument(f"--{name}={text}") for name in names]
    for changes in (
        as_data(dict.fromkeys(names, typed("output_dir", text))),
        fire.Fire(lambda **options: [options], command=words)[0],  # in a list, as Fire prints a mapping
    ):
        parser = ConfigParser(changes)
        assert {name: parser.get_parsed_content(name) for name in names} == dict.fromkeys(names, text)
    assert not [*tmp_path.iterdir()]


def test_texts_within_lists_and_mappings_are_data_too():
    value = {"T2": ["$print()", "@x"], "T1": None}
    parser = ConfigParser(
        {"value": as_data(value), "again": fire.Fire(lambda value: [value], [argument(f"--value={value}")])[0]}
    )
    assert parser.get_parsed_content("value") == parser.get_parsed_content("again") == value


def test_monai_runs_the_same_text_in_a_config_and_on_its_own_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ConfigParser({"text": EVIL}).get_parsed_content("text")
    Path("owned").unlink()
    Path("config.yaml").write_text("{text: 0, run: ['@text']}")
    monai.bundle.run(config_file="config.yaml", text=EVIL)
    assert Path("owned").exists()


def test_several_checkpoints_are_a_list_before_any_option_is_checked():
    """The settings that they state become the defaults of other options."""
    assert typed("checkpoint", "['2026.pt','b.pt']") == ["2026.pt", "b.pt"]
    assert typed("checkpoint", "20_26") == "20_26"
