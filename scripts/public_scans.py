"""Lay out public scans of real heads as data sets: `python -m scripts.public_scans --clones=DIR --output=DIR`."""

import csv
import gzip
import io
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import cli
from common.data.volumes import write_volume
from common.errors import InputError, choice, show
from common.files import check_writable_folder, expand_home, reporting_path_errors, write_csv

__all__ = ["public_scans"]

SOURCE, UNFINISHED = "SOURCE.md", ".unfinished"
NICHART, DEEPVOXNET, DEPRESSION = "CBICA/NiChart_Project", "JeroenBertels/deepvoxnet2", "aaronsossin/DepressionMRI_AI"
OFFLINE = {"GIT_NO_LAZY_FETCH": "1"}  # a clone may name a server to fetch missing files from
LARGEST = 2**28  # bytes of a scan, unpacked
IXI_SHAPE = (120, 120, 90)  # of all but a few
# Region -> its values in DLMUSE's label maps, those of MUSE (Doshi et al., NeuroImage 2016)
MUSE = {
    "ventricles": (4, 11, 49, 50, 51, 52),
    "deep_grey": (23, 30, 36, 37, 55, 56, 57, 58, 59, 60),
    "hippocampus": (31, 32, 47, 48),  # and amygdala
}


class Repository:
    """The files of all commits of a clone, by path; of a path's versions the newest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str) -> bytes:
        """What a command of git prints.

        Raises:
            InputError: it fails, or git is not installed.
        """
        try:
            command = ["git", f"--git-dir={self.folder}", *words]
            return subprocess.run(command, check=True, capture_output=True, env=os.environ | OFFLINE).stdout
        except FileNotFoundError as error:
            raise InputError("git: not installed; expected it to read clones") from error
        except subprocess.CalledProcessError as error:
            last = (error.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
            raise InputError(f"--clones: {self.folder}: git: {last}; expected a complete clone") from error

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Path -> hash of its newest version that the clone holds."""
        objects = self.git("rev-list", "--objects", "--all", "--missing=print").decode(errors="replace").splitlines()
        missing = {line[1:] for line in objects if line.startswith("?")}
        found: dict[str, str] = {}
        changes = self.git("log", "--all", "-m", "-z", "--raw", "--no-abbrev", "--no-renames", "--format=")
        entries = changes.decode(errors="replace").split("\0")
        for change, path in zip(entries[::2], entries[1::2], strict=False):
            _, _, _, digest, status = change.split()
            if status in ("A", "M") and digest not in missing:
                found.setdefault(path, digest)
        return found

    def under(self, folder: str, ending: str) -> dict[str, str]:
        """Name without `ending` -> path, of the files in a folder."""
        paths = sorted(path for path in self.files if path.rpartition("/")[0] == folder and path.endswith(ending))
        return {path.rpartition("/")[2].removesuffix(ending): path for path in paths}

    def read(self, path: str) -> bytes:
        """The content of a file."""
        return self.git("cat-file", "blob", self.files[path])

    def image(self, path: str) -> Any:
        """A scan or a label map in NIfTI, gzipped; None if the file is broken, or a pointer to a large file."""
        import nibabel  # here, as `--help` need not wait for it

        try:
            with gzip.GzipFile(fileobj=io.BytesIO(self.read(path))) as file:
                image = nibabel.Nifti1Image.from_bytes(file.read(LARGEST))
            image.get_fdata(dtype=np.float32)  # a short file fails here
        except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError):
            return None
        return image


@dataclass(frozen=True)
class Scans:
    """A data set.

    Attributes:
        repository: OWNER/NAME on GitHub.
        licence: of the scans.
        citation: of the scans and the labels.
        description: in a sentence.
        lay_out: writes the files into a folder and returns the number of subjects.
    """

    repository: str
    licence: str
    citation: str
    description: str
    lay_out: Callable[[Repository, Path], int]


