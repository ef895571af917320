"""Write, split and check datalists: `python -m scripts.datalists COMMAND`, such as generic or check."""

from collections.abc import Callable, Sequence
from pathlib import Path

from common.data.regions import declaration
from common.errors import choice, show
from scripts.cli import run
from scripts.cohorts import COHORTS, Cohort
from scripts.datalists.build import scan_any, select, write_split
from scripts.datalists.check import check
from scripts.datalists.splits import Split, fold, split, subset
from scripts.layouts.paths import naming
from scripts.layouts.reading import read_cohort
from scripts.scans import scans

OPTIONS = """
    Args:
        root: folder of the cohort as distributed; see docs/reference/data.md.
        output: the datalist, a JSON file.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; or all, if no stage trains on the cohort.
        seed: seed of the random choice, 0 or more.
        label_convention: label convention, or regions such as core=1+3,whole=1+2+3; by default by the folders' names.
        min_slices: fewest axial slices with a voxel above zero in each image; the paper uses 100 (an hour on a core).
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
        splits, stated = Split(validation, testing, seed, least), label_convention and declaration(label_convention)
        data = read_cohort(card.layouts, Path(root).expanduser())
        data.name, data.convention = name, stated or data.convention
        data.show_unused(card.modalities)
        data.refuse_clashes(card.modalities)
        show(f"regions: {data.convention or 'none'}")
        write_split(select(data, min_slices=min_slices, only_first=only_first, workers=workers), splits, output)

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

    BIDS and nnU-Net's raw folders are recognised. In other folders, names end with the modality, seg, mask or the like,
    as in SUBJECT/VISIT/SUBJECT_MODALITY; for other names, give --pattern. See docs/reference/data.md.

    Args:
        root: folder of the data set.
        output: the datalist, a JSON file.
        regions: YAML file with the name and labels of each region, the outermost first; by default regions.yaml in
            `root`, the regions of dataset.json, or, if the only value in all label maps is 1, the region lesion.
        modalities: modalities to take, in this order, such as T1,FLAIR; by default those of every subject or, with
            `--missing=keep`, of any. For other names, give the last words of names or paths, such as
            T1=t1_mprage,FLAIR=pre/FLAIR, or patterns, such as T1={subject}/pre/T1; of nnU-Net the channels' names.
        label: last words or pattern of label maps' names, such as lesion_mask or masks/{subject}.
        pattern: pattern of all paths below `root`, such as {subject}/{session}/*{modality}; * stands for any part of a
            name, ** also for folders.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing, besides those in imagesTs; or all, if no stage trains on it.
        seed: seed of the random choice, 0 or more.
        missing: exclude or keep subjects that lack modalities; see docs/how-to/missing-modalities.md.
        workers: processes that read label maps, if the regions are not given; 0 for one per core.
    """
    splits, names = Split(validation, testing, seed), naming(modalities, label, pattern)
    keeps_some = choice("missing", missing, {"exclude": False, "keep": True})
    data = scan_any(Path(root).expanduser(), names, regions, person, keeps_some, workers)
    write_split(select(data, keep_missing=keeps_some), splits, output)


COMMANDS = {name: command_of(name, card) for name, card in COHORTS.items()}
COMMANDS |= {"generic": generic, "scans": scans, "split": split, "fold": fold, "subset": subset, "check": check}

if __name__ == "__main__":
    run(COMMANDS, "datalists")
