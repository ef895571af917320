"""Run a bundle as `python -m monai.bundle run` does, but report every mistake in one line.

    python -m scripts.run BUNDLE CONFIG [OVERLAY ...] [--OPTION=VALUE ...]

BUNDLE is a folder in bundles/, CONFIG one of its configs, such as train, evaluate or inference. Each OVERLAY is another
of its configs, such as quickstart, or a YAML file. Options are those of the bundle (python -m scripts.options BUNDLE)
and --tracking=mlflow; their text stays text, whatever it begins with. Results go below the bundle's folder, unless
--bundle_root or --output_dir says otherwise; other relative paths start from the current folder.

MONAI's command checks only the values of the options; this one checks files, keys, references and components first, and
names the overlay or option of a component that cannot be built. It reports every other failure in one line, too; an
unexpected one has status 1, and its traceback is in error.log in the output folder.
Under torchrun it adds the overlay multi_gpu_train to train.
--recipe=table and --recipe=code, for train, add the overlays recipe_table and recipe_code before all others: the values
of the paper's Table 3 and of its public code. --recipe=robust, of the fine-tunings, adds recipe_robust.
"""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from common.cli import log_unexpected, options_of
from common.configs import Change, as_data, check, check_values, parsed
from common.data import datalists
from common.environment import check_help, prepare_process
from common.errors import (
    InputError,
    chain_of,
    choice,
    did_you_mean,
    explained,
    let_interrupts_raise,
    one_line,
    place_in_user_code,
    shortened,
    show,
)
from common.memory import explain_out_of_memory
from common.options import OPTIONS
from common.resolver import key_of
from common.training.length import length

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
DISTRIBUTED = "multi_gpu_train.yaml"
RECIPES = {"text": None, "table": "recipe_table.yaml", "code": "recipe_code.yaml", "robust": "recipe_robust.yaml"}


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
        raise InputError(f"argument {positional[0]}", expected="--OPTION=VALUE; configs stand before the options")
    if "config_file" in given:
        raise InputError("--config_file", expected="overlays as words, after BUNDLE CONFIG", value=given["config_file"])
    if empty := next((name for name in given if f"--{name}=" in arguments), None):
        raise InputError(f"--{empty}", "no value")
    options = {"bundle_root": str(configs.parent)} | {name: parsed(name, value) for name, value in given.items()}
    return [str(file) for file in files], options


def check_early(files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
    """Refuse what is wrong with the options alone: within a second, as nothing slow is imported yet."""
    values = check_values(files, options)
    if all(isinstance(vars(values).get(name), int) for name in ("iterations", "val_interval", "warmup_iterations")):
        length(values, cases=1, cases_per_step=1)
    if isinstance(datalist := options.get("datalist"), str):
        datalists.read(datalist)


def _one_of(what: str, words: Sequence[str], known: Sequence[str]) -> str:
    """Return the word if it is known, else raise an InputError."""
    if words and words[0] in known:
        return words[0]
    expected = f"expected one of {', '.join(sorted(known))}"
    if not words:
        raise InputError(what, f"missing; {expected}")
    raise InputError(f"unknown {what.lower()} '{words[0]}'{did_you_mean(words[0], known, otherwise=expected)}")


@contextmanager
def blaming(changes: Sequence[Change]) -> Iterator[None]:
    """Raise an InputError if what MONAI failed to resolve is in an overlay or option, and no bug of a user's code.

    A note on any other exception names the components that were changed.
    """
    try:
        yield
    except Exception as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises when a DataLoader's worker dies
        key, cause = f"{key_of(error)}::", [*chain_of(error)][-1]
        reason = explained(error) or explain_out_of_memory(error, {}) or place_in_user_code(error)
        if not reason and not key.startswith("run::"):  # whose steps are the run itself
            for change in reversed(changes):
                is_changed = key.startswith(f"{change.id}::") or change.id.startswith(key)
                if is_changed or (change.id == "imports" and isinstance(cause, NameError)):
                    raise change.error(one_line(cause)) from error
        ours = f"{os.path.relpath(BUNDLES)}/"
        users = [each for each in changes if each.id.partition("::")[0] not in OPTIONS]
        if users := [each for each in users if not each.place.startswith(ours)]:
            note = f"changed here: {shortened([str(each.error()) for each in users], most=2)}"
            if "cannot be prepared" in reason:  # maybe by what was changed
                raise InputError(f"{reason}; {note}") from error
            error.add_note(note)
        raise


def main() -> None:
    """Check configs and options, then run MONAI's command."""
    values: dict[str, Any] = {}
    prepare_process(partial(log_unexpected, options=values))
    if {"-h", "--help"} & set(sys.argv[1:]):
        check_help()
        show(*str(__doc__).splitlines())
        return
    files, options = read_command_line(sys.argv[1:], is_distributed="RANK" in os.environ)
    values |= options
    check_early(files, options)
    gc.disable()  # the collector takes a third of the import of PyTorch and MONAI, and finds nothing
    changes = check(files, options)
    from monai.bundle import create_workflow

    gc.freeze()  # exclude these objects from later collections, also in DataLoader workers
    gc.enable()
    warnings.filterwarnings("ignore", message="parsing config_file")  # `check` has warned of those that are not ours
    let_interrupts_raise()
    with blaming(changes):
        workflow = create_workflow(config_file=files, **{name: as_data(name, value) for name, value in options.items()})
        values |= vars(workflow.parser.get_parsed_content("options"))
        workflow.run()
        workflow.finalize()


if __name__ == "__main__":
    main()
