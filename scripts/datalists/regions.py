"""Regions of a data set: from a regions file, or from the values in the label maps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common.data.datalists import SCHEMA
from common.data.regions import declaration
from common.data.volumes import labels_in, read_scan
from common.errors import InputError, shortened, show, within
from scripts.pools import map_in_processes
from scripts.yaml_files import read_yaml

SHOWN = 32  # regions in the example of a message
EXAMPLE = "a YAML file of regions, outermost first, such as {whole: {labels: [1, 2]}, core: {labels: [1]}}"


def read_regions(path: Path) -> str:
    """Read a YAML file of regions; return them as text (`common.data.regions`)."""
    names = {"type": "object", "propertyNames": {"type": "string"}}
    schema = names | {"$ref": "#/$defs/regions", "$defs": SCHEMA["$defs"]}
    content = read_yaml(path, EXAMPLE, schema)
    with within(path):
        return declaration(content)


def from_labels(root: str, files: Sequence[str], workers: int) -> str:
    """Read the values of label maps and return regions as text: `lesion=1` if 1 is the only value above 0.

    For other values, raise an InputError with an example file of regions.
    """
    values = map_in_processes(partial(label_values, root=root), files, workers, "label map", "label values")
    numbers = sorted(frozenset[int]().union(*values) - {0})
    count = f"{len(values)} label map{'s' if len(values) > 1 else ''}"
    if numbers == [1]:
        show(f"regions: lesion=1, as 1 is the only value in {count}; --regions=REGIONS.yaml renames it")
        return "lesion=1"
    names = {("lesion" if len(numbers) == 1 else f"label{number}"): number for number in numbers[:SHOWN]}
    regions = ", ".join(f"{name}: {{labels: [{number}]}}" for name, number in names.items())
    problem = f"missing; the values in {count} are {shortened(list(map(str, numbers))) or '0'}"
    raise InputError(
        "--regions", problem, f"a YAML file that names the regions, the outermost first, such as {{{regions}}}"
    )


def label_values(file: str, root: str) -> frozenset[int]:
    """Return the values of a label map; `file` is relative to `root`."""
    return labels_in(file, read_scan(Path(root, file))[1])
