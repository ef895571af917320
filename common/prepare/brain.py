"""Where the brain is: by the template's mask, which a smooth deformation fits to the head, or by HD-BET."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from common.data.volumes import write_volume
from common.errors import InputError
from common.prepare.registration import pyramid, smooth
from common.prepare.targets import template_brain, template_mask
from common.prepare.volumes import Volume, from_image
from numpy.typing import NDArray

__all__ = ["HD_BET", "find_hd_bet", "hd_bet", "moved_mask", "near_brain"]

HD_BET = "hd-bet"
MARGIN = 4  # mm around the template's brain that registrations look at; the skull and fat lie farther out


@cache
def near_brain() -> sitk.Image:
    """The template's brain and 4 mm around it, 0 or 1."""
    return sitk.BinaryDilate(template_mask(), [MARGIN] * 3)


def moved_mask(scan: sitk.Image, transform: sitk.Transform, finest: float) -> Volume:
    """The share of brain (0 to 1) in each voxel of MNI space, for a head that is registered to the template.

    Args:
        scan: as `registration.intensities` gives it.
        transform: from MNI space to the scan.
        finest: edge of the result's voxels in mm; the scan has no finer detail.
    """
    grid = pyramid(template_mask(), [finest])[finest]
    head = sitk.Resample(scan, grid, transform, sitk.sitkLinear, 0.0)
    deformation = smooth(head, template_brain(), near_brain(), finest)
    mask = pyramid(sitk.Cast(template_mask(), sitk.sitkFloat32), [finest])[finest]
    return from_image(sitk.Resample(mask, grid, deformation, sitk.sitkLinear, 0.0, sitk.sitkFloat32))


def find_hd_bet() -> str:
    """The path of HD-BET's program.

    Raises:
        InputError: it is not installed.
    """
    found = shutil.which(HD_BET)
    if found is None:
        raise InputError(f"--brain={HD_BET}: no program {HD_BET} on the PATH; expected HD-BET 2, or --brain=template")
    return found


def hd_bet(head: Volume, device: str = "cpu") -> NDArray[np.bool_]:
    """The brain of a head in standard orientation, on its own grid, by HD-BET 2 (Isensee et al., HBM 2019).

    Raises:
        InputError: HD-BET is not installed, fails, or writes no mask on the grid of the head.
    """
    program = find_hd_bet()
    with TemporaryDirectory() as folder:
        source, result = Path(folder, "head.nii.gz"), Path(folder, "brain.nii.gz")
        write_volume(source, head.array.astype(np.float32), head.affine, compresslevel=1)
        command = [program, "-i", str(source), "-o", str(result), "-device", device, "--save_bet_mask"]
        command += ["--no_bet_image", *(["--disable_tta"] if device == "cpu" else [])]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        mask = Path(folder, "brain_bet.nii.gz")
        if ended.returncode or not mask.is_file():
            last = (ended.stderr.strip() or ended.stdout.strip() or "no message").splitlines()[-1]
            raise InputError(f"{HD_BET}: status {ended.returncode} ({last}); expected a brain mask")
        image = nibabel.Nifti1Image.from_filename(mask)
        if image.shape != head.array.shape:
            raise InputError(f"{HD_BET}: a mask of shape {image.shape}; expected {head.array.shape}")
        return np.asarray(image.dataobj) > 0.5
