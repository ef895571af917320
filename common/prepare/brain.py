"""Brain extraction by deepbet, HD-BET or SynthStrip, on the grid of a raw scan."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ..data.volumes import write_volume
from ..errors import InputError
from .volumes import Volume

DEEPBET = "deepbet"
# Program -> its command on a CPU or a GPU; {scan} and {mask} are files
PROGRAMS = {"hd-bet": ("hd-bet",), "synthstrip": ("mri_synthstrip", "nipreps-synthstrip")}
BRAINS = (DEEPBET, *PROGRAMS, "none")


def is_pattern(brain: str) -> bool:
    """Whether `--brain` is a pattern of mask file names, such as *_brain.nii.gz, and not a method."""
    return "*" in brain


def check_installed(method: str) -> None:
    """Check that the program for `--brain` is installed."""
    if method in PROGRAMS:
        _program(method)


def _program(method: str) -> str:
    found = next(filter(None, map(shutil.which, PROGRAMS[method])), None)
    if found is None:
        names = " or ".join(PROGRAMS[method])
        raise InputError(f"--brain={method}: no program {names} on the PATH; expected it, or --brain={DEEPBET}")
    return found


def brain_of(scan: Volume, method: str, device: str = "cpu") -> NDArray[np.bool_]:
    """The brain of a raw scan, as a mask on its grid.

    deepbet (Fisch et al., Computers in Biology and Medicine 2024) is for T1 of adults; hd-bet (Isensee et al., HBM
    2019) and synthstrip (Hoopes et al., NeuroImage 2022) take any MRI. Raises InputError if the program is missing,
    fails or finds no brain.
    """
    mask = _by_deepbet(scan, device) if method == DEEPBET else _by_program(scan, method, device)
    if not mask.any():
        raise InputError(f"{method}: no brain found; expected a head")
    return mask


def mirrored_brain(scan: Volume, device: str = "cpu") -> NDArray[np.bool_]:
    """The brain in a T1 that is mirrored left to right, by deepbet: a second opinion, empty if none is found.

    The mask is on the grid of the scan.
    """
    try:
        return _by_deepbet(Volume(scan.array, np.diag([-1.0, 1, 1, 1]) @ scan.affine), device)
    except InputError:
        return np.zeros(scan.array.shape, bool)


@cache
def _deepbet(device: str) -> Any:
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=device == "cpu")


def _by_deepbet(scan: Volume, device: str) -> NDArray[np.bool_]:
    try:
        _, mask, _ = _deepbet(device).run(nibabel.Nifti1Image(scan.array.astype(np.float32), scan.affine))
    except (AssertionError, ValueError) as error:  # deepbet 1.0.2 found no brain
        raise InputError(f"{DEEPBET}: no brain found; expected a T1 of a head") from error
    return np.asarray(mask.dataobj) > 0


def _by_program(scan: Volume, method: str, device: str) -> NDArray[np.bool_]:
    program = _program(method)
    with TemporaryDirectory() as folder:
        source, result = Path(folder, "head.nii.gz"), Path(folder, "brain.nii.gz")
        write_volume(source, scan.array.astype(np.float32), scan.affine, compresslevel=1)
        mask = Path(folder, "brain_bet.nii.gz")
        if method == "hd-bet":
            options = ["-o", str(result), "-device", device, "--save_bet_mask", "--no_bet_image"]
            options += ["--disable_tta"] if device == "cpu" else []
        else:
            options = ["-m", str(mask), *(["-g"] if device == "cuda" else [])]
        ended = subprocess.run([program, "-i", str(source), *options], capture_output=True, text=True, check=False)
        if ended.returncode or not mask.is_file():
            last = (ended.stderr.strip() or ended.stdout.strip() or "no message").splitlines()[-1]
            raise InputError(f"{method}: status {ended.returncode} ({last}); expected a brain mask")
        image = nibabel.Nifti1Image.from_filename(mask)
        if image.shape != scan.array.shape:
            raise InputError(f"{method}: a mask of shape {image.shape}; expected {scan.array.shape}")
        return np.asarray(image.dataobj) > 0.5
