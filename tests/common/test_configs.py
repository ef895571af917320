"""Options reach MONAI as data."""

import fire
import pytest
from monai.bundle import ConfigParser

from common.options import as_data
from common.values import OPTIONS
from deploy.inference import argument
from scripts.run import typed


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("loss::weight", "1,1,2", (1, 1, 2)),
        ("patch_size", "[64,64,64]", [64, 64, 64]),
        ("learning_rate", "1e-4", 1e-4),
        ("iterations", "600 epochs", "600 epochs"),
        ("loss::squared", "true", "true"),
        ("loss_weights", "{'rotation': 0}", {"rotation": 0}),
        ("checkpoint", "['2026.pt','b.pt']", ["2026.pt", "b.pt"]),
    ],
)
def test_a_value_that_is_not_text_is_read_as_monais_command_reads_it(name, text, value):
    assert typed(name, text) == value == fire.Fire(lambda option: [option], command=[f"--option={text}"])[0]


EVIL = "$__import__('pathlib').Path('owned').touch()"
TEXTS = ["2026_11_27", "1.10", "[a", "it's", EVIL, "@home", "%x::y", "a@::b", "/x $y #1", "_a", "\udce9", r"a\@b"]
PATHS = [name for name in OPTIONS if OPTIONS[name].kind.values.startswith(("file", "folder", "a file"))]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_monai_takes_every_path_as_typed(text, tmp_path, monkeypatch):
    """In this process, and on the command line of `monai.bundle run`."""
    monkeypatch.chdir(tmp_path)
    words = [argument(f"--{name}={text}") for name in PATHS]
    for changes in (
        as_data({name: typed(name, text) for name in PATHS}),
        fire.Fire(lambda **options: [options], command=words)[0],  # in a list, as Fire prints a mapping
    ):
        parser = ConfigParser(changes)
        assert {name: parser.get_parsed_content(name) for name in PATHS} == dict.fromkeys(PATHS, text)
    assert not [*tmp_path.iterdir()]


def test_texts_within_lists_and_mappings_are_data_too():
    value = {"T2": ["$print()", "@x"], "T1": None}
    parser = ConfigParser(
        {"value": as_data(value), "again": fire.Fire(lambda value: [value], [argument(f"--value={value}")])[0]}
    )
    assert parser.get_parsed_content("value") == parser.get_parsed_content("again") == value
