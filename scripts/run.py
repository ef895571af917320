"""Run a bundle as `python -m monai.bundle run` does, but report every mistake in one line.

    python -m scripts.run BUNDLE CONFIG [OVERLAY ...] [--OPTION=VALUE ...]

BUNDLE is a folder in bundles/, CONFIG one of its configs, such as train, evaluate or inference. Each OVERLAY is another
of its configs, such as quickstart, or a YAML file. Options are those of the bundle (python -m scripts.options BUNDLE)
and of MONAI's command. Results go below the bundle's folder, unless --bundle_root or --output_dir says otherwise;
other relative paths start from the current folder.

MONAI's command reads the config files before any code of ours runs; this one checks them first. Under torchrun it
adds the overlay multi_gpu_train to train. --recipe=table and --recipe=code, for train, are short for the overlays
recipe_table and recipe_code, under all others: the values of the paper's Table 3 and of its public code.
"""

import difflib
import gc
import os
import re
import runpy
import sys
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from common.cli import options_of
from common.configs import check
from common.errors import InputError, choice, report_in_one_line, show

__all__ = ["command"]

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
DISTRIBUTED = "multi_gpu_train.yaml"
RECIPES = {"text": None, "table": "recipe_table.yaml", "code": "recipe_code.yaml"}


def command(arguments: Sequence[str], is_distributed: bool = False) -> list[str]:
    """The arguments of `python -m monai.bundle` that run what a command line of this module asks for.

    Args:
        arguments: the command line, without the program's name.
        is_distributed: whether torchrun started the process.

    Raises:
        InputError: there is no such bundle or config.
    """
    words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    options = list(arguments[len(words) :])
    bundle = _one_of("BUNDLE", words[:1], [folder.name for folder in BUNDLES.iterdir()])
    configs = Path(os.path.relpath(BUNDLES / bundle / "configs"))
    known = [file.stem for file in configs.glob("*.yaml")]
    files = [configs / f"{_one_of('CONFIG', words[1:2], known)}.yaml"]
    positional, given = options_of(options)
    if words[1] == "train" and "recipe" in given:
        recipe = choice("--recipe", given["recipe"], RECIPES)
        files += [configs / recipe] if recipe else []
        place = next(number for number, option in enumerate(options) if re.match("--recipe(=|$)", option))
        del options[place : place + (1 if "=" in options[place] else 2)]
    for overlay in words[2:]:
        is_file = Path(overlay).suffix in (".yaml", ".yml", ".json")
        files.append(Path(overlay) if is_file else configs / f"{_one_of('OVERLAY', [overlay], known)}.yaml")
    if is_distributed and words[1] == "train" and configs / DISTRIBUTED not in files:
        files.append(configs / DISTRIBUTED)
    if positional:
        raise InputError(f"argument {positional[0]}: expected --OPTION=VALUE; configs stand before the options")
    if "config_file" in given:
        raise InputError(f"--config_file={given['config_file']}: expected overlays as words, after BUNDLE CONFIG")
    root = [] if "bundle_root" in given else [f"--bundle_root={configs.parent}"]
    return ["run", f"--config_file={[str(file) for file in files]}".replace(", ", ","), *root, *options]


def _one_of(what: str, words: Sequence[str], known: Sequence[str]) -> str:
    """The word, if it is known."""
    if words and words[0] in known:
        return words[0]
    near = difflib.get_close_matches(words[0], known, n=1) if words else []
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
    raise InputError(f"unknown {what.lower()} '{words[0]}'; {hint}" if words else f"{what}: missing; {hint}")


def main() -> None:
    """Check the configs and options, then run MONAI's command in this process."""
    report_in_one_line()
    if {"-h", "--help"} & set(sys.argv[1:]):
        show(*str(__doc__).splitlines())
        return
    words = command(sys.argv[1:], is_distributed="RANK" in os.environ)
    gc.disable()  # the objects of PyTorch and MONAI are no garbage: looking for some takes a third of their import
    check(options_of(words)[1])
    gc.freeze()  # nor are they at the end, or in the processes that read
    gc.enable()
    sys.argv[1:] = words
    warnings.filterwarnings("ignore", message="parsing config_file")  # are trusted: they are this repository's
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
