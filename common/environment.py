"""Set up the process of a command."""

import os

from . import ROOT
from .errors import report_in_one_line
from .memory import use_huge_pages, use_open_files


def prepare_process() -> None:
    """Set up error reports, memory and limits of this process; call this before anything imports PyTorch or Matplotlib.

    TF32 is off unless the environment sets NVIDIA_TF32_OVERRIDE.
    """
    use_huge_pages()
    use_open_files()
    report_in_one_line()
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # DIFF-21
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP reads it when PyTorch loads: no spinning threads
    os.environ["MPLBACKEND"] = "agg"


def child_environment() -> dict[str, str]:
    """Return variables for a child process that runs a module of this checkout in the current folder.

    A folder `common` or `scripts` of the current folder is not imported.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
