"""Tables of series as sites name them: header evidence, and the modality that a neuroradiologist would expect."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

TABLE = Path(__file__).with_name("series_descriptions.csv")
HELD_OUT = Path(__file__).with_name("series_descriptions_held_out.csv")  # written after the rules
PUBLIC = Path(__file__).with_name("series_descriptions_public.csv")  # of public collections, written by their sites
CODE = Path(__file__).with_name("series_descriptions_code.csv")  # quoted by public code, collected after the rules
DAY = "20260102"
KEYWORDS = {  # column -> attribute
    "description": "SeriesDescription",
    "protocol": "ProtocolName",
    "agent": "ContrastBolusAgent",
    "injected": "ContrastBolusStartTime",
    "acquired": "AcquisitionTime",
    "echo": "EchoTime",
    "repetition": "RepetitionTime",
    "inversion": "InversionTime",
    "sequence": "ScanningSequence",
    "image_type": "ImageType",
    "body": "BodyPartExamined",
}
LISTS = ("sequence", "image_type")  # their values are separated by blanks


@dataclass(frozen=True, eq=False)
class Row:
    """A series: its attributes by keyword, and the expected modality, "none" or "ask"."""

    number: int
    expected: str
    hostile: bool
    attributes: dict[str, object]

    @property
    def name(self) -> str:
        """For a test's messages."""
        return f"line {self.number}, {self.attributes}: expected {self.expected}"

    def header(self) -> Dataset:
        """A header with these attributes."""
        result = Dataset()
        result.StudyDate = DAY
        for keyword, value in self.attributes.items():
            setattr(result, keyword, value)
        return result


def read_table(path: Path) -> list[Row]:
    """The rows of a table."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.DictReader(file), 2):
            values = {column: value for column, value in line.items() if column in KEYWORDS and value}
            attributes = {
                KEYWORDS[column]: value.split() if column in LISTS else value for column, value in values.items()
            }
            rows.append(Row(number, line["expected"], line["hostile"] == "y", attributes))
    return rows
