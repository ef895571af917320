"""Read the headers of a DICOM study and group its images into series.

Messages contain no header text and no file names, because both may contain patients' names. Messages identify a series
by its number and the last eight characters of its UID.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
)

from common.errors import InputError, show, within

from .multiframe import ENHANCED_ATTRIBUTES, frames_of

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
KEYWORDS = (  # all attributes to read
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "Modality", "BodyPartExamined", "ImageType"),
    *("DerivationDescription", "ContrastBolusAgent", "ContrastBolusStartTime", "StudyDate", "AcquisitionDate"),
    *("AcquisitionTime", "AcquisitionDateTime", "ContentTime", "EchoTime", "RepetitionTime", "InversionTime"),
    *("ScanningSequence", "ScanOptions", "MRAcquisitionType", "AngioFlag", "ImagesInAcquisition", "StackID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "Rows", "Columns"),
    *("RescaleSlope", "RescaleIntercept", "ReferencedFrameNumber", "LossyImageCompression"),
)
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
UID = re.compile(r"[0-9.]{1,64}")  # messages quote the last characters
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC}  # unless the header says "00"


@dataclass(frozen=True)
class Instance:
    """A DICOM image: its file and its header without voxels. Each frame of enhanced MR is an instance."""

    path: Path
    header: Dataset
    has_voxels: bool = True


@dataclass(frozen=True)
class Series:
    """All instances with the same SeriesInstanceUID."""

    uid: str
    instances: tuple[Instance, ...] = field(repr=False)  # headers name the patient

    @property
    def header(self) -> Dataset:
        """Header of the first instance, for attributes on which all instances agree."""
        return self.instances[0].header

    @property
    def files(self) -> list[Path]:
        """The series' files; the frames of an enhanced image share a file."""
        return list(dict.fromkeys(instance.path for instance in self.instances))

    @property
    def number(self) -> int | None:
        """SeriesNumber; None if missing or empty."""
        value = self.header.get("SeriesNumber")
        return None if value in (None, "") else int(value)

    @property
    def name(self) -> str:
        """Name of the series in messages: its number and the last characters of its UID."""
        return f"series {'without number' if self.number is None else self.number} (UID ...{self.uid[-8:]})"


def read_study(folder: Path) -> list[Series]:
    """Read the only study in a folder and its subfolders; return its series, sorted by number.

    Identical copies count once, files other than DICOM are ignored with a warning. Raise InputError for damaged files,
    invalid headers, conflicting copies, and several patients or studies.
    """
    if not folder.is_dir():
        raise InputError("--input: no such folder; expected a folder with DICOM files")
    instances: list[Instance] = []
    first: dict[str, Path] = {}
    ignored = 0
    with within("--input"):
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() and not path.is_file():
                raise InputError("contains a link that is broken or leads to a folder; expected the files themselves")
            if path.is_dir():
                continue
            headers, has_voxels = _read_headers(path) if path.is_file() else ([], False)
            if not headers:
                ignored += path.name != "DICOMDIR"
                continue
            copied = first.setdefault(headers[0].SOPInstanceUID, path)
            if copied == path:
                instances += [Instance(path, header, has_voxels) for header in headers]
            elif not _same_content(copied, path):  # e.g. before and after skull stripping
                raise InputError("two different files have the same SOPInstanceUID")
        studies = {instance.header.StudyInstanceUID for instance in instances}
        if len(studies) != 1:
            raise InputError(f"contains {len(studies)} studies; expected the DICOM files of one study")
        _check_one_patient([instance.header for instance in instances])
    if ignored:
        show(f"warning: --input: files ignored, as they are not DICOM: {ignored}", error=True)
    return _group(instances)


