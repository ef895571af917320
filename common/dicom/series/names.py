"""The site's own names of series: a YAML file from names or patterns to modalities (`--series_names`)."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydicom.dataset import Dataset

from ...errors import InputError
from ...files import valid_yaml
from ..study import values_of
from .words import NO_MODALITY, WITH, WITHOUT, Words, read_words

MEANINGS = {
    "T1": Words("T1", WITHOUT, named=True),
    "T1ce": Words("T1", WITH, named=True),
    "T2": Words("T2", None, named=True),
    "FLAIR": Words("FLAIR", None, named=True),
    NO_MODALITY: Words(NO_MODALITY, None, named=True),
}
Names = Sequence[tuple[str, Words]]  # a pattern in lower case, and the meaning of the names that match it


def read_table(path: Path | None) -> Names:
    """Read the site's table, such as `{"T1 KOPF S1": T1, "*_gd_v?": T1ce, "scout*": none}`; empty without a file.

    A name is matched as a whole, whatever its case; * stands for any letters and ? for one.
    """
    if path is None:
        return ()
    table = valid_yaml(path, "a YAML file of names", name="--series_names")
    if not isinstance(table, dict) or not table:
        raise InputError("--series_names: expected a mapping from names to modalities")
    for number, modality in enumerate(table.values(), 1):
        if not isinstance(modality, str) or modality not in MEANINGS:
            raise InputError(f"--series_names: entry {number}: expected a name and one of {', '.join(MEANINGS)}")
    return [(name.strip().lower(), MEANINGS[modality]) for name, modality in table.items()]


def read_names(header: Dataset, names: Names = (), whole: bool = False) -> tuple[Words, Words]:
    """The meaning of the description and of the protocol name; of a name in the site's table by the table alone.

    `whole`: see `read_words`.
    """
    texts = (values_of(header, word) for word in ("SeriesDescription", "ProtocolName"))
    description, protocol = ("\\".join(map(str, values)) for values in texts)  # a backslash separates values
    name = (description or protocol).strip().lower()
    found = {words for pattern, words in names if fnmatchcase(name, pattern.replace("[", "[[]"))}
    exact = {words for pattern, words in names if name == pattern}
    if len(exact or found) > 1:
        raise InputError("--series_names: two patterns give one series different modalities")
    if named := next(iter(exact or found), None):
        return named, Words(None, None)
    return read_words(description, whole), read_words(protocol, whole)
