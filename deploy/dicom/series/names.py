"""A site's table of series names (`--series_names`): a YAML file that maps names or patterns to modalities."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydicom.dataset import Dataset

from common.errors import InputError
from scripts.yaml_files import read_yaml

from ..study import values_of
from .words import NO_MODALITY, WITH, WITHOUT, Words, read_words

MEANINGS = {
    "T1": Words("T1", WITHOUT, named=True),
    "T1ce": Words("T1", WITH, named=True),
    "T2": Words("T2", None, named=True),
    "FLAIR": Words("FLAIR", None, named=True),
    NO_MODALITY: Words(NO_MODALITY, None, named=True),
}
Names = Sequence[tuple[str, Words]]  # pattern in lower case, and the meaning of matching names


def read_table(path: Path | None) -> Names:
    """Read a site's table of series names, such as `{"T1 KOPF S1": T1, "*_gd_v?": T1ce, "scout*": none}`.

    Names match in full, without regard to case; * matches any characters, ? a single character. The result is empty
    without a file. Raise `InputError` if the table is invalid.
    """
    if path is None:
        return ()
    table = read_yaml(path, "a YAML file of names")
    if not isinstance(table, dict) or not {*table.values()} <= MEANINGS.keys():
        raise InputError(f"--series_names: expected a mapping from names to {', '.join(MEANINGS)}")
    return [(name.strip().lower(), MEANINGS[modality]) for name, modality in table.items()]


def read_names(header: Dataset, names: Names = (), covers_brain: bool = False) -> tuple[Words, Words]:
    """Read weighting and contrast agent from series description and protocol name; a match in `names` replaces both."""
    texts = (values_of(header, word) for word in ("SeriesDescription", "ProtocolName"))
    description, protocol = ("\\".join(map(str, values)) for values in texts)  # a backslash separates values
    name = (description or protocol).strip().lower()
    matching = {words for pattern, words in names if fnmatchcase(name, pattern.replace("[", "[[]"))}
    exact = {words for pattern, words in names if name == pattern}
    if len(exact or matching) > 1:
        raise InputError("--series_names: two patterns give one series different modalities")
    if named := next(iter(exact or matching), None):
        return named, Words(None, None)
    return read_words(description, covers_brain), read_words(protocol, covers_brain)
