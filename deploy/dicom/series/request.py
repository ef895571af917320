"""Parse the option `--series`; imports nothing slow."""

from collections.abc import Sequence

from common.errors import InputError


def parse_series_option(text: str, modalities: Sequence[str]) -> dict[str, str]:
    """Parse `--series`, such as "T1=5,T1ce=9"; return the number or UID of each modality's series as text."""
    requested = {}
    for part in filter(None, text.split(",")):
        modality, separator, value = (word.strip() for word in part.partition("="))
        if not separator or not value or modality not in modalities or modality in requested:
            raise InputError(
                f"--series={text}: expected MODALITY=NUMBER, at most once for each of {', '.join(modalities)}"
            )
        requested[modality] = value
    return requested
