"""Examine subjects in parallel and keep their records, so that a check can resume.

A file is read again only if its size or time has changed.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.data.modalities import first_image
from common.data.scan_checks import Problem, files_in
from common.errors import show
from common.files import atomic_write, read_json
from scripts.arrays import JobArray
from scripts.datalists.examine import Image, Record, examine
from scripts.pools import map_in_processes

FOLDER = "records"  # in the output folder
FORMAT = 5  # version of `examine`; a new number reads all files again
NO_RECORD = "reading them ended the process, twice"


def examine_all(
    cases: Sequence[Mapping[str, Any]],
    root: str,
    convention: str | None,
    output: Path | None,
    workers: int,
    array: JobArray | None = None,
) -> list[Record]:
    """Examine all cases that have no valid record in `output`; keep each new record at once.

    A record is valid while paths, sizes and times of the files, the label convention and `FORMAT` stay the same.
    Records of missing or unreadable files are not kept. Thumbnails stay on disk, for `thumbnail_of`, to save memory.
    """
    folder = None if output is None else output / FOLDER
    records = [None if folder is None else _known(folder, case, root, convention) for case in cases]
    rest = [case for case, record in zip(cases, records, strict=True) if record is None]
    if len(rest) < len(cases):
        known = f"{len(cases) - len(rest)} of {len(cases)} subjects"
        show(f"{known} were read before, and their files are the same", error=True)
    work = partial(_examine, root=root, convention=convention, folder=folder)
    done = array.map(work, rest, "subject") if array else map_in_processes(work, rest, workers, "subject")
    new = iter(done)
    found = [record if record is not None else next(new) for record in records]
    return [
        record or Record((Problem("unreadable", first_image(case), NO_RECORD, "files that fit into memory"),))
        for case, record in zip(cases, found, strict=True)
    ]


def _examine(case: Mapping[str, Any], root: str, convention: str | None, folder: Path | None) -> Record:
    """Examine a case unless its record exists by now (a SLURM job may be requeued); returns no thumbnail."""
    if folder is not None and (kept := _known(folder, case, root, convention)) is not None:
        return kept
    state = _state(case, root, convention)  # taken first, since files may change while they are read
    record = examine(case, root=root, convention=convention)
    if folder is not None and state is not None and all(each.check != "unreadable" for each in record.problems):
        content = {"subject": case["subject"], "state": state, "record": _in_json(record)}
        with atomic_write(_file(folder, case, root)) as path:
            path.write_text(json.dumps(content), encoding="utf-8")
    return record._replace(thumbnail=b"")


def thumbnail_of(case: Mapping[str, Any], root: str, convention: str | None, output: Path) -> bytes:
    """The PNG thumbnail in a case's record; empty if there is none."""
    record = _kept(output / FOLDER, case, root, convention)
    return b"" if record is None else record.thumbnail


def _file(folder: Path, case: Mapping[str, Any], root: str) -> Path:
    """The file of a case's record, named by a hash of the paths, since subject names may not be valid file names."""
    paths = [str(Path(root).resolve()), case["image"], case.get("label")]
    name = sha256(json.dumps(paths).encode()).hexdigest()
    return folder / name[:2] / f"{name}.json"


def _state(case: Mapping[str, Any], root: str, convention: str | None) -> dict[str, Any] | None:
    """The state of the files that a record depends on, as JSON data; None if a file is missing."""
    try:
        stats = [Path(root, file).stat() for file in files_in(case)]
    except (OSError, ValueError):  # ValueError: a path contains a null byte
        return None
    return {
        "format": FORMAT,
        "convention": convention,
        "unlabelled": case["split"] == "unlabelled",
        "files": [[stat.st_size, stat.st_mtime_ns] for stat in stats],
    }


def _kept(folder: Path, case: Mapping[str, Any], root: str, convention: str | None) -> Record | None:
    """The record of a case with unchanged files; None if there is no usable one."""
    try:
        content = read_json(_file(folder, case, root))
        state = _state(case, root, convention)
        return _from_json(content["record"]) if state is not None and content["state"] == state else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def _known(folder: Path, case: Mapping[str, Any], root: str, convention: str | None) -> Record | None:
    """The record of a case with unchanged files, without thumbnail."""
    record = _kept(folder, case, root, convention)
    return None if record is None else record._replace(thumbnail=b"")


def _in_json(record: Record) -> dict[str, Any]:
    picture = b64encode(record.thumbnail).decode()
    return {**record._asdict(), "digests": [digest.hex() for digest in record.digests], "thumbnail": picture}


def _from_json(content: Mapping[str, Any]) -> Record:
    return Record(
        problems=tuple(Problem(*problem) for problem in content["problems"]),
        orientation=content["orientation"],
        spacing=tuple(content["spacing"]),
        images=tuple(None if image is None else Image(*image) for image in content["images"]),
        digests=tuple(map(bytes.fromhex, content["digests"])),
        preparation=content["preparation"],
        volumes=content["volumes"],
        thumbnail=b64decode(content["thumbnail"]),
    )
