"""Datalists of cohorts in their own folder layouts: `python -m scripts.datalists ukb|brats|atlas|subset|check`."""

from collections.abc import Sequence

from common.cli import run
from common.data import datalists
from common.errors import InputError, check_number, choice
from common.files import expand_home
from common.values import flag
from scripts.datalists.build import build, check_outputs, sizes
from scripts.datalists.check import check
from scripts.datalists.splits import cross_validation, random_splits

__all__ = ["atlas", "brats", "check", "subset", "ukb"]

UNLABELLED = {"apart": True, "training": False}  # value of --unlabelled -> whether these subjects are kept apart


def ukb(
    root: str,
    output: str,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    min_slices: int = 0,
    visits: str = "all",
    consort: str | None = None,
    workers: int = 0,
) -> None:
    """Write the datalist of a UK Biobank folder: T1 and T2-FLAIR, brain only, in MNI space.

    A subject is a visit of a person, such as 1000012_2_0; all visits of a person are in the same split. For the paper's
    selection use `--min_slices=100 --visits=first`: of 44,172 participants 43,369 have both images, and of these 41,400
    have 100 slices in each.

    Args:
        root: folder with EID_20252_2_0/T1/T1_brain_to_MNI.nii.gz and
            EID_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz; instances 2_0, 3_0 and later.
        output: the datalist, a JSON file; an existing file is replaced.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; all for a cohort that no stage trains on.
        seed: of the random choice, 0 or more.
        min_slices: leave out visits with an image that has fewer axial slices with a voxel above zero (every volume in
            MNI space has 182 slices; empty ones do not count). 100 in the paper. This reads every voxel, which takes
            one core an hour for 41,400 people; 0 opens no image.
        visits: all, or first for only the first complete visit of each person.
        consort: JSON file for the number of participants at each step; a flow chart is drawn beside it (.svg).
        workers: processes that count slices; 0 for one per core.
    """
    check_number("min_slices", min_slices, int, 0)
    check_number("workers", workers, int, 0, 1024)
    only_first = choice("visits", visits, {"all": False, "first": True})
    split = random_splits(validation, testing, seed, self_supervised=True)
    build("ukb", root, output, split, consort, min_slices=min_slices, only_first=only_first, workers=workers)


def brats(
    root: str,
    output: str,
    validation: float | None = None,
    testing: float | str | None = None,
    seed: int = 0,
    folds: str | int | None = None,
    fold: int | None = None,
    fold_to: str | None = None,
    unlabelled: str = "apart",
    consort: str | None = None,
) -> None:
    """Write the datalist of a BraTS folder: FLAIR, T1ce, T1, T2 and the labels.

    The folders' names distinguish BraTS 2021 (labels 1, 2, 4) from BraTS 2023 and 2024 (1, 2, 3); a root must hold only
    one of them. All timepoints of a person are in the same split. For the paper's cross-validation use
    `--folds=brats21_folds.json --fold=0` to `--fold=4`.

    Args:
        root: folder with BraTS2021_00000/BraTS2021_00000_flair.nii.gz, and so on, or with
            BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, and so on.
        output: the datalist, a JSON file; an existing file is replaced.
        validation: number or fraction of people for validation; 0.1 by default.
        testing: number or fraction of people for testing; 0 by default; all for a cohort that no stage trains on.
        seed: of the random choice, 0 or more.
        folds: the JSON file of folds that SwinUNETR publishes (brats21_folds.json), which identifies subjects by their
            folders' names; or a number of folds, to shuffle people by the seed and deal them into folds of equal size.
        fold: the fold that is held out, from 0.
        fold_to: split of that fold. By default, as in the paper, it is `validation`, where the fold both chooses
            the checkpoint and gives the score, and all other folds are trained on. In `testing` it only gives the
            score, and `--validation` is drawn from the others.
        unlabelled: use of subjects without `seg`. By default they are kept `apart`, in the split `unlabelled`, which no
            training reads and `--split=unlabelled` of inference predicts. With `training` they are trained on, unless
            the person is held out; this suits self-supervised stages, and a supervised stage refuses it.
        consort: JSON file for the number of participants at each step; a flow chart is drawn beside it (.svg).
    """
    keep_unlabelled = choice("unlabelled", unlabelled, UNLABELLED)
    if folds is None:
        for option, given in {"fold": fold, "fold_to": fold_to}.items():
            if given is not None:
                raise InputError(f"--{option}={given}: expected --folds too, a file or a number of folds")
        split = random_splits(0.1 if validation is None else validation, testing or 0, seed)
    else:
        fold_to = "validation" if fold_to is None else fold_to
        validating = choice("fold_to", fold_to, {"validation": True, "testing": False})
        for option, value in {"validation": validation if validating else None, "testing": testing}.items():
            if value is not None:
                raise InputError(f"--{option}={value}: expected none together with --folds and --fold_to={fold_to}")
        split = cross_validation(folds, fold, fold_to, 0.1 if validation is None else validation, seed)
    inputs = {"folds": expand_home(folds, f"--folds={folds}")} if isinstance(folds, str) else {}
    build("brats", root, output, split, consort, inputs, keep_unlabelled=keep_unlabelled)


