"""Set environment variables for a command; refuse variables that would break the command or change its results."""

import os
import sys
from contextlib import chdir
from importlib import import_module
from pathlib import Path

from . import ROOT
from .errors import Hook, InputError, report_in_one_line
from .memory import use_huge_pages, use_open_files

if any(name.startswith("TQDM_") for name in os.environ):  # otherwise imported late: it is half of a command's startup
    import_module(f"{__package__}.bars")  # refuses variables that tqdm cannot use, before PyTorch imports tqdm

# Variables that change MONAI's results, with the only value that the bundles support
MONAI = {
    "MONAI_ALLOW_MISSING_REFERENCE": "0",
    "MONAI_EVAL_EXPR": "1",
    "MONAI_TRACE_TRANSFORM": "1",
    "USE_META_DICT": "0",
}
MATPLOTLIB = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}  # ignore user settings, also in child processes


def prepare_process(otherwise: Hook | None = None) -> None:
    """Set up error reports, memory and limits of this process; call this before anything imports MONAI or Matplotlib.

    Report exceptions in one line (`otherwise` as in `report_in_one_line`), set up memory and the limit of open files,
    make Matplotlib ignore the user's settings, and turn off TF32 unless the environment sets NVIDIA_TF32_OVERRIDE.

    Raises:
        InputError: warnings are errors, a variable changes MONAI's results, or the limit of open files is too low.
    """
    use_huge_pages()
    report_in_one_line(otherwise)
    use_open_files()
    for name, value in MONAI.items():
        if os.environ.get(name, value) != value:
            raise InputError(name, expected=f"{value} or unset", value=os.environ[name])
    actions = [option.partition(":")[0] for option in sys.warnoptions]
    if any(action and "error".startswith(action) for action in actions):
        variable = "PYTHONWARNINGS=" + os.environ["PYTHONWARNINGS"] if "PYTHONWARNINGS" in os.environ else "-W error"
        raise InputError(variable, "libraries warn in every run", "a value that does not turn warnings into errors")
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # DIFF-21
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP reads it when PyTorch loads: no spinning threads
    os.environ.update(MATPLOTLIB)
    if Path("matplotlibrc").is_file():  # Matplotlib would read this file when it is imported here
        with chdir("/"):
            import_module(f"{__package__}.drawing")


def child_environment() -> dict[str, str]:
    """Return variables for a child process that runs a module of this checkout in the current folder.

    A folder `common` or `scripts` of the current folder is not imported.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def check_help() -> None:
    """Refuse --help if Python has removed the docstrings, which hold the help texts."""
    if sys.flags.optimize > 1:
        variable = "PYTHONOPTIMIZE=" + os.environ["PYTHONOPTIMIZE"] if "PYTHONOPTIMIZE" in os.environ else "-OO"
        raise InputError(variable, "removes the help texts", "1, -O or unset")
