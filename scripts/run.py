"""Run a bundle as `python -m monai.bundle run` does, but report every mistake in one line.

    python -m scripts.run BUNDLE CONFIG [OVERLAY ...] [--OPTION=VALUE ...]

BUNDLE is a folder in bundles/, CONFIG one of its configs, such as train, evaluate or inference. Each OVERLAY is a
further config, such as quickstart, or a YAML file. Options are those of the bundle (python -m scripts.options BUNDLE)
and --tracking=mlflow; text in their values is never evaluated. Results go below the bundle's folder, unless
--bundle_root or --output_dir says otherwise; other relative paths start from the current folder.

MONAI's command checks only option values; this command first checks files, keys, references and components, and names
the overlay or option behind a component that cannot be built. Every failure is reported in one line; an unexpected
failure exits with status 1 and writes its traceback to error.log in the output folder.
Under torchrun, train gets the overlay multi_gpu_train.
--recipe=table and --recipe=code, for train, add the overlays recipe_table and recipe_code before all others: the values
of the paper's Table 3 and of its public code. --recipe=robust, only for fine-tuning, adds recipe_robust.
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
from common.configs import BUNDLES, Change, as_data, bundles_with, check, check_values, naming_overlays, parsed
from common.data import datalists
from common.environment import check_help, prepare_process
from common.errors import (
    ArgumentError,
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
from common.files import expand_home, why_no_file, why_no_folder
from common.memory import explain_out_of_memory
from common.options import OPTIONS
from common.resolver import key_of
from common.training.length import length
from common.values import optional

DISTRIBUTED = "multi_gpu_train.yaml"
READ = dict.fromkeys(("dataset_dir", "store"), (Path.is_dir, why_no_folder)) | dict.fromkeys(
    ("pretrained", "checkpoint"), (Path.is_file, why_no_file)
)  # option -> test of its path, and description of a path that fails the test
RECIPES = {"text": None, "table": "recipe_table.yaml", "code": "recipe_code.yaml", "robust": "recipe_robust.yaml"}


def read_command_line(arguments: Sequence[str], is_distributed: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into config files and options for `monai.bundle.create_workflow`."""
    words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    bundle = _check_word("BUNDLE", words[:1], bundles_with("train.yaml"))
    configs = Path(os.path.relpath(BUNDLES / bundle / "configs"))
    names = [file.stem for file in configs.glob("*.yaml")]
    files = [configs / f"{_check_word('CONFIG', words[1:2], names)}.yaml"]
    positional, named = options_of(arguments[len(words) :])
    if words[1] == "train" and (recipe := choice("recipe", named.pop("recipe", "text"), RECIPES)):
        files.append(configs / recipe)
    for overlay in words[2:]:
        is_file = Path(overlay).suffix in (".yaml", ".yml", ".json")
        files.append(Path(overlay) if is_file else configs / f"{_check_word('OVERLAY', [overlay], names)}.yaml")
    if is_distributed and words[1] == "train" and configs / DISTRIBUTED not in files:
        files.append(configs / DISTRIBUTED)
    if positional:
        raise InputError(f"argument {positional[0]}", expected="--OPTION=VALUE; configs come before the options")
    if "config_file" in named:
        raise InputError("--config_file", expected="overlays as words, after BUNDLE CONFIG", value=named["config_file"])
    if empty := next((name for name in named if f"--{name}=" in arguments), None):
        raise InputError(f"--{empty}", "no value")
    options = {"bundle_root": str(configs.parent)} | {name: parsed(name, value) for name, value in named.items()}
    return [str(file) for file in files], options


def check_early(files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
    """Raise an InputError for an invalid option or datalist, within a second, before slow imports."""
    values = check_values(files, options)
    if all(isinstance(vars(values).get(name), int) for name in ("iterations", "val_interval", "warmup_iterations")):
        length(values, cases=1, cases_per_step=1)
    if isinstance(datalist := options.get("datalist"), str):
        datalists.read(datalist)


def check_paths(options: Mapping[str, Any]) -> None:
    """Refuse options whose input file or folder does not exist."""
    for name, (exists, why_not) in READ.items():
        value = optional(options.get(name))
        for path in [value] if isinstance(value, str) else value or ():
            target = expand_home(path, f"--{name}={path}")
            if not exists(target):
                raise ArgumentError(name, path, why_not(target))


def check_all(files: Sequence[str | Path], options: Mapping[str, Any]) -> list[Change]:
    """Raise an InputError for any invalid option, path or config; return the changes from overlays and options."""
    check_early(files, options)
    check_paths(options)
    return check(files, options)


def _check_word(what: str, words: Sequence[str], names: Sequence[str]) -> str:
    """Return the first word if it is in `names`, else raise an InputError."""
    if words and words[0] in names:
        return words[0]
    expected = f"expected one of {', '.join(sorted(names))}"
    if not words:
        raise InputError(what, f"missing; {expected}")
    raise InputError(f"unknown {what.lower()} '{words[0]}'{did_you_mean(words[0], names, otherwise=expected)}")


@contextmanager
def blaming(changes: Sequence[Change]) -> Iterator[None]:
    """Context manager: raise an InputError that names the overlay or option behind a component that cannot be built.

    Other exceptions get a note that lists the user's changes.
    """
    try:
        yield
    except Exception as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises when a DataLoader's worker dies
        key, cause = f"{key_of(error)}::", [*chain_of(error)][-1]
        reason = explained(error) or explain_out_of_memory(error, {}) or place_in_user_code(error)
        if not reason and not key.startswith("run::"):  # the steps of the run itself
            for change in reversed(changes):
                is_changed = key.startswith(f"{change.id}::") or change.id.startswith(key)
                if is_changed or (change.id == "imports" and isinstance(cause, NameError)):
                    raise change.error(one_line(cause)) from error
        ours = f"{os.path.relpath(BUNDLES)}/"
        users = [change for change in changes if change.id.partition("::")[0] not in OPTIONS]
        if users := [change for change in users if not change.source.startswith(ours)]:
            note = f"changed here: {shortened([str(change.error()) for change in users], most=2)}"
            if "cannot be prepared" in reason:  # perhaps due to a change
                raise InputError(f"{reason}; {note}") from error
            error.add_note(note)
        raise


def main() -> None:
    """Run the bundle and config named on the command line, or print the help."""
    values: dict[str, Any] = {}
    prepare_process(partial(log_unexpected, options=values))
    if {"-h", "--help"} & set(sys.argv[1:]):
        check_help()
        show(*str(__doc__).splitlines())
        return
    files, options = read_command_line(sys.argv[1:], is_distributed="RANK" in os.environ)
    values |= options
    with naming_overlays(files[1:], options):
        run(files, options, values)


def run(files: Sequence[str], options: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Check configs and options, then run the workflow; add the values of all its options to `values`."""
    gc.disable()  # garbage collection takes a third of the time to import PyTorch and MONAI, and frees nothing
    changes = check_all(files, options)
    from monai.bundle import create_workflow

    gc.freeze()  # exclude these objects from later collections, also in DataLoader workers
    gc.enable()
    warnings.filterwarnings("ignore", message="parsing config_file")  # `check` has already warned of foreign configs
    let_interrupts_raise()
    with blaming(changes):
        workflow = create_workflow(config_file=files, **{name: as_data(name, value) for name, value in options.items()})
        values |= vars(workflow.parser.get_parsed_content("options"))
        workflow.run()
        workflow.finalize()


if __name__ == "__main__":
    main()
