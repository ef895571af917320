"""Lay out public scans of real heads as data sets: `python -m studies.real.collect --clones=DIR --output=DIR`."""

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

import numpy as np

from common.data.volumes import AFFINE_TOLERANCE, forms_of, read_scan, write_volume
from common.errors import InputError, show
from scripts import cli
from scripts.layouts.paths import compile_pattern
from scripts.yaml_files import read_yaml

LABELS = "seg"


DEFAULTS = {"target": "{subject}/{subject}_{kind}.nii.gz", "subject": "[A-Za-z0-9-]+?", "one_grid": False}
DEFAULTS |= {"shape": [], "regions": {}}
SOURCES = read_yaml(Path(__file__).with_name("sources.yaml"))  # which explains the fields
SETS = {name: SimpleNamespace(**{**DEFAULTS, **fields}) for name, fields in SOURCES.items()}


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


def _lay_out(source: SimpleNamespace, clone: Path, folder: Path) -> int:
    """Write a data set to a temporary folder, rename the complete folder, and return the number of subjects."""
    files = _files(clone)
    subjects: dict[str, dict[str, str]] = {}
    fields = {"subject": source.subject}
    templates = [(kind, compile_pattern(text, fields)) for kind, texts in source.files.items() for text in texts]
    for path in sorted(files):
        for kind, template in templates:
            if named := template.fullmatch(path):
                subjects.setdefault(named["subject"], {}).setdefault(kind, files[path])
    complete = {name: kinds for name, kinds in sorted(subjects.items()) if kinds.keys() == source.files.keys()}
    partial = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count = 0
    for name, kinds in complete.items():
        scans = {kind: _scan(_git(clone, "cat-file", "blob", digest)) for kind, digest in kinds.items()}
        if _is_usable(scans, source):
            _write(scans, source, partial, name.replace("_", ""))
            count += 1
    if not count:
        raise InputError(f"--clones: {clone}: no scans of {folder.name}; expected a clone with its history")
    lines = (source.description, f"From https://github.com/{source.repository}", source.licence, source.citation)
    (partial / "SOURCE.md").write_text("\n\n".join((f"# {folder.name}", *lines)) + "\n", encoding="utf-8")
    if source.regions:
        regions = [f"{name}: {{labels: [{label}]}}\n" for label, name in enumerate(source.regions, 1)]
        (partial / "regions.yaml").write_text("".join(regions), encoding="utf-8")
    partial.rename(folder)
    return count


def _scan(content: bytes) -> tuple[Any, np.ndarray] | None:
    """Return image and voxels of a gzipped NIfTI; None if the file is broken or a Git LFS pointer."""
    with NamedTemporaryFile(suffix=".nii.gz") as file, suppress(InputError):
        Path(file.name).write_bytes(content)
        return read_scan(file.name, np.float32)
    return None


def _is_usable(scans: Mapping[str, Any], source: SimpleNamespace) -> bool:
    if None in scans.values():
        return False
    first, voxels = scans["T1"]
    same = all(
        array.shape == voxels.shape and np.abs(scan.affine - first.affine).max() <= AFFINE_TOLERANCE
        for scan, array in scans.values()
    )
    return (same or not source.one_grid) and (not source.shape or voxels.shape == tuple(source.shape))


def _write(scans: Mapping[str, Any], source: SimpleNamespace, folder: Path, subject: str) -> None:
    volumes = {kind: voxels for kind, (_, voxels) in scans.items()}
    if source.regions:
        values = volumes[LABELS].astype(int)
        members = enumerate(source.regions.values(), 1)
        volumes[LABELS] = sum(label * np.isin(values, of_region) for label, of_region in members)
        volumes["brain"] = values > 0
    else:
        volumes[LABELS] = volumes[LABELS] > 0.5
    for kind, voxels in volumes.items():
        array = voxels if kind in ("T1", "FLAIR") else voxels.astype(np.uint8)
        forms = forms_of(scans.get(kind, scans["T1"])[0])
        write_volume(folder / source.target.format(subject=subject, kind=kind), array, forms, compresslevel=1)


if __name__ == "__main__":
    cli.run(collect, "studies.real.collect")
