"""The output of `python -m scripts.options`."""

import yaml

from common.values import OPTIONS
from scripts.options import WORKFLOWS, options, options_of
from tests.support import ROOT

CONFIGS = sorted(path for path in ROOT.glob("bundles/*/configs/*.yaml") if path.stem in WORKFLOWS)


def test_every_key_above_the_options_is_an_option_and_every_option_is_one_of_some_config():
    named = set()
    for path in CONFIGS:
        above = path.read_text().split("\noptions:")[0].split("\n# The processes")[0]
        keys = yaml.safe_load(above).keys() - {"imports", "trained", "measured"}
        assert keys - OPTIONS.keys() == set(), path
        rows = options_of(path)
        assert all(meaning for *_, meaning in rows), path
        named |= {name for name, *_ in rows}
    assert OPTIONS.keys() - named == {"bundle_root", "without"}  # an option of recipe_robust


def test_options_are_printed_with_values_and_meaning(capsys):
    options("brats_finetune", workflow="inference")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("overlap ")]
    assert line.split()[:6] == ["overlap", "the", "checkpoint's,", "else", "0.5", "a"]
    assert line.endswith("of neighbouring windows, as a fraction of the patch")
