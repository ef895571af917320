"""Write, split and check datalists: `python -m scripts.datalists COMMAND`, such as generic or check."""

from collections.abc import Callable, Sequence
from pathlib import Path

from common.data import datalists
from common.data.regions import canonical
from common.errors import choice, show
from scripts.cli import run
from scripts.cohorts import COHORTS
from scripts.cohorts.card import Cohort
from scripts.datalists.build import scan_any, scan_cohort, select, write_split
from scripts.datalists.check import check
from scripts.datalists.files import draw_subset, output_file, write_datalist
from scripts.datalists.people import person_finder, with_people
from scripts.datalists.regions import read_regions
from scripts.datalists.splits import Split, hold_out, split_anew
from scripts.layouts.patterns import naming

REGIONS = "regions.yaml"  # in the root of a data set
OPTIONS = """
    Args:
        root: folder of the cohort as distributed; see docs/reference/data.md.
        output: the datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; or all, if no stage trains on the cohort.
        seed: seed of the random choice, 0 or more.
        label_convention: meaning of the label values, such as brats2024, or regions such as core=1+3,whole=1+2+3; by
            default that of the folders' names.
        min_slices: fewest axial slices with a voxel above zero in each image of a visit; the paper uses 100. Every
            voxel is read, an hour on one core for 41,400 people; 0 opens no image.
        visits: all, or first for each person's first complete visit only.
        workers: processes that count slices; 0 for one per core.
    """


def command_of(name: str, card: Cohort) -> Callable[..., None]:
    """Return the command that writes the datalist of a cohort; `card` describes the cohort."""

    def command(
        root: str,
        output: str,
        validation: float = 0.1,
        testing: float | str = 0,
        seed: int = 0,
        label_convention: str | None = None,
        min_slices: int = 0,
        visits: str = "all",
        workers: int = 0,
    ) -> None:
        only_first = choice("visits", visits, {"all": False, "first": True})
        least = 1 if card.convention else 2  # people for validation; the contrastive loss needs a batch of two
        splits, target = Split(validation, testing, seed, least), output_file(output)
        folder = Path(root).expanduser()
        scan = scan_cohort(folder, name, label_convention and canonical(label_convention))
        scan = select(scan, folder, min_slices=min_slices, only_first=only_first, workers=workers)
        write_split(scan, folder, splits, target)

    command.__doc__ = card.about + OPTIONS
    return command


def generic(
    root: str,
    output: str,
    regions: str | None = None,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    pattern: str | None = None,
    person: str | None = None,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    missing: str = "exclude",
    workers: int = 0,
) -> None:
    """Write the datalist of any data set of NIfTI or MGH files.

    BIDS and nnU-Net's raw folders are recognised. In any other folder, a file's name ends with the modality, or with
    seg, mask or the like, and the rest of the path is the subject: SUBJECT/MODALITY, SUBJECT/VISIT/SUBJECT_MODALITY,
    SUBJECT_MODALITY; for other names, give --pattern. See docs/reference/data.md.

    Args:
        root: folder of the data set.
        output: the datalist, a JSON file.
        regions: YAML file with the name and labels of each region, the outermost first; by default regions.yaml in
            `root`, the regions of dataset.json, or, if the only value in all label maps is 1, the region lesion.
        modalities: modalities to take, in this order, such as T1,FLAIR; by default those of every subject or, with
            `--missing=keep`, of any. For other names, give the last words of names or paths, such as
            T1=t1_mprage,FLAIR=pre/FLAIR, or patterns, such as T1={subject}/pre/T1; of nnU-Net the channels' names.
            `each` makes every scan a subject of the modality MR, for self-supervised training.
        label: last words or pattern of label maps' names, such as lesion_mask or masks/{subject}.
        pattern: pattern of all paths below `root`, such as {subject}/{session}/*{modality}; * stands for any part of a
            name, ** also for folders.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'; the
            command prints who it takes for a person where names leave it open.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, in addition to those in imagesTs; or all, if no stage trains
            on the data set.
        seed: seed of the random choice, 0 or more.
        missing: exclude or keep subjects that lack modalities; see docs/how-to/missing-modalities.md.
        workers: processes that read label maps, if the regions are not given; 0 for one per core.
    """
    splits, names = Split(validation, testing, seed), naming(modalities, label, pattern)
    keep_missing = choice("missing", missing, {"exclude": False, "keep": True})
    folder = Path(root).expanduser()
    if regions is None and (folder / REGIONS).is_file():
        regions = str(folder / REGIONS)
        show(f"regions from {regions}")
    file = None if regions is None else Path(regions).expanduser()
    target = output_file(output)
    scan = scan_any(
        folder,
        naming=names,
        regions=None if file is None else read_regions(file),
        person=None if person is None else person_finder(person),
        keep_missing=keep_missing,
        workers=workers,
    )
    write_split(select(scan, folder, keep_missing=keep_missing), folder, splits, target)


