"""Segmentation of new scans: which files make a case, what is refused, and ensembles.

A case that fails is named and the others go on: someone who comes back in the morning wants the rest.
"""

import re
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from monai.transforms import Transform
from torch import nn
from tqdm import tqdm

from common import datalists, weights
from common.checks import check_headers
from common.preflight import InputError, chosen, flag, optional, reason
from common.segmentations import files_of, finished
from common.transforms import regions

__all__ = [
    "CheckAlignmentd",
    "CheckFilesd",
    "Ensemble",
    "Predictor",
    "cases",
    "ensemble",
    "shared_convention",
]

# How files say which modality they hold: the last word of their name, in the cohorts' own layouts.
SUFFIXES = {
    "FLAIR": ("flair", "t2f", "t2flair"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "T1": ("t1", "t1n", "t1w"),
    "T2": ("t2", "t2w"),
}
WORDS = {word: modality for modality, words in SUFFIXES.items() for word in words}
NIFTI = re.compile(r"(.+?)\.nii(\.gz)?$", re.IGNORECASE | re.DOTALL)


def cases(
    root: str | Path,
    modalities: Sequence[str],
    datalist: str | Path | None = None,
    split: str = "testing",
    output_dir: str | Path | None = None,
    existing: str = "refuse",
    probabilities: bool | str = False,
) -> list[dict[str, Any]]:
    """The cases to segment: those of a datalist's split, or every scan in a folder and the folders below it.

    In a folder, SUBJECT_MODALITY.nii.gz is a scan of SUBJECT, where MODALITY is one of `SUFFIXES` in any case, after an
    underscore, a hyphen or a dot; label maps (`seg`, `mask`) are left alone. For a single modality the word may be
    missing. What lies in `output_dir` is no scan; links to folders are not followed.

    Args:
        root: the folder; that of a datalist is what its paths are relative to.
        modalities: of the network, in channel order.
        datalist: JSON file; None (null on a command line) for a folder.
        split: of the datalist.
        output_dir: where the results go; see `common.segmentations.files_of`.
        existing: what becomes of a subject of which a result is there: refuse, skip or replace. Skipped are those that
            are finished (see `common.segmentations.finished`).
        probabilities: whether they are results, too.

    Returns:
        A dictionary for each subject: "subject", and "image", absolute paths in the order of `modalities`; "" stands
        for a file that a folder lacks, and is for `CheckFilesd` to name.

    Raises:
        InputError: the folder or the datalist cannot be read, there is no case, one has a result already, or a result
            would replace a scan.
    """
    chosen("existing", existing, dict.fromkeys(("refuse", "replace", "skip")))
    if (datalist := optional(datalist)) is not None:
        found = datalists.load(datalist, split, root, modalities, must_exist=False)
    else:
        found = _in_folder(root, modalities, None if output_dir is None else Path(output_dir))
    if output_dir is None:
        return found
    results = {
        case["subject"]: files_of(case["subject"], output_dir, flag("probabilities", probabilities)) for case in found
    }
    _spare_scans(found, results)
    if existing == "refuse":
        there = [path for paths in results.values() for path in paths if path.exists()]
        if there:
            raise InputError(
                f"{there[0]}: is there already, of {len(there)} results; expected --existing=skip or replace"
            )
    if existing == "skip":
        done = finished(results, output_dir)
        return [case for case in found if case["subject"] not in done]
    return found


def _spare_scans(found: Sequence[Mapping[str, Any]], results: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a result that would take the place of a scan."""
    places = {path.parent.resolve() / path.name for paths in results.values() for path in paths}
    for case in found:
        for image in filter(None, case["image"]):
            if Path(image).parent.resolve() / Path(image).name in places:
                raise InputError(f"{image}: a scan, which a result would replace; expected another --output_dir")


def _in_folder(root: str | Path, modalities: Sequence[str], results: Path | None) -> list[dict[str, Any]]:
    folder = Path(str(root)).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"--dataset_dir={root}: no such folder; expected one with scans, or a --datalist")
    inside = None  # of the folder, where the results go
    if results is not None and results.resolve().is_relative_to(folder.resolve()):
        inside = folder / results.resolve().relative_to(folder.resolve())
        if inside == folder:
            raise InputError(f"--output_dir={results}: that of the scans; expected another folder, or one inside of it")
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*")):
        if inside is not None and path.is_relative_to(inside):
            continue
        subject, modality = _subject_and_modality(path, modalities)
        if modality is None or modality not in modalities:
            continue
        if datalists.UNPRINTABLE.search(subject):
            raise InputError(f"{str(path)!a}: expected a file name of one line in Unicode")
        other = found.setdefault(subject, {}).setdefault(modality, str(path))
        if other != str(path):
            raise InputError(f"{path}: a second {modality} of subject {subject}, beside {other}; expected one")
    if not found:
        example = "SUBJECT.nii.gz" if len(modalities) == 1 else f"SUBJECT_{modalities[0].lower()}.nii.gz"
        raise InputError(f"--dataset_dir={root}: no scan in it; expected files such as {example}, or a --datalist")
    return [
        {"subject": subject, "image": [files.get(modality, "") for modality in modalities]}
        for subject, files in found.items()
    ]


def _subject_and_modality(path: Path, modalities: Sequence[str]) -> tuple[str, str | None]:
    """Whose scan a file is and of what, by its name; no modality for a label map or what is no NIfTI file."""
    match = NIFTI.match(path.name)
    if match is None or path.name.startswith("."):
        return "", None
    last = re.split(r"[_.-]", match[1])[-1]
    subject = match[1][: -len(last) - 1]
    if last.lower() in ("seg", "mask", "label", "dseg"):
        return "", None
    if last.lower() in WORDS and subject:
        return subject, WORDS[last.lower()]
    return match[1], modalities[0] if len(modalities) == 1 else None


class CheckFilesd(Transform):
    """Refuse a case, before it is read, whose files are missing, are named as another modality, or share no grid.

    Args:
        keys: of the list of files, in the order of `modalities`.
        modalities: of the network.

    Raises:
        InputError: names the subject's file, what was found and what was expected.
    """

    def __init__(self, keys: str, modalities: Sequence[str]) -> None:
        self.key, self.modalities = keys, list(modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        files = list(map(str, data[self.key]))
        for modality, file in zip(self.modalities, files, strict=True):
            if not file:
                words = ", ".join(f"_{word}" for word in SUFFIXES.get(modality, (modality,)))
                raise InputError(f"no {modality}; expected a file whose name ends with {words}")
            _, named = _subject_and_modality(Path(file), ["?"])
            if named not in (modality, "?", None) and named in self.modalities:
                raise InputError(f"{file}: its name says {named}; expected {modality} in this place")
        check_headers([{"subject": data["subject"], "image": files}])
        return data


class CheckAlignmentd(Transform):
    """Refuse a case whose modalities share a grid but not the place of the brain: they were not registered.

    A brain is what is not zero. Of one brain all modalities overlap by more than 0.99; a shift of 6 mm leaves 0.93, of
    10 mm 0.89, of 20 mm 0.79 (embedded cohort). An image that has next to no zeros shows a head in noise: of that
    nothing can be told, and it passes.

    Args:
        keys: of the image [C, H, W, D].
        modalities: by channel.
        least_overlap: Dice of each modality's brain with that of the first one, at least; 0 asks for nothing.

    Raises:
        InputError: two brains overlap less.
    """

    FULL = 0.95  # share of voxels that are not zero, above which a volume is no extracted brain

    def __init__(self, keys: str, modalities: Sequence[str], least_overlap: float) -> None:
        self.key, self.modalities, self.least_overlap = keys, list(modalities), least_overlap

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        first, *others = torch.as_tensor(data[self.key]) != 0
        for modality, brain in zip(self.modalities[1:], others, strict=True):
            overlap = 2 * (first & brain).sum().item() / max(1, (first.sum() + brain.sum()).item())
            is_extracted = max(first.float().mean().item(), brain.float().mean().item()) < self.FULL
            if is_extracted and overlap < self.least_overlap:
                raise InputError(
                    f"{modality} overlaps {self.modalities[0]} by Dice {overlap:.2f}; expected {self.least_overlap:g} "
                    f"at least (--least_overlap), as registered images without skull have"
                )
        return data


class Ensemble(nn.Module):
    """The mean of the logits of several networks, each on every mirror image that is asked for.

    Args:
        networks: of one architecture, such as those of several folds; one at least.
        flips: spatial axes (0 to 2) to mirror along: all their combinations are averaged, 2 ** len(flips) passes.
    """

    def __init__(self, networks: Sequence[nn.Module], flips: Sequence[int] = ()) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        axes = [axis + 2 for axis in flips]  # after batch and channel
        self.mirrors = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [N, R, x, y, z] of windows [N, C, x, y, z]."""
        total: Any = 0
        for network in self.networks:
            for mirror in self.mirrors:
                total = total + (network(image.flip(mirror)).flip(mirror) if mirror else network(image))
        return total / (len(self.networks) * len(self.mirrors))


def ensemble(
    network: nn.Module, checkpoint: str | Path | Sequence[str], modalities: Sequence[str], flips: Sequence[int] = ()
) -> Ensemble:
    """An ensemble of the networks that some checkpoints hold.

    Args:
        network: of the checkpoints' architecture; a single checkpoint is loaded into itself.
        checkpoint: file, or files: one for each fold.
        modalities: that each must have been trained with.
        flips: see `Ensemble`.

    Raises:
        InputError: see `common.weights.restore`; no checkpoint, or an axis other than 0, 1, 2, or one named twice.
    """
    files: list[Any] = list(checkpoint) if isinstance(checkpoint, list | tuple) else [checkpoint]
    if not files:
        raise InputError("--checkpoint=[]: expected one file at least")
    if (
        not isinstance(flips, list | tuple)
        or not all(type(axis) is int and 0 <= axis <= 2 for axis in flips)
        or len(set(flips)) < len(flips)
    ):
        raise InputError(f"--flips={flips}: expected a list of the axes 0, 1, 2, each once at most, such as [0]")
    networks = [network, *(deepcopy(network) for _ in files[1:])]
    for each, file in zip(networks, files, strict=True):
        weights.restore(each, file, modalities)
    return Ensemble(networks, flips)


def shared_convention(trained: str, written: str) -> str:
    """The convention that label maps are written in, which must have the regions that the network was trained on.

    Raises:
        InputError: it has others.
    """
    if list(regions(trained)) != list(regions(written)):
        expected = ", ".join(regions(trained))
        raise InputError(f"--output_convention={written}: has other regions; expected {expected}, as {trained} has")
    return written


class Predictor(SupervisedEvaluator):
    """MONAI's evaluator for many cases: one that fails is named on stderr, and the others go on.

    Args:
        val_data_loader: of batches of one case, which hold "subject".
        kwargs: of `SupervisedEvaluator`.
    """

    def __init__(self, val_data_loader: Any, **kwargs: Any) -> None:
        super().__init__(val_data_loader=_Attempts(val_data_loader), **kwargs)
        self.failures: list[str] = []
        self.cases = len(val_data_loader)

    def run(self, global_epoch: int = 1) -> None:
        """Segment all cases; nothing is done where there is none."""
        if self.cases:
            super().run(global_epoch)
        else:
            print("nothing to do: every case has a result", flush=True)

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        if isinstance(batchdata, Exception):  # a case that could not be read
            return self._fail(batchdata)
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:  # whatever one case does, the next one has its turn
            return self._fail(error, f"subject {batchdata['subject'][0]}: ")

    def _fail(self, error: Exception, subject: str = "") -> list[Any]:
        message = reason(error)
        if message is None:
            message = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        self.failures.append(subject + message)
        tqdm.write(f"failed: {self.failures[-1]}", file=sys.stderr)
        self.state.output = []  # so that no handler takes the last case's output for this one's
        return []

    def finish(self) -> None:
        """End the run with status 1 and the number of failures, if there are any."""
        if self.failures:
            print(f"{len(self.failures)} of {self.cases} cases failed", file=sys.stderr, flush=True)
            raise SystemExit(1)


class _Attempts:
    """The batches of a loader; for one that cannot be read, the exception stands in its place."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            try:
                yield next(batches)
            except InputError as error:
                yield error
            except RuntimeError as error:  # from a worker process; without a case's name it is the loader that broke
                if reason(error) is None:
                    raise
                yield error
