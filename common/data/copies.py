"""Find copied images without reading them, by the checksum at the end of each .nii.gz."""

import gzip
import os
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import InputError

THREADS = 16  # threads mostly wait for storage
SAMPLE = 2**16  # bytes from the middle of an uncompressed file
CHUNK = 2**20  # bytes


def check_copies(cases: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an image that is listed for two modalities or subjects: the same file, or a file with equal content.

    Only files with equal checksums are read and compared. `python -m scripts.datalists check` finds equal voxels in
    other formats, types or headers.
    """
    owners: dict[str, str] = {}
    for case in cases:
        for file in dict.fromkeys(map(str, filter(None, case["image"]))):
            owner = owners.setdefault(file, case["subject"])
            if owner != case["subject"]:
                _refuse(file, case["subject"], file, owner)
    with ThreadPoolExecutor(THREADS) as pool:
        found = zip(owners, pool.map(_fingerprint, owners), strict=True)
        alike = defaultdict(list)
        for file, fingerprint in found:
            alike[fingerprint].append(file)
    for first, *others in alike.values():
        for other in others:  # 32-bit checksums can agree by chance
            if _are_equal(first, other):
                _refuse(other, owners[other], first, owners[first])


def _refuse(file: str, subject: str, other: str, owner: str) -> None:
    listed = "for two modalities" if owner == subject else f"for subject {owner} too"
    same = "the same file is listed" if file == other else f"the same content as {other}, which is listed"
    raise InputError(f"subject {subject}: {file}: {same} {listed}")


def _fingerprint(file: str) -> tuple[bool, int, bytes]:
    """Data that equal files share: the end of a gzip file, or the size and the middle of an uncompressed file."""
    size = Path(file).stat().st_size
    with Path(file).open("rb") as stream:
        if file.endswith(".gz"):
            stream.seek(-8, os.SEEK_END)
            return True, 0, stream.read()
        stream.seek(max(0, size - SAMPLE) // 2)
        return False, size, zlib.crc32(stream.read(SAMPLE)).to_bytes(4, "big")


def _are_equal(file: str, other: str) -> bool:
    unpack = gzip.open if file.endswith(".gz") else open
    with unpack(file, "rb") as one, unpack(other, "rb") as two:
        while (content := one.read(CHUNK)) == two.read(CHUNK):
            if not content:
                return True
    return False