def public_scans(clones: str, output: str, sets: str | Iterable[str] | None = None) -> None:
    """Lay out four public sets of scans for `python -m scripts.datalists generic`; they are real people's.

    Each becomes a folder of OUTPUT with its licence and citation in SOURCE.md; one that is there stays as it is. A set
    whose clone is missing is left out.

    Args:
        clones: folder of clones, each made by `git clone --bare https://github.com/OWNER/NAME` (CBICA/NiChart_Project
            for ixi and wmh, JeroenBertels/deepvoxnet2 for tumour, aaronsossin/DepressionMRI_AI for t1_stripped).
        output: folder for the data sets.
        sets: some of ixi, wmh, tumour and t1_stripped, such as [ixi,wmh]; by default all.
    """
    given = list(SETS) if sets is None else sets.split(",") if isinstance(sets, str) else sets
    names: list[Any] = list(given) if isinstance(given, list | tuple) and given else [given]
    for name in names:
        choice("sets", name, SETS)
    source, target = expand_home(clones, f"--clones={clones}"), expand_home(output, f"--output={output}")
    if not source.is_dir():
        raise InputError(f"--clones={clones}: no such folder; expected a folder of clones")
    opened = {
        repository: _clone(source, repository) for repository in dict.fromkeys(SETS[name].repository for name in names)
    }
    if not any(opened.values()):
        raise InputError(f"--clones={source}: no clone of {' or '.join(opened)}; expected one at least")
    check_writable_folder(target, f"--output={output}")
    with reporting_path_errors(f"--output={output}"):
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            _lay_out_set(name, opened[SETS[name].repository], source, target / name)


def _lay_out_set(name: str, repository: Repository | None, source: Path, target: Path) -> None:
    known = SETS[name]
    if target.exists():
        show(f"{name}: {target} exists; left as it is")
    elif repository is None:
        show(f"{name}: no clone of {known.repository} in {source}; left out")
    else:
        show(f"{name}: {_lay_out(known, repository, target)} subjects in {target}; {known.licence}")


def _clone(folder: Path, repository: str) -> Repository | None:
    name = repository.rpartition("/")[2]
    places = (folder / f"{name}.git", folder / name / ".git", folder / name)
    found = next((place for place in places if (place / "objects").is_dir()), None)
    return None if found is None else Repository(found)


def _lay_out(known: Scans, repository: Repository, folder: Path) -> int:
    """Write a set aside, and rename it when it is complete."""
    aside = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        count = known.lay_out(repository, aside)
        if not count:
            raise InputError(
                f"--clones: {repository.folder}: no scans of {folder.name}; expected a clone with its history"
            )
        lines = (known.description, f"From https://github.com/{known.repository}", known.licence, known.citation)
        (aside / SOURCE).write_text("\n\n".join((f"# {folder.name}", *lines)) + "\n", encoding="utf-8")
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count


