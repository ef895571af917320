"""Run a bundle as `python -m monai.bundle run` does, but report every mistake in one line.

    python -m scripts.run BUNDLE CONFIG [OVERLAY ...] [--OPTION=VALUE ...]

BUNDLE is a folder in bundles/, CONFIG one of its configs, such as train, evaluate or inference. Each OVERLAY is another
of its configs, such as quickstart, or a YAML file. Options are those of the bundle (python -m scripts.options BUNDLE)
and of MONAI's command. Results go below the bundle's folder, unless --bundle_root or --output_dir says otherwise;
other relative paths start from the current folder.

MONAI's command checks only the values of the options; this one checks files, keys, references and components first. It
reports every other failure in one line, too; the traceback of an unexpected one is in error.log in the output folder.
Under torchrun it adds the overlay multi_gpu_train to train.
--recipe=table and --recipe=code, for train, are short for the overlays recipe_table and recipe_code, under all others:
the values of the paper's Table 3 and of its public code.
"""

import gc
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from common.cli import options_of
from common.configs import check, parsed
from common.errors import (
    InputError,
    chain_of,
    choice,
    did_you_mean,
    explained,
    one_line,
    report_in_one_line,
    show,
)
from common.files import atomic_write
from common.memory import explain_out_of_memory

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
DISTRIBUTED = "multi_gpu_train.yaml"
RECIPES = {"text": None, "table": "recipe_table.yaml", "code": "recipe_code.yaml"}


def read_command_line(arguments: Sequence[str], is_distributed: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into config files and options for `monai.bundle.create_workflow`."""
    words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    bundle = _one_of("BUNDLE", words[:1], [folder.name for folder in BUNDLES.iterdir()])
    configs = Path(os.path.relpath(BUNDLES / bundle / "configs"))
    known = [file.stem for file in configs.glob("*.yaml")]
    files = [configs / f"{_one_of('CONFIG', words[1:2], known)}.yaml"]
    positional, given = options_of(arguments[len(words) :])
    if words[1] == "train" and (recipe := choice("recipe", given.pop("recipe", "text"), RECIPES)):
        files.append(configs / recipe)
    for overlay in words[2:]:
        is_file = Path(overlay).suffix in (".yaml", ".yml", ".json")
        files.append(Path(overlay) if is_file else configs / f"{_one_of('OVERLAY', [overlay], known)}.yaml")
    if is_distributed and words[1] == "train" and configs / DISTRIBUTED not in files:
        files.append(configs / DISTRIBUTED)
    if positional:
        raise InputError(f"argument {positional[0]}: expected --OPTION=VALUE; configs stand before the options")
    if "config_file" in given:
        raise InputError(f"--config_file={given['config_file']}: expected overlays as words, after BUNDLE CONFIG")
    options = {"bundle_root": str(configs.parent)} | {name: parsed(value) for name, value in given.items()}
    return [str(file) for file in files], options


def _one_of(what: str, words: Sequence[str], known: Sequence[str]) -> str:
    """Return the word if it is known, else raise an InputError."""
    if words and words[0] in known:
        return words[0]
    expected = f"expected one of {', '.join(sorted(known))}"
    if not words:
        raise InputError(f"{what}: missing; {expected}")
    raise InputError(f"unknown {what.lower()} '{words[0]}'{did_you_mean(words[0], known, otherwise=expected)}")


def main() -> None:
    """Check configs and options, then run MONAI's command."""
    report_in_one_line()
    if {"-h", "--help"} & set(sys.argv[1:]):
        show(*str(__doc__).splitlines())
        return
    files, options = read_command_line(sys.argv[1:], is_distributed="RANK" in os.environ)
    gc.disable()  # the collector takes a third of the import of PyTorch and MONAI, and finds nothing
    check(files, options)
    from monai.bundle import create_workflow

    gc.freeze()  # exclude these objects from later collections, also in DataLoader workers
    gc.enable()
    warnings.filterwarnings("ignore", message="parsing config_file")  # configs are this repository's and trusted
    values = dict(options)
    try:
        workflow = create_workflow(config_file=files, **options)
        values |= vars(workflow.parser.get_parsed_content("options"))
        workflow.run()
        workflow.finalize()
    except Exception as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises when a DataLoader's worker dies
        if explained(error) is not None:
            raise
        raise InputError(explain_out_of_memory(error, values) or logged(error, values)) from error


def logged(error: Exception, options: Mapping[str, Any]) -> str:
    """An unexpected exception in one line, after its traceback was written to a file in the output folder."""
    folder = Path(options.get("output_dir") or f"{options['bundle_root']}/eval")
    rank = os.environ.get("RANK", "")
    links = list(chain_of(error))
    component = re.findall(r"Failed to instantiate component '(.+?)'", "\n".join(map(str, links)))
    with atomic_write(folder / f"error{rank}.log") as file:
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    culprit = f"{component[-1]}: " if component else ""
    return f"{culprit}{one_line(links[-1])}; the traceback is in {folder / f'error{rank}.log'}"


if __name__ == "__main__":
    main()