def atlas(
    root: str,
    output: str,
    validation: float = 0.1,
    testing: float | str = 0,
    seed: int = 0,
    unlabelled: str = "apart",
    consort: str | None = None,
) -> None:
    """Write the datalist of an ATLAS v2.0 folder: T1 and the label 1.

    The folder may hold the subjects, the sites (R001, ...) or the whole release (Training, Testing), but only one of
    these. All sessions of a person are in the same split. The paper holds out 100 images: `--testing=100` uses them
    only for the score, `--validation=100` also for the choice of the checkpoint.

    Args:
        root: folder with sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz, and so on, or
            with R001/sub-r001s001, or with Training/R001/sub-r001s001 and Testing.
        output: the datalist, a JSON file; an existing file is replaced.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; all for a cohort that no stage trains on.
        seed: of the random choice, 0 or more.
        unlabelled: use of subjects without mask, as in the release's Testing. By default they are kept `apart`, in the
            split `unlabelled`, which no training reads and `--split=unlabelled` of inference predicts. With `training`
            they are trained on, unless the person is held out; this suits self-supervised stages, and a supervised
            stage refuses it.
        consort: JSON file for the number of participants at each step; a flow chart is drawn beside it (.svg).
    """
    keep_unlabelled = choice("unlabelled", unlabelled, UNLABELLED)
    build("atlas", root, output, random_splits(validation, testing, seed), consort, keep_unlabelled=keep_unlabelled)


def subset(
    datalist: str,
    output: str,
    fraction: float | None = None,
    seed: int = 0,
    nested: bool = False,
    modalities: str | Sequence[str] | None = None,
) -> None:
    """Write a datalist with some of the training subjects, or some of the modalities, of another.

    Subjects for validation and testing and those without label stay. The paper's learning curves use the fractions
    0.05, 0.1, 0.2 and 0.4 with five seeds each (DIFF-27). The choice depends only on fraction, seed and the subjects'
    names; the output records it.

    Args:
        datalist: JSON file to take from.
        output: the new datalist, a JSON file; an existing file is replaced.
        fraction: of the training subjects, above 0 and up to 1; at least one subject. All by default.
        seed: of the choice, 0 or more.
        nested: whether a smaller fraction is contained in a larger one of the same seed. By default each fraction is
            drawn separately.
        modalities: to keep, in this order, such as T1,T2. All by default. For one modality in two channels, as in the
            paper's Table 5, use the bundles' option --modalities "['T1','T1']" instead; it needs no other datalist.
    """
    source = expand_home(datalist, f"--datalist={datalist}")
    target = expand_home(output, f"--output={output}")
    content = datalists.read(source)
    check_outputs([("output", target)], {"datalist": source})
    if fraction is None and modalities is None:
        raise InputError(f"--datalist={datalist}: nothing to do; expected --fraction, --modalities or both")
    if modalities is not None:
        names = modalities.split(",") if isinstance(modalities, str) else modalities
        if not isinstance(names, list | tuple):
            raise InputError(f"--modalities={modalities}: expected names, such as {','.join(content['modalities'])}")
        content = datalists.restrict(content, [str(name) for name in names])
    if fraction is not None:
        content = datalists.subset(content, fraction, seed, flag("nested", nested))
    datalists.write(content, target)
    print(f"{output}: {sizes(content)}; {', '.join(content['modalities'])}")


if __name__ == "__main__":
    run({"ukb": ukb, "brats": brats, "atlas": atlas, "subset": subset, "check": check}, "datalists")
