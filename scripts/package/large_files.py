"""large_files.yml: the files that the Model Zoo takes from elsewhere because of their size."""

import re
from pathlib import Path

import yaml

from common.errors import InputError, one_line

__all__ = ["LARGE", "large_files"]

LARGE = 25_000_000  # bytes; the Model Zoo accepts no larger file
HASHES = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # hexadecimal digits


def large_files(folder: Path) -> dict[str, dict[str, str]]:
    """The entries of large_files.yml by path; empty if there is no such file.

    Raises:
        InputError: it cannot be read, or an entry is not a path inside the package with a URL and a hash.
    """
    file = folder / "large_files.yml"
    if not file.is_file():
        return {}
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))["large_files"]
        listed = {entry["path"]: entry for entry in entries}
        for path, entry in listed.items():
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise InputError(f"{folder.name}: large_files.yml: {path} leads out of the package")
            if len(entry["hash_val"]) != HASHES[entry["hash_type"]] or not re.match(r"https://|$", entry["url"]):
                raise InputError(
                    f"{folder.name}: large_files.yml: {path}: expected an https:// URL, and a hash of its type"
                )
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        expected = "large_files, a list of path, url, hash_val and hash_type"
        raise InputError(f"{folder.name}: large_files.yml: {one_line(error)}; expected {expected}") from error
    return listed
