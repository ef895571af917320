"""Lay out public scans of real heads as data sets: `python -m studies.real.collect --clones=DIR --output=DIR`."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from tqdm import tqdm

from common.data.scan_checks import AFFINE_TOLERANCE, read_scan
from common.data.volumes import forms_of, write_volume
from common.errors import InputError, show
from scripts import cli
from scripts.layouts.patterns import Pattern

LABELS = "seg"
# Region -> label values in DLMUSE's label maps, which follow MUSE (Doshi et al., NeuroImage 2016)
MUSE = {
    "ventricles": (4, 11, 49, 50, 51, 52),
    "deep_grey": (23, 30, 36, 37, 55, 56, 57, 58, 59, 60),
    "hippocampus": (31, 32, 47, 48),  # and amygdala
}


@dataclass(frozen=True)
class Source:
    """A public data set in a GitHub repository: licence, citation, and path templates of its files.

    Attributes:
        files: path templates by modality, and for `LABELS`.
        target: template of the paths of output files.
        one_grid: whether to skip subjects with files on different grids.
        shape: voxels of the T1; subjects with a T1 of a different shape are skipped.
        subject: regular expression of subject names.
    """

    repository: str
    licence: str
    citation: str
    description: str
    files: Mapping[str, tuple[str, ...]]
    target: str = "{subject}/{subject}_{kind}.nii.gz"
    one_grid: bool = False
    shape: tuple[int, int, int] | None = None
    subject: str = "[A-Za-z0-9-]+?"


NICHART = "CBICA/NiChart_Project"
DEMO = "sample_datasets/demo_dataset"
TEST = "test_data/processed/IXI"
SETS = {
    "ixi": Source(
        NICHART,
        "CC BY-SA 3.0",
        "IXI, brain-development.org; labels: DLMUSE, CBICA, University of Pennsylvania (MUSE: Doshi et al., NeuroImage"
        " 2016).",
        "Adults, T1, whole heads, 2 mm; ventricles, deep grey matter, hippocampus with amygdala (automatic labels).",
        {
            "T1": tuple(f"{folder}/{{subject}}-*_T1.nii.gz" for folder in (f"{DEMO}_IXI/t1", f"{TEST}/Nifti/T1")),
            LABELS: tuple(
                f"{folder}/{{subject}}-*_T1_DLMUSE.nii.gz" for folder in (f"{DEMO}_IXI/dlmuse_seg", f"{TEST}/DLMUSE")
            ),
        },
        "{subject}_{kind}.nii.gz",
        one_grid=True,
        shape=(120, 120, 90),  # of nearly all scans
    ),
    "wmh": Source(
        NICHART,
        "the terms of NiChart; the origin of the people is not stated",
        "NiChart, CBICA, University of Pennsylvania; labels: DLWMLS.",
        "T1 and FLAIR, whole heads, 2 mm, as scanned; lesions of the white matter on FLAIR's grid (automatic labels).",
        {
            kind: (f"{DEMO}/{folder}/{{subject}}_*.nii.gz",)
            for kind, folder in (("T1", "t1"), ("FLAIR", "fl"), (LABELS, "nichart_dlwmls_out/DLWMLS_FLAIR"))
        },
    ),
    "tumour": Source(
        "JeroenBertels/deepvoxnet2",
        "the terms of BraTS",
        "BraTS 2018: Menze et al., IEEE TMI 2015; Bakas et al., Scientific Data 2017; packed by deepvoxnet2.",
        "Gliomas, FLAIR and T1, 1 mm, stripped; whole tumour, by experts.",
        {
            kind: (f"**/{{subject}}/{name}.nii.gz",)
            for kind, name in (("FLAIR", "FLAIR"), ("T1", "T1"), (LABELS, "GT_W"))
        },
        one_grid=True,
        subject=r"case_\d+",
    ),
}


def collect(clones: str, output: str) -> None:
    """Lay out three public data sets of real scans for `python -m scripts.datalists generic`.

    Each data set becomes a folder in OUTPUT, with licence and citation in SOURCE.md. Existing folders stay as they are;
    data sets without a clone are skipped.

    Args:
        clones: folder of clones, each made by `git clone --bare https://github.com/OWNER/NAME` (CBICA/NiChart_Project
            for ixi and wmh, JeroenBertels/deepvoxnet2 for tumour).
        output: folder for the data sets.
    """
    for name, source in SETS.items():
        clone, folder = Path(clones) / f"{source.repository.rpartition('/')[2]}.git", Path(output) / name
        if folder.exists():
            show(f"{name}: {folder} exists; unchanged")
        elif not clone.is_dir():
            show(f"{name}: no clone of {source.repository} in {clones}; left out")
        else:
            show(f"{name}: {_lay_out(source, clone, folder)} subjects in {folder}; {source.licence}")


def _git(clone: Path, *words: str) -> bytes:
    return subprocess.run(["git", f"--git-dir={clone}", *words], check=True, stdout=subprocess.PIPE).stdout


def _files(clone: Path) -> dict[str, str]:
    """Return, by path, the hash of the newest version of each file in the clone's history."""
    changes = _git(clone, "log", "--all", "-m", "-z", "--raw", "--no-abbrev", "--no-renames", "--format=")
    entries = changes.decode(errors="replace").split("\0")
    digests: dict[str, str] = {}
    for change, path in zip(entries[::2], entries[1::2], strict=False):
        digest, status = change.split()[3:]
        if status in ("A", "M"):
            digests.setdefault(path, digest)
    return digests