def _read_headers(path: Path) -> tuple[list[Dataset], bool]:
    """Return the headers of a file's frames (several only for enhanced MR), and whether the file has voxels.

    There are no headers if the file is not DICOM, or a DICOMDIR.
    """
    with without_values("contains a DICOM file that cannot be read"), path.open("rb") as file:
        try:
            image = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*KEYWORDS, *ENHANCED_ATTRIBUTES])
        except InvalidDicomError:
            if _may_be_an_image(path):  # from an interrupted export, or damaged
                size = path.stat().st_size
                raise InputError(f"contains a DICOM file that is empty or damaged ({size} bytes)") from None
            return [], False
        if image.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return [], False
        syntax = image.file_meta.get("TransferSyntaxUID")
        if syntax in LOSSY and not image.get("LossyImageCompression"):
            image.LossyImageCompression = "01"
        has_voxels = syntax == DeflatedExplicitVRLittleEndian or len(file.read(13)) > 12
        return [_with_keywords(frame) for frame in frames_of(image)], has_voxels


@contextmanager
def without_values(problem: str) -> Iterator[None]:
    """Context manager: silence pydicom, and raise an InputError with `problem` and the type of any other exception.

    Texts of pydicom's warnings, log and exceptions quote header values.
    """
    log = logging.getLogger("pydicom")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{problem} ({type(error).__name__})") from None
    finally:
        log.setLevel(before)


def _may_be_an_image(path: Path) -> bool:
    """Return whether a non-DICOM file may be a damaged image: empty, with a DICOM suffix, or binary without suffix."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        is_text = b"\0" not in file.read(1024)
    return not is_text and not path.name.startswith(".") and not suffix[1:2].isalpha()


def _with_keywords(image: Dataset) -> Dataset:
    for keyword in UIDS:  # ignoring the image could silently drop the first or last slice
        if not UID.fullmatch(str(image.get(keyword, ""))):
            raise InputError(f"contains {image_name(image)} without a valid {keyword}; it is damaged or incomplete")
    header = Dataset()
    header.update({element.tag: element for element in (image[word] for word in KEYWORDS if word in image)})
    return header


def image_name(image: Dataset) -> str:
    """Return the name of an image in messages, with the last characters of its UID."""
    uid = str(image.get("SOPInstanceUID", ""))
    return f"an image (UID ...{uid[-8:]})" if UID.fullmatch(uid) else "a DICOM file"


def _same_content(path: Path, other: Path) -> bool:
    """Return whether two files contain the same data set and voxels; file meta information may differ."""
    with without_values("contains a DICOM file that cannot be read"):
        return pydicom.dcmread(path) == pydicom.dcmread(other)


def _check_one_patient(headers: Sequence[Dataset]) -> None:
    """Refuse several patients: by ID and issuer or, without an ID, name and birth date; also by name, birth or sex."""
    people = [_identity(header) for header in headers]
    patients = {person[:2] if person[0] else person[2:4] for person in people}
    details = [{*values} - {""} for values in list(zip(*people, strict=True))[2:]]
    if (count := max(map(len, [patients, *details]))) > 1:
        raise InputError(f"contains images of {count} patients; expected one patient")


def _identity(header: Dataset) -> tuple[str, ...]:
    """Return ID, issuer, name (letters and digits, as systems differ in punctuation), birth date and sex."""
    words = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
    identifier, issuer, birth, sex = (str(header.get(word) or "").strip() for word in words)
    name = re.sub(r"[\W_]+", " ", str(header.get("PatientName") or "").partition("=")[0]).strip().casefold()
    return identifier, issuer, name, birth, sex.upper()


def values_of(header: Dataset, keyword: str) -> list[Any]:
    """Return the values of a DICOM attribute as a list; empty if the attribute is missing or empty."""
    value = header.get(keyword)
    return [] if value in (None, "") else [value] if isinstance(value, str | int | float) else list(value)


def _is_image(instance: Instance) -> bool:
    kind = instance.header.get("SOPClassUID")
    return "Rows" in instance.header or not kind or "Image Storage" in kind.name


def _group(instances: Iterable[Instance]) -> list[Series]:
    """Group instances into series, sorted by number; drop objects other than images from series that have images."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.header.SeriesInstanceUID, []).append(instance)
    series = [Series(uid, tuple(filter(_is_image, members)) or tuple(members)) for uid, members in groups.items()]
    return sorted(series, key=lambda entry: (entry.number is None, entry.number or 0, entry.uid))
