"""Names of the result files of inference, and the tables beside label maps; imports no PyTorch."""

import csv
from pathlib import Path

from ..data.regions import label_names
from ..errors import InputError, show
from ..files import atomic_write

VOLUMES = "volumes.csv"
COLUMNS = ("subject", "region", "volume_ml", "voxels")


def files_of(subject: str, output_dir: str | Path, probabilities: bool = False) -> list[Path]:
    """Return the result files of a subject: its label map and, on request, its probabilities.

    Example:
        >>> [path.as_posix() for path in files_of("P1", "out", probabilities=True)]
        ['out/P1.nii.gz', 'out/probabilities/P1.nii.gz']
    """
    name = f"{subject}.nii.gz"
    label = Path(output_dir) / name
    return [label, Path(output_dir) / "probabilities" / name] if probabilities else [label]


def measured_in(output_dir: str | Path) -> set[str]:
    """Return the subjects in volumes.csv; empty without the file."""
    return {subject for subject, _ in rows_of(Path(output_dir) / VOLUMES)}


def rows_of(table: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Read volume and voxels by subject and region; empty without a table."""
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if tuple(header) != COLUMNS:
        raise InputError(table, "unexpected header row", f"the columns {', '.join(COLUMNS)}")
    return {(subject, region): (volume, voxels) for subject, region, volume, voxels in rows}


def write_label_tables(folder: str | Path, convention: str) -> None:
    """Write names and colours of label values for BIDS, 3D Slicer and ITK-SNAP; warn if earlier tables differ.

    Formats: BIDS 1.10 (image-derived labels), Slicer's colour tables (no blanks), ITK-SNAP's label descriptions.
    """
    tsv, ctbl = ["index\tname\tcolor"], ["# Color table file", "0 background 0 0 0 0"]
    snap = ["# ITK-SNAP Label Description File", "# IDX -R- -G- -B- -A- VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    for label, (name, colour) in label_names(convention).items():
        red, green, blue = bytes.fromhex(colour[1:])
        tsv.append(f"{label}\t{name}\t{colour}")
        ctbl.append(f"{label} {name.replace(' ', '_')} {red} {green} {blue} 255")
        snap.append(f'{label} {red} {green} {blue} 1 1 1 "{name}"')
    earlier = Path(folder) / "dseg.tsv"
    if earlier.is_file() and earlier.read_text(encoding="utf-8", errors="replace").splitlines() != tsv:
        problem = "label maps of earlier runs follow a different label convention"
        show(f"warning: {folder}: {problem}; expected a different folder", error=True)
    for file, lines in {"dseg.tsv": tsv, "slicer.ctbl": ctbl, "itksnap.txt": snap}.items():
        with atomic_write(Path(folder) / file) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
