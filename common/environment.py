"""The environment of a command: variables that would stop or change it are set, or refused in one line."""

import os
import sys
from contextlib import chdir
from importlib import import_module
from pathlib import Path

from .errors import Hook, InputError, report_in_one_line
from .memory import use_huge_pages, use_open_files

if any(name.startswith("TQDM_") for name in os.environ):  # else tqdm, half of the start of a command, is imported late
    import_module(f"{__package__}.bars")  # refuses variables that tqdm cannot use; PyTorch imports tqdm, too

# Variables that change what MONAI computes, and the one value that the bundles work with
MONAI = {
    "MONAI_ALLOW_MISSING_REFERENCE": "0",
    "MONAI_EVAL_EXPR": "1",
    "MONAI_TRACE_TRANSFORM": "1",
    "USE_META_DICT": "0",
}
MATPLOTLIB = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}  # no settings of the user, in child processes, too


def prepare_process(otherwise: Hook | None = None) -> None:
    """Prepare a command or a config's run; call this before anything imports MONAI or Matplotlib.

    Exceptions are reported in one line (`otherwise` as in `report_in_one_line`), memory and open files are set up, and
    Matplotlib's settings are its own defaults. A GPU computes float32 without TF32, unless the environment allows it. A
    user without a name gets one when `common` is imported.

    Raises:
        InputError: a variable makes warnings errors, or changes what MONAI computes.
    """
    use_huge_pages()
    report_in_one_line(otherwise)
    use_open_files()
    for name, value in MONAI.items():
        if os.environ.get(name, value) != value:
            raise InputError(name, expected=f"{value}, or no such variable", value=os.environ[name])
    actions = [option.partition(":")[0] for option in sys.warnoptions]
    if any(action and "error".startswith(action) for action in actions):
        variable = "PYTHONWARNINGS=" + os.environ["PYTHONWARNINGS"] if "PYTHONWARNINGS" in os.environ else "-W error"
        raise InputError(variable, "libraries warn in every run", "no warnings that are errors")
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # DIFF-21
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP reads it with PyTorch: no spinning threads
    os.environ.update(MATPLOTLIB)
    if Path("matplotlibrc").is_file():  # of the current folder, which Matplotlib reads first
        with chdir("/"):
            import_module(f"{__package__}.drawing")


def check_help() -> None:
    """Refuse --help where Python has removed its texts, the docstrings."""
    if sys.flags.optimize > 1:
        variable = "PYTHONOPTIMIZE=" + os.environ["PYTHONOPTIMIZE"] if "PYTHONOPTIMIZE" in os.environ else "-OO"
        raise InputError(variable, "removes the texts of --help", "1, -O or neither")
