"""Datalists: `python -m scripts.datalists COHORT|generic|decathlon|fold|subset|auto3dseg|check`."""

from collections.abc import Callable, Sequence
from functools import partial

from common.cli import run
from common.data import datalists
from common.data.cards import Cohort
from common.data.cohorts import COHORTS
from common.data.layouts.names import naming
from common.data.layouts.reading import LAYOUTS
from common.data.regions import canonical
from common.errors import check_number, choice, show
from common.files import expand_home
from common.values import flag
from scripts.datalists.auto3dseg import auto3dseg
from scripts.datalists.build import build, check_outputs, sizes
from scripts.datalists.check import check
from scripts.datalists.decathlon import decathlon
from scripts.datalists.regions import read_regions
from scripts.datalists.scan import scan_any, scan_cohort
from scripts.datalists.splits import RandomSplits, hold_out, person_finder

REGIONS = "regions.yaml"  # in the root of a data set


OPTIONS = """
    Args:
        root: {root}
        output: the datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; all for a cohort that no stage trains on.
        seed: seed of the random choice, 0 or more.
        label_convention: meaning of the label values, such as brats2024, or regions such as core=1+3,whole=1+2+3. By
            default that of the folders' names.
        min_slices: leave out visits with an image that has fewer axial slices with a voxel above zero (every volume in
            MNI space has 182 slices; empty ones do not count). 100 in the paper. This reads every voxel, which takes
            one core an hour for 41,400 people; 0 opens no image.
        visits: all, or first for only the first complete visit of each person.
        workers: processes that count slices; 0 for one per core.
    """


def command_of(name: str, card: Cohort) -> Callable[..., None]:
    """The command that writes the datalist of a cohort."""

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
        check_number("min_slices", min_slices, int, 0)
        check_number("workers", workers, int, 0, 1024)
        only_first = choice("visits", visits, {"all": False, "first": True})
        convention = None if label_convention is None else canonical(str(label_convention))
        least = 1 if card.conventions else 2  # people for validation: telling views apart takes a batch of two
        splits = RandomSplits(validation, testing, seed, least)
        scan = partial(scan_cohort, cohort=name, convention=convention)
        build(scan, root, output, splits, min_slices=min_slices, only_first=only_first, workers=workers)

    command.__doc__ = card.about + OPTIONS.format(root=card.root)
    return command