def _ixi(repository: Repository, folder: Path) -> int:
    """T1 of IXI's adults with three regions of DLMUSE, its brain beside them, and ages."""
    t1s: dict[str, str] = {}
    labels: dict[str, str] = {}
    for below in ("sample_datasets/demo_dataset_IXI/t1", "test_data/processed/IXI/Nifti/T1"):
        t1s |= repository.under(below, "_T1.nii.gz")
    for below in ("sample_datasets/demo_dataset_IXI/dlmuse_seg", "test_data/processed/IXI/DLMUSE"):
        labels |= repository.under(below, "_T1_DLMUSE.nii.gz")
    count = 0
    for name in _progress(t1s.keys() & labels.keys(), "ixi"):
        t1, muse = repository.image(t1s[name]), repository.image(labels[name])
        if t1 is None or muse is None or t1.shape != IXI_SHAPE or not _share_a_grid(t1, muse):
            continue
        values = muse.get_fdata(dtype=np.float32).astype(int)
        regions = np.zeros(values.shape, np.uint8)
        for label, members in enumerate(MUSE.values(), start=1):
            regions[np.isin(values, members)] = label
        subject = _subject(name.split("-")[0])
        _write(t1, _voxels(t1, "T1"), folder / f"{subject}_T1.nii.gz")
        _write(t1, regions, folder / f"{subject}_seg.nii.gz")
        _write(t1, (values > 0).astype(np.uint8), folder / f"{subject}_brain.nii.gz")
        count += 1
    lines = [f"{name}: {{labels: [{label}]}}" for label, name in enumerate(MUSE, start=1)]
    (folder / "regions.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tables = sorted(path for path in repository.files if path.endswith("IXI/plot_data/plot_data.csv"))
    if tables:
        rows = csv.DictReader(io.StringIO(repository.read(tables[0]).decode(errors="replace")))
        if not {"MRID", "Age", "Sex"} <= set(rows.fieldnames or ()):
            raise InputError(f"--clones: {repository.folder}: {tables[0]}: expected the columns MRID, Age, Sex")
        people = [(row["MRID"].split("-")[0], row["Age"], row["Sex"]) for row in rows]
        write_csv(folder / "people.csv", [("subject", "age", "sex"), *people])
    return count


def _wmh(repository: Repository, folder: Path) -> int:
    """T1 and FLAIR, each on its own grid, and lesions of the white matter on FLAIR's."""
    below = "sample_datasets/demo_dataset/"
    kinds = {"T1": "t1", "FLAIR": "fl", "seg": "nichart_dlwmls_out/DLWMLS_FLAIR"}
    found = {
        kind: {name.split("_")[0]: path for name, path in repository.under(below + place, ".nii.gz").items()}
        for kind, place in kinds.items()
    }
    count = 0
    for name in _progress(set.intersection(*(set(files) for files in found.values())), "wmh"):
        images = {kind: repository.image(files[name]) for kind, files in found.items()}
        if any(image is None for image in images.values()):
            continue
        subject = _subject(name)
        for kind, image in images.items():
            _write(image, _voxels(image, kind), folder / subject / f"{subject}_{kind}.nii.gz")
        count += 1
    return count


def _tumour(repository: Repository, folder: Path) -> int:
    """FLAIR and T1 of cases of BraTS 2018, and the whole tumour."""
    kinds = {"FLAIR": "FLAIR", "T1": "T1", "seg": "GT_W"}
    ends = {kind: re.compile(rf"(?:.*/)?case_(\d+)/{name}\.nii\.gz") for kind, name in kinds.items()}
    found: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for path in sorted(repository.files):
        for kind, end in ends.items():
            if match := end.fullmatch(path):
                found[kind].setdefault(match[1], path)
    count = 0
    for number in _progress(set.intersection(*(set(files) for files in found.values())), "tumour"):
        images = {kind: repository.image(files[number]) for kind, files in found.items()}
        if any(image is None for image in images.values()) or not _share_a_grid(*images.values()):
            continue
        for kind, image in images.items():
            _write(image, _voxels(image, kind), folder / f"case{number}" / f"case{number}_{kind}.nii.gz")
        count += 1
    return count


def _t1_stripped(repository: Repository, folder: Path) -> int:
    """T1 of adults, skull-stripped."""
    scans = {
        match[1]: path for path in repository.files if (match := re.match(r"(?:.*/)?(sub-\w+)/anat/.*\.nii\.gz$", path))
    }
    count = 0
    for name in _progress(scans, "t1_stripped"):
        image = repository.image(scans[name])
        if image is not None and len(image.shape) == 3:
            _write(image, _voxels(image, "T1"), folder / f"{_subject(name)}_T1.nii.gz")
            count += 1
    return count


def _progress(names: Iterable[str], title: str) -> Iterable[str]:
    from common.bars import tqdm  # here, as `--help` need not wait for it

    return tqdm(sorted(names), desc=title, unit="subject")


def _subject(name: str) -> str:
    """A name from a stranger's repository that becomes a file's."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise InputError(f"--clones: subject {name!a}; expected letters, digits and -")
    return name


def _voxels(image: Any, kind: str) -> NDArray[Any]:
    voxels: NDArray[Any] = image.get_fdata(dtype=np.float32)  # kept since the file was checked
    return (voxels > 0.5).astype(np.uint8) if kind == "seg" else voxels


def _share_a_grid(*images: Any) -> bool:
    first, *others = images
    return all(each.shape == first.shape and np.allclose(each.affine, first.affine, atol=1e-3) for each in others)


def _write(like: Any, voxels: NDArray[Any], path: Path) -> None:
    write_volume(path, voxels, like.affine, compresslevel=1)


IXI = "IXI, brain-development.org"
BRATS = "BraTS 2018: Menze et al., IEEE TMI 2015; Bakas et al., Scientific Data 2017; packed by deepvoxnet2."
SETS = {
    "ixi": Scans(
        NICHART,
        "CC BY-SA 3.0",
        f"{IXI}; labels: DLMUSE, CBICA, University of Pennsylvania (MUSE: Doshi et al., NeuroImage 2016).",
        "Adults, T1, whole heads, 2 mm; ventricles, deep grey matter, hippocampus with amygdala (automatic labels).",
        _ixi,
    ),
    "wmh": Scans(
        NICHART,
        "the terms of NiChart; the origin of the people is not stated",
        "NiChart, CBICA, University of Pennsylvania; labels: DLWMLS.",
        "T1 and FLAIR, whole heads, 2 mm, as scanned; lesions of the white matter on FLAIR's grid (automatic labels).",
        _wmh,
    ),
    "tumour": Scans(
        DEEPVOXNET,
        "the terms of BraTS",
        BRATS,
        "Gliomas, FLAIR and T1, 1 mm, stripped; whole tumour, by experts.",
        _tumour,
    ),
    "t1_stripped": Scans(
        DEPRESSION,
        "CC0",
        "DepressionMRI_AI, A. Sossin.",
        "Adults, T1, stripped, 0.87 x 0.87 x 1 mm; no labels.",
        _t1_stripped,
    ),
}

if __name__ == "__main__":
    cli.run(public_scans, "public_scans")
