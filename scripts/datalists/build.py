"""Build a datalist: read a folder and its regions, select and split visits, write the file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from common.data.datalists import SCHEMA
from common.data.names import SPELLINGS, person_of
from common.data.regions import declaration
from common.data.volumes import labels_in, read_scan
from common.errors import InputError, shortened, show, within
from scripts.datalists.files import name_people, write
from scripts.datalists.splits import Split, drawn
from scripts.layouts.paths import LABEL, Naming
from scripts.layouts.reading import DataSet, Subject, read_layout
from scripts.nnunet import regions_stated
from scripts.pools import map_in_processes
from scripts.prepare.settings import space_of
from scripts.prepare.volumes import canonical
from scripts.yaml_files import read_yaml

REGIONS = "regions.yaml"  # in the root of a data set
EXAMPLE = "a YAML file of regions, outermost first, such as {whole: {labels: [1, 2]}, core: {labels: [1]}}"


def scan_any(
    root: Path, naming: Naming, regions: str | None, person: str | None, keep_missing: bool = False, workers: int = 0
) -> DataSet:
    """Read any data set and print its layout, modalities, regions and people; the options are those of `generic`.

    If `naming` lists no modalities, those of every subject are taken or, with `keep_missing`, those of any subject.
    """
    file = root / REGIONS if regions is None else Path(regions).expanduser()
    stated = read_regions(file) if regions is not None or file.is_file() else None
    data = read_layout(root, naming)
    data.name = root.resolve().name or "data"
    data.subjects = {name: subject for name, subject in data.subjects.items() if subject.images}
    subjects = data.subjects.values()
    counts = Counter(modality for subject in subjects for modality in subject.images)
    data.show_unused(naming.modalities or counts)
    data.refuse_clashes(naming.modalities or counts)
    data.modalities = naming.modalities or _shared_modalities(data, counts, keep_missing)
    if lacking := [modality for modality in data.modalities if modality not in counts]:
        raise InputError(f"--modalities: no {lacking[0]} in {data.root}", expected=f"some of {', '.join(counts)}")
    show(f"subjects: {len(subjects)}, modalities: {', '.join(data.modalities)}")
    labels = [subject.files[LABEL] for subject in subjects if LABEL in subject.files]
    if not labels and (stated is not None or LABEL in naming.words):
        raise InputError(f"--root={root}", "no label map", "--label=WORDS, the end or a pattern of their paths")
    if labels:
        data.convention = stated or regions_stated(data.root, data.labels) or _convention_in(data.root, labels, workers)
    show(f"regions: {data.convention or 'none'}")
    name_people(subjects, person)
    return data


def read_regions(path: Path) -> str:
    """Read a YAML file of regions; return them as text (`common.data.regions`)."""
    names = {"type": "object", "propertyNames": {"type": "string"}}
    content = read_yaml(path, EXAMPLE, names | {"$ref": "#/$defs/regions", "$defs": SCHEMA["$defs"]})
    with within(path):
        return declaration(content)


def _convention_in(root: str, files: Sequence[str], workers: int) -> str:
    """Return regions as text, `lesion=1`, if 1 is the only value above 0 in label maps.

    For other values, raise an InputError with an example file of regions.
    """
    values = map_in_processes(partial(label_values, root), files, workers, "label map", "label values")
    numbers = sorted(frozenset[int]().union(*values) - {0})
    if numbers != [1]:
        problem = f"missing; the values in the label maps are {shortened(list(map(str, numbers))) or '0'}"
        example = ", ".join(f"label{number}: [{number}]" for number in numbers[:32])
        expected = f"a YAML file that names the regions, the outermost first, such as {{{example}}}"
        raise InputError("--regions", problem, expected)
    return "lesion=1"


def label_values(root: str, file: str) -> frozenset[int]:
    """Return the values of a label map; `file` is relative to `root`."""
    return labels_in(file, read_scan(Path(root, file))[1])


def _shared_modalities(data: DataSet, counts: Mapping[str, int], keep_missing: bool) -> tuple[str, ...]:
    """Return the modalities of every subject or, with `keep_missing`, of any; `counts` has the subjects of each."""
    order, subjects = [*data.modalities, *SPELLINGS, *sorted(counts)], len(data.subjects)
    ordered = sorted(counts, key=order.index)
    shared = tuple(name for name in ordered if keep_missing or counts[name] == subjects)
    if rare := [f"{name} (in {counts[name]} of {subjects} subjects)" for name in ordered if name not in shared]:
        show(f"modalities left out, as not every subject has them: {', '.join(rare)}")
    if not shared:
        raise InputError(f"--root={data.root}", "no modality that every subject has", "--modalities, or --pattern")
    return shared


def select(
    data: DataSet, *, keep_missing: bool = False, min_slices: int = 0, only_first: bool = False, workers: int = 0
) -> DataSet:
    """Return the visits that have all modalities or, with `keep_missing`, any; name each that lacks some.

    Optionally with `min_slices` axial slices with signal in each image, and only the first visit of each person.
    """
    kept = []
    for visit in data.subjects.values():
        missing = [modality for modality in data.modalities if modality not in visit.files]
        is_kept = not missing or (keep_missing and len(missing) < len(data.modalities))
        if missing:
            show(f"{'kept' if is_kept else 'left out'}: {visit.name} lacks {', '.join(missing)}")
        if is_kept:
            kept.append(visit)
    data = _only(data, f"with {'some of ' if keep_missing else ''}{', '.join(data.modalities)}", kept)
    if min_slices:
        images = [[f"{data.root}/{visit.files[modality]}" for modality in data.modalities] for visit in kept]
        counts = map_in_processes(slices_with_signal, images, workers, "visit", "slices with signal")
        few = {visit.name: count for visit, count in zip(kept, counts, strict=True) if count < min_slices}
        show(*(f"left out: {name}: slices with signal: {count} (-1: unreadable)" for name, count in few.items()))
        kept = [visit for visit in kept if visit.name not in few]
        data = _only(data, f"with {min_slices} slices or more in each", kept)
    if only_first:
        firsts = {visit.person: visit for visit in reversed(kept)}
        data = _only(data, "first visits", [visit for visit in kept if firsts[visit.person] is visit])
    return data


def _only(data: DataSet, text: str, visits: Sequence[Subject]) -> DataSet:
    """Return a data set of some of its visits; if they are fewer, print how many people and visits remain."""
    everyone = data.subjects.values()
    if len(visits) < len(everyone):
        people, all_people = (len({visit.person for visit in group}) for group in (visits, everyone))
        show(f"{text}: {people} of {all_people} people, {len(visits)} of {len(everyone)} visits")
    return replace(data, subjects={visit.name: visit for visit in visits})


def slices_with_signal(images: Sequence[str]) -> int:
    """Return the fewest slices, along the axis nearest to z, with a voxel above zero; -1 if an image is unreadable."""
    try:
        scans = [canonical(voxels, scan.affine)[0] for scan, voxels in map(read_scan, images)]
    except InputError:
        return -1
    return min(int((voxels > 0).any(axis=(0, 1)).sum()) for voxels in scans)


def write_split(data: DataSet, splits: Split, output: str) -> None:
    """Assign the people of a data set to splits, and write the datalist.

    People held out by the layout go to testing. If only some visits have a label, the rest go to the split unlabelled.
    """
    visits = data.subjects.values()
    if not visits:
        raise InputError(f"--root={data.root}", "no complete subject", ", ".join(data.modalities))
    convention = data.convention if any(LABEL in visit.files for visit in visits) else None
    content: dict[str, Any] = {"name": data.name, "modalities": list(data.modalities), "label_convention": convention}
    content |= space_of(data)
    for visit in visits:
        is_named = visit.sequence is None and visit.person == person_of(visit.name)
        who = {"subject": visit.name, "person": None if is_named else visit.person, "sequence": visit.sequence}
        entry = {**who, "image": [visit.files.get(name) for name in data.modalities], "label": visit.files.get(LABEL)}
        split = "unlabelled" if data.convention is not None and LABEL not in visit.files else "training"
        content.setdefault(split, []).append({key: value for key, value in entry.items() if value})
    if unlabelled := content.get("unlabelled"):
        show(f"without a label map, in the split unlabelled: {len(unlabelled)}, such as {unlabelled[0]['subject']}")
    write(drawn(content, splits, {visit.person for visit in visits if visit.is_test}), output)