def split(
    datalist: str,
    output: str,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    person: str | None = None,
) -> None:
    """Write a copy of a datalist whose people of `training` and `validation` are split anew, such as after a check.

    Args:
        datalist: JSON file to split.
        output: the new datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, in addition to the datalist's.
        seed: seed of the random choice, 0 or more.
        person: as for generic; by default people are as in the datalist.
    """
    splits, source = Split(validation, testing, seed), Path(datalist).expanduser()
    target = output_file(output, source)
    write_datalist(split_anew(with_people(datalists.read(source), person), splits), target)


def fold(
    datalist: str,
    output: str,
    folds: str | int,
    fold: int,
    fold_to: str = "validation",
    validation: float | None = None,
    seed: int = 0,
    person: str | None = None,
) -> None:
    """Write a datalist with one fold of the people of `training` and `validation` held out, for cross-validation.

    Args:
        datalist: JSON file to divide; subjects of `testing` are in no fold.
        output: the new datalist, a JSON file.
        folds: number of folds, to which people are assigned at random; or a JSON file in the format of SwinUNETR's
            brats21_folds.json, which identifies subjects by the names of their folders.
        fold: number of the held-out fold, from 0.
        fold_to: split of the held-out fold. In `validation` the fold both selects the checkpoint and gives the score,
            as in the paper. In `testing` it only gives the score; `--validation` is drawn from the other folds, and the
            datalist's own `testing` subjects are left out.
        validation: number or fraction of the remaining people for validation, with `--fold_to=testing`; by default 0.1.
        seed: seed of the random choices, 0 or more; the same seed gives the same folds.
        person: as for generic; by default people are as in the datalist.
    """
    source = Path(datalist).expanduser()
    target = output_file(output, source, *([Path(folds).expanduser()] if isinstance(folds, str) else []))
    content = with_people(datalists.read(source), person)
    write_datalist(hold_out(content, folds, fold, fold_to, validation, seed), target)


def subset(datalist: str, output: str, fraction: float, seed: int = 0, nested: bool = False) -> None:
    """Write a copy of a datalist with a fraction of its training subjects, for learning curves (DIFF-27).

    Args:
        datalist: JSON file to copy.
        output: the new datalist, a JSON file.
        fraction: share of the training subjects, above 0 and up to 1; at least one subject is kept.
        seed: seed of the choice, 0 or more, which depends on nothing else but fraction and the subjects' names.
        nested: whether, for the same seed, a larger fraction contains the smaller fractions.
    """
    source = Path(datalist).expanduser()
    target = output_file(output, source)
    write_datalist(draw_subset(datalists.read(source), fraction, seed, nested), target)


COMMANDS = {name: command_of(name, card) for name, card in COHORTS.items()}
COMMANDS |= {"generic": generic, "split": split, "fold": fold, "subset": subset, "check": check}

if __name__ == "__main__":
    run(COMMANDS, "datalists")
