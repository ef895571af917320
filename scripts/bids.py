"""Copy predictions into a BIDS derivative dataset: `python -m scripts.bids PREDICTIONS --output=DIR`."""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import cli
from common.data.regions import CONVENTIONS
from common.errors import InputError, show
from common.files import check_writable_folder, expand_home, why_no_folder, write_json
from common.inference.tables import files_of, measured_in
from common.made import MADE, read_with_warning, stated

BIDS = "1.10.0"  # version of the specification
README = """Label maps of brain MRI, on the grid of the scan that was segmented ("orig").

Names and colours of the values: {tables}.
Research only. Not a medical device.
"""


def copy_as_bids(predictions: str, output: str) -> None:
    """Copy predictions into a BIDS derivative dataset, which bids-validator accepts.

    A label map becomes sub-X[/ses-Y]/anat/sub-X[_ses-Y]_space-orig_seg-NAME_dseg.nii.gz, where NAME is the label
    convention of a challenge, or `regions`. BIDS allows only letters and digits in X, Y and NAME; other characters are
    left out. Nothing is written if a label map is damaged or has labels outside its convention.

    Args:
        predictions: folder of label maps: the output folder of inference, or the folder OUTPUT/labels that
            `scripts.segment` writes; with its option --grid, OUTPUT/labels/MODALITY.
        output: new folder of the dataset.
    """
    from common.data.scan_checks import label_counts, label_problem, raise_problem, read_scan  # late: fast `--help`

    folder, target = expand_home(predictions, predictions), expand_home(output, f"--output={output}")
    made = read_with_warning(folder)
    if made is None or not (subjects := sorted(measured_in(folder))):
        problem = f"no valid {MADE}, or no volumes.csv" if folder.is_dir() else why_no_folder(folder)
        raise InputError(folder, problem, "the results of inference or of scripts.segment")
    if target.exists():
        raise InputError(f"--output={output}: exists already; expected a new folder")
    check_writable_folder(target, f"--output={output}")
    convention = stated(made, "label_convention")
    segmented = f"space-orig_seg-{convention if convention in CONVENTIONS else 'regions'}_dseg"
    owners: dict[str, str] = {}
    for subject in subjects:
        if (owner := owners.setdefault(_entities(subject), subject)) != subject:
            problem = f"both {_entities(subject)} in BIDS"
            raise InputError(f"subjects {owner} and {subject}: {problem}; expected different letters or digits")
    sources = {subject: files_of(subject, folder)[0] for subject in subjects}
    for source in sources.values():
        values, _ = label_counts(read_scan(source)[1])
        raise_problem(label_problem(str(source), values, [convention] if convention else [], may_fill=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        dataset = Path(temporary, "dataset")
        for entities, subject in owners.items():
            file = dataset.joinpath(*entities.split("_"), "anat", f"{entities}_{segmented}.nii.gz")
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(sources[subject], file)
        write_json(dataset / "dataset_description.json", _description(made))
        sidecar = {"Description": "Predicted regions", "Manual": False, "SpatialReference": {"orig": "segmented scan"}}
        write_json(dataset / f"{segmented}.json", sidecar)
        shutil.copy2(folder / "dseg.tsv", dataset / f"{segmented}.tsv")
        (dataset / "README").write_text(README.format(tables=f"{segmented}.tsv"), encoding="utf-8")
        dataset.rename(target)
    show(f"{target}: BIDS derivative dataset, label maps: {len(subjects)}")


def _entities(subject: str) -> str:
    """Return a subject's BIDS entities: sub-P1_ses-2 for sub-P1_ses-2, sub-P12 for P1-2."""
    name, *session = re.sub(r"^sub-", "", subject).split("_ses-", 1)
    labels = [_label(text) for text in (name, *session)]
    if "" in labels:
        raise InputError(f"subject {subject}: no letter or digit for BIDS; expected a name such as sub-01_ses-1")
    return "_".join(f"{entity}-{label}" for entity, label in zip(("sub", "ses"), labels, strict=False))


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _description(made: dict[str, Any]) -> dict[str, Any]:
    versions = made.get("versions", {})
    weights = [f"weights {Path(file).name}, SHA-256 {digest}" for file, digest in made["checkpoints"].items()]
    generator = {
        "Name": "BrainSegFounder bundles",
        "Version": versions.get("brainsegfounder", "unknown"),
        "Description": "; ".join(weights),
    }
    return {
        "Name": "Label maps of brain MRI",
        "BIDSVersion": BIDS,
        "DatasetType": "derivative",
        "GeneratedBy": [generator],
    }


if __name__ == "__main__":
    cli.run(copy_as_bids, "bids")
