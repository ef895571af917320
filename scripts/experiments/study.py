"""A study: what is trained on what, read from YAML.

A study has entries: `datalists`, and `runs` that start from them and from each other. `for` gives an entry axes, such
as `fold: [0, 1]`; an entry also has the axes of what it starts from, and there is one job for each combination of
values. Text such as `"{fold}"` in an entry stands for the job's value.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.files import check_schema
from scripts.experiments.jobs import ROOT
from scripts.experiments.mapping import check_mapping
from scripts.experiments.schema import SCHEMA

__all__ = ["STUDIES", "read"]

STUDIES = ROOT / "studies"


def read(study: str) -> tuple[str, dict[str, Any]]:
    """The name and the content of a study: a name of those in `studies`, or a YAML file.

    Raises:
        InputError: there is no such study, or its content is invalid.
    """
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    path = STUDIES / f"{study}.yaml" if study in known else Path(study)
    if not path.is_file():
        raise InputError(f"study {study}: no such file; expected one of {', '.join(known)}, or a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"study {path}: no YAML ({' '.join(str(error).split()):.120})") from error
    check_schema(content, SCHEMA, f"study {path}", "a study")
    _check_references(content, path)
    check_mapping(content, path)
    return path.stem, content


def _check_references(content: Mapping[str, Any], path: Path) -> None:
    """Refuse entries that name unknown ones, or ones that come later."""
    datalists: list[str] = []
    for name, entry in content["datalists"].items():
        _check_reference(path, f"datalists.{name}.from", entry.get("from"), [*datalists, *entry.get("files", [])])
        datalists.append(name)
    runs: list[str] = []
    bundles = sorted(folder.parents[1].name for folder in (ROOT / "bundles").glob("*/configs/train.yaml"))
    for name, entry in content["runs"].items():
        if name in datalists:
            raise InputError(f"study {path}: runs.{name}: a datalist has this name, too; expected another one")
        _check_reference(path, f"runs.{name}.bundle", entry.get("bundle"), bundles)
        _check_reference(path, f"runs.{name}.datalist", entry.get("datalist"), datalists)
        _check_reference(path, f"runs.{name}.pretrained", entry.get("pretrained"), runs)
        runs.append(name)


def _check_reference(path: Path, key: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise InputError(f"study {path}: {key}={name}: expected {', '.join(known) or 'none'}, or an entry above")
