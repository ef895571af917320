"""`python -m scripts.options`: what it prints, and that the READMEs have its tables."""

import subprocess
import sys

import pytest
import yaml

from common.errors import InputError
from common.options import OPTIONS
from scripts.options import fill_tables, options, options_of_config
from tests.support import BUNDLES, ROOT

CONFIGS = sorted(ROOT.glob("bundles/*/configs/*.yaml"))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_readme_has_the_tables_of_the_configs(bundle):
    folder = ROOT / "bundles" / bundle
    text = (folder / "docs/README.md").read_text()
    assert fill_tables(text, folder) == text, f"run python -m scripts.options {bundle} --readme=true"
    for config in folder.glob("configs/*.yaml"):
        if config.stem in ("train", "evaluate", "inference"):
            assert f"<!-- options of {config.stem}.yaml -->" in text


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in ("train", "evaluate", "inference")], ids=str)
def test_every_key_above_the_options_is_an_option(path):
    above = path.read_text().split("\noptions:")[0].split("\n# The processes")[0]
    keys = yaml.safe_load(above).keys() - {"imports", "recipes", "chosen_recipe", "trained", "measured"}
    assert keys - OPTIONS.keys() == set()


def test_every_option_is_one_of_some_config():
    named = {row.option for path in CONFIGS if path.stem in ("train", "evaluate", "inference")
             for row in options_of_config(path)}  # fmt: skip
    assert OPTIONS.keys() - named == {"bundle_root"}


def test_defaults_are_shown_as_one_types_them():
    rows = {row.option: row.default for row in options_of_config(ROOT / "bundles/atlas_stage2/configs/train.yaml")}
    assert rows["learning_rate"] == "5e-3 (recipe text)"
    assert rows["iterations"] == "600 epochs (recipe text)"
    assert rows["warmup_iterations"] == "500 (recipe text)"
    assert rows["modalities"] == "[T1]"
    assert rows["max_grad_norm"] == "null"
    assert rows["ckpt_dir"] == "models"


def test_options_are_printed_with_values_and_meaning(capsys):
    options("brats_finetune", workflow="inference")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("overlap ")]
    assert line.split()[:6] == ["overlap", "0.5", "number", "from", "0", "to"]
    assert line.endswith(OPTIONS["overlap"].meaning)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("brats",), "bundle=brats: expected one of atlas_finetune"),
        (("atlas_stage2", "evaluate"), "workflow=evaluate: expected one of train, inference"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=rf"^{message}"):
        options(*arguments)


def test_a_command_ends_with_one_line_and_status_2():
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.options", "brats"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --bundle=brats: expected one of ")


def test_a_readme_without_tables_is_named(tmp_path):
    with pytest.raises(InputError, match="no table of options"):
        fill_tables("# nothing", tmp_path)