def _lay_out(source: Source, clone: Path, folder: Path) -> int:
    """Write a data set to a temporary folder, rename the complete folder, and return the number of subjects."""
    files = _files(clone)
    subjects: dict[str, dict[str, str]] = {}
    templates = [
        (kind, Pattern(text, {"subject": source.subject})) for kind, texts in source.files.items() for text in texts
    ]
    for path in sorted(files):
        for kind, template in templates:
            if named := template.match(path):
                subjects.setdefault(named["subject"], {}).setdefault(kind, files[path])
    complete = {name: kinds for name, kinds in sorted(subjects.items()) if kinds.keys() == source.files.keys()}
    partial = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count = 0
    for name, kinds in tqdm(complete.items(), desc=folder.name, unit="subject"):
        scans = {kind: _scan(_git(clone, "cat-file", "blob", digest)) for kind, digest in kinds.items()}
        if _is_usable(scans, source):
            _write(scans, source, partial, name.replace("_", ""))
            count += 1
    if not count:
        raise InputError(f"--clones: {clone}: no scans of {folder.name}; expected a clone with its history")
    lines = (source.description, f"From https://github.com/{source.repository}", source.licence, source.citation)
    (partial / "SOURCE.md").write_text("\n\n".join((f"# {folder.name}", *lines)) + "\n", encoding="utf-8")
    if folder.name == "ixi":
        regions = [f"{name}: {{labels: [{label}]}}\n" for label, name in enumerate(MUSE, 1)]
        (partial / "regions.yaml").write_text("".join(regions), encoding="utf-8")
    partial.rename(folder)
    return count


def _scan(content: bytes) -> tuple[Any, np.ndarray] | None:
    """Return image and voxels of a gzipped NIfTI; None if the file is broken or a Git LFS pointer."""
    with NamedTemporaryFile(suffix=".nii.gz") as file:
        Path(file.name).write_bytes(content)
        try:
            return read_scan(file.name, np.float32)
        except InputError:
            return None


def _is_usable(scans: Mapping[str, Any], source: Source) -> bool:
    if None in scans.values():
        return False
    first, voxels = scans["T1"]
    same = all(
        array.shape == voxels.shape and np.abs(scan.affine - first.affine).max() <= AFFINE_TOLERANCE
        for scan, array in scans.values()
    )
    return (same or not source.one_grid) and source.shape in (None, voxels.shape)


def _write(scans: Mapping[str, Any], source: Source, folder: Path, subject: str) -> None:
    volumes = {kind: voxels for kind, (_, voxels) in scans.items()}
    if source is SETS["ixi"]:
        values = volumes[LABELS].astype(int)
        volumes[LABELS] = sum(label * np.isin(values, members) for label, members in enumerate(MUSE.values(), 1))
        volumes["brain"] = values > 0
    else:
        volumes[LABELS] = volumes[LABELS] > 0.5
    for kind, voxels in volumes.items():
        array = voxels if kind in ("T1", "FLAIR") else voxels.astype(np.uint8)
        forms = forms_of(scans.get(kind, scans["T1"])[0])
        write_volume(folder / source.target.format(subject=subject, kind=kind), array, forms, compresslevel=1)


if __name__ == "__main__":
    cli.run(collect, "studies.real.collect")