def generic(
    root: str,
    output: str,
    regions: str | None = None,
    layout: str | None = None,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    person: str | None = None,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    missing: str = "exclude",
    workers: int = 0,
) -> None:
    """Write the datalist of any data set of NIfTI, MGH or NRRD files, and say which layout was recognised.

    The layouts are `folders` (SUBJECT/MODALITY or SUBJECT/SUBJECT_MODALITY), `flat` (SUBJECT_MODALITY in any folders,
    or MODALITY/SUBJECT), `bids` (sub-X/anat or sub-X/ses-Y/anat, label maps in derivatives) and `nnunet` (imagesTr,
    labelsTr, imagesTs and dataset.json). Images that are not used are counted, with the reason. The usual spellings of
    FLAIR, T1ce, T1, T2, PD, T2star, SWI, DWI and ADC are known. Label maps are files whose names end with seg, label,
    mask, lesion and the like. Without any label map the datalist suits self-supervised stages and inference.

    Args:
        root: folder of the data set.
        output: the datalist, a JSON file.
        regions: YAML file that names each region, the outermost first, with its labels; see
            docs/tutorials/own-data.md. By default those of dataset.json. If nothing states them, all label maps are
            read. With 1 as their only value the region is lesion; otherwise the command ends, and shows a file for the
            values that it found.
        layout: folders, flat, bids or nnunet, if several could be meant.
        modalities: modalities to take, in this order, such as T1,FLAIR. By default those that every subject has, or
            with `--missing=keep` those that any has. For files with other names, the words that end them or their
            paths, such as T1=t1_mprage,FLAIR=pre/FLAIR, or patterns such as T1=IXI-T1/* or T1={subject}/pre/T1 (in
            nnU-Net's layout the names of the channels; no word, as in T1=, for names without one).
        label: the words or the pattern of label maps, such as lesion_mask or masks/*. For BIDS a pipeline may stand
            before them, as in manual/label-lesion_mask.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+', for
            data sets with several visits. By default people are known by the names of BIDS, UK Biobank and BraTS.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, besides those of imagesTs; all for a data set that no stage
            trains on.
        seed: seed of the random choice, 0 or more.
        missing: exclude or keep subjects that lack some of the modalities. The datalist has null in place of their
            images, and the supervised stages can train on them and segment them; see
            docs/how-to/missing-modalities.md.
        workers: processes that read label maps, if nothing states the regions; 0 for one per core.
    """
    check_number("workers", workers, int, 0, 1024)
    splits = RandomSplits(validation, testing, seed)
    keep_missing = choice("missing", missing, {"exclude": False, "keep": True})
    if layout is not None:
        choice("layout", layout, LAYOUTS)
    names = naming(modalities, label)
    if regions is None and (stated := expand_home(root, f"--root={root}") / REGIONS).is_file():
        regions = str(stated)
        show(f"regions from {regions}")
    inputs, text = {}, None
    if regions is not None:
        inputs["regions"] = expand_home(regions, f"--regions={regions}")
        text = read_regions(inputs["regions"], f"--regions={regions}")
    scan = partial(
        scan_any,
        naming=names,
        layout=layout,
        regions=text,
        person=None if person is None else person_finder(person),
        keep_missing=keep_missing,
        workers=workers,
    )
    build(scan, root, output, splits, inputs, keep_missing=keep_missing)


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
    """Write a datalist with one fold of another held out, for cross-validation on any data set.

    The folds share out the subjects of `training` and `validation`; all visits of a person are in the same fold. The
    seed decides who is in which fold, so that the commands for all folds of one seed hold each subject out once.

    Args:
        datalist: JSON file to take from, with nothing held out in `testing` but what is to stay out of all folds.
        output: the new datalist, a JSON file.
        folds: a number of folds, into which people are dealt at random; or a JSON file in the form of SwinUNETR's
            brats21_folds.json, which identifies subjects by their folders' names.
        fold: the fold that is held out, from 0.
        fold_to: split of that fold. In `validation` it both chooses the checkpoint and gives the score, as in the
            paper. In `testing` it only gives the score, and `--validation` is drawn from the others; subjects that the
            datalist has in `testing` are then left out.
        validation: number or fraction of the other people for validation, with `--fold_to=testing`; 0.1 by default.
        seed: seed of the random choices, 0 or more.
        person: regular expression whose first group is the person in a subject's name; by default people are those of
            the datalist, which keeps the `--person` that made it.
    """
    source = expand_home(datalist, f"--datalist={datalist}")
    target = expand_home(output, f"--output={output}")
    inputs = {"datalist": source}
    if isinstance(folds, str):
        inputs["folds"] = expand_home(folds, f"--folds={folds}")
    check_outputs([("output", target)], inputs)
    content = hold_out(datalists.read(source), folds, fold, fold_to, validation, seed, person)
    datalists.write(content, target)
    show(f"{output}: {sizes(content)}")


def subset(datalist: str, output: str, fraction: float, seed: int = 0, nested: bool = False) -> None:
    """Write a datalist with some of the training subjects of another.

    Subjects for validation and testing and those without label stay. The paper's learning curves use the fractions
    0.05, 0.1, 0.2 and 0.4 with five seeds each (DIFF-27). The choice depends only on fraction, seed and the subjects'
    names; the output records it.

    Args:
        datalist: JSON file to take from.
        output: the new datalist, a JSON file.
        fraction: share of the training subjects, above 0 and up to 1; at least one subject.
        seed: seed of the choice, 0 or more.
        nested: whether a smaller fraction is contained in a larger one of the same seed. By default each fraction is
            drawn separately.
    """
    source = expand_home(datalist, f"--datalist={datalist}")
    target = expand_home(output, f"--output={output}")
    check_outputs([("output", target)], {"datalist": source})
    content = datalists.subset(datalists.read(source), fraction, seed, flag("nested", nested))
    datalists.write(content, target)
    show(f"{output}: {sizes(content)}")


COMMANDS = {name: command_of(name, card) for name, card in COHORTS.items()}
COMMANDS |= {"generic": generic, "decathlon": decathlon, "fold": fold, "subset": subset}
COMMANDS |= {"auto3dseg": auto3dseg, "check": check}

if __name__ == "__main__":
    run(COMMANDS, "datalists")
