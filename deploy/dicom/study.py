"""Read the headers of a DICOM study and group its images into series.

Messages contain no header text and no file names, because both may contain patients' names. Messages identify a series
by its number and the last eight characters of its UID.
"""

import logging
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
)

from common.errors import InputError, show

from .multiframe import ENHANCED_ATTRIBUTES, frames_of

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
LARGEST = 2**30  # bytes, maximum size of an inflated file
UNREADABLE = "contains a DICOM file that cannot be read"

KEYWORDS = [  # all attributes to read
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "ImageType",
    "DerivationDescription",
    "Modality",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "StudyDate",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentTime",
    "ScanningSequence",
    "ScanOptions",
    "MRAcquisitionType",
    "AngioFlag",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
    "ImagesInAcquisition",
    "StackID",
    "ReferencedFrameNumber",
    "LossyImageCompression",
]
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
UID = re.compile(r"[0-9.]{1,64}")  # messages quote the last characters
HIGHEST = 1e12  # limit of numbers; beyond it, floats do not resolve slice positions
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

    @property
    def is_lossy(self) -> bool:
        """Whether any image was compressed with loss, by its header or its transfer syntax."""
        return any(instance.header.get("LossyImageCompression") == "01" for instance in self.instances)

    def without_headers(self) -> "Series":
        """Return an anonymous copy: its headers hold only the series number, and its UID is plain text."""
        header = Dataset()
        header.SeriesNumber = self.number
        return Series(str(self.uid), tuple(Instance(path, header) for path in self.files))


def read_study(folder: Path, name: str = "--input") -> list[Series]:
    """Read the only study in a folder and its subfolders; return its series, sorted by number.

    Messages call the folder `name`. Raise InputError for damaged files, links outside the folder, conflicting copies,
    and several patients or studies.
    """
    studies = studies_in(folder, name)
    if len(studies) > 1:
        raise InputError(f"{name}: contains {len(studies)} studies; expected one study")
    try:
        return series_of(*studies.values())
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def studies_in(folder: Path, name: str, accept_damaged: bool = False) -> dict[str, list[Path]]:
    """Group the DICOM files in a folder and its subfolders by StudyInstanceUID.

    Files other than DICOM are ignored with a warning, DICOMDIR silently. Raise InputError if there is no study, a link
    leads outside the folder, or a file is damaged; with `accept_damaged`, damaged files are only counted in a warning.
    """
    studies: dict[str, list[Path]] = {}
    ignored = damaged = 0
    try:
        if not folder.is_dir():
            raise InputError("no such folder; expected a folder with DICOM files")
        for path in _files(folder):
            try:
                uid = _study_uid(path)
            except InputError:
                if not accept_damaged:
                    raise
                damaged += 1
                continue
            if uid:
                studies.setdefault(uid, []).append(path)
            else:
                ignored += path.name != "DICOMDIR"
        if not studies:
            left_out = f" ({damaged} damaged)" if damaged else ""
            raise InputError(f"contains no DICOM files{left_out}; expected the files of a study")
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    for count, text in ((ignored, "files ignored, as they are not DICOM"), (damaged, "damaged DICOM files left out")):
        if count:
            show(f"warning: {name}: {text}: {count}", error=True)
    return studies


def series_of(paths: Iterable[Path]) -> list[Series]:
    """Return the series of a study's files, sorted by number; identical copies count once.

    Raise InputError for invalid headers, conflicting copies and several patients.
    """
    instances: list[Instance] = []
    first: dict[str, Path] = {}
    for path in paths:
        headers, has_voxels = _read_headers(path)
        copied = first.setdefault(headers[0].SOPInstanceUID, path)
        if copied == path:
            instances += [Instance(path, header, has_voxels) for header in headers]
        elif not _same_content(copied, path):  # e.g. before and after skull stripping
            raise InputError("two different files have the same SOPInstanceUID")
    _check_one_patient([instance.header for instance in instances])
    return _group(instances)


def _files(folder: Path) -> Iterable[Path]:
    """Yield the files below a folder, sorted by name; refuse broken links and links that lead outside the folder."""
    root = os.path.realpath(folder)
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names) + [name for name in folders if Path(parent, name).is_symlink()]:
            path = Path(parent, name)
            if path.is_symlink() and not (path.exists() and Path(os.path.realpath(path)).is_relative_to(root)):
                raise InputError(
                    "contains a link that is broken or leads outside the folder; expected the files themselves"
                )
            if not path.is_dir():
                yield path


def check_inflated(path: Path) -> None:
    """Refuse a deflated DICOM file that inflates to more than `LARGEST` bytes: pydicom would inflate it into memory.

    Raises:
        InputError: The inflated file is larger.
        InvalidDicomError: The file is not DICOM.
    """
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(144 + meta.FileMetaInformationGroupLength)  # preamble, "DICM" and the element with the length
        part = file.read(2**20)
        while part and not stream.eof:
            size += len(stream.decompress(part, 2**24))
            if size > LARGEST:
                limit = f"{LARGEST / 2**20:g} MiB"
                raise InputError(f"contains a deflated DICOM file that inflates to more than {limit}")
            part = stream.unconsumed_tail or file.read(2**20)


def _study_uid(path: Path) -> str:
    """Return the StudyInstanceUID of a file; empty if the file is not DICOM."""
    image, _ = _open(path, ["SOPInstanceUID", "StudyInstanceUID"]) if path.is_file() else (None, False)
    if image is None:
        return ""
    _check(image, "StudyInstanceUID")
    return str(image.StudyInstanceUID)


def _read_headers(path: Path) -> tuple[list[Dataset], bool]:
    """Return the headers of a file's frames (several only for enhanced MR), and whether the file has voxels."""
    image, has_voxels = _open(path, [*KEYWORDS, *ENHANCED_ATTRIBUTES])
    with without_values(UNREADABLE):
        return [_with_keywords(frame) for frame in frames_of(image or Dataset())], has_voxels


def _open(path: Path, keywords: Sequence[str]) -> tuple[Dataset | None, bool]:
    """Read attributes of a DICOM file, None if the file is not DICOM; also return whether the file has voxels."""
    with without_values(UNREADABLE), path.open("rb") as file:
        try:
            check_inflated(path)
            image = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*keywords])
        except InvalidDicomError:
            if _may_be_an_image(path):  # from an interrupted export, or damaged
                size = path.stat().st_size
                raise InputError(f"contains a DICOM file that is empty or damaged ({size} bytes)") from None
            return None, False
        if image.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None, False
        syntax = image.file_meta.get("TransferSyntaxUID")
        if syntax in LOSSY and not image.get("LossyImageCompression"):
            image.LossyImageCompression = "01"
        is_fully_read = syntax == DeflatedExplicitVRLittleEndian
        return image, is_fully_read or len(file.read(13)) > 12


@contextmanager
def without_values(problem: str) -> Iterator[None]:
    """Context manager: suppress pydicom's warnings and log, and report exceptions by type, as their texts quote values.

    Raises:
        InputError: `problem` with the type of the exception; or an InputError of the block, unchanged.
        MemoryError: the host is out of memory.
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
    header = Dataset()
    for keyword in KEYWORDS:
        _check(image, keyword)
        if keyword in image:
            header.add(image[keyword])
    return header


def _check(image: Dataset, keyword: str) -> None:
    if keyword in UIDS and not image.get(keyword):  # ignoring it could silently drop the first or last slice
        raise InputError(f"contains {image_name(image)} without {keyword}; it is damaged or incomplete")
    if keyword in image and not _is_valid(image, keyword):
        raise InputError(f"contains {image_name(image)} with an invalid {keyword}")


def _is_valid(image: Dataset, keyword: str) -> bool:
    """Return whether an attribute is empty or has a valid count of finite numbers or UIDs; text is not checked."""
    try:
        element = image[keyword]
        if element.VM == 0 or dictionary_VR(keyword) not in ("DS", "IS", "UI", "US"):
            return True
        values = values_of(image, keyword)
        if element.VR == "UI":
            valid = all(UID.fullmatch(str(value)) for value in values)
        else:
            valid = bool((np.abs(np.asarray(values, dtype=float)) < HIGHEST).all())
    except Exception:  # pydicom's messages quote values
        return False
    return valid and dictionary_VM(element.tag) in (str(len(values)), "1-n")


def image_name(image: Dataset) -> str:
    """Return the name of an image in messages, with the last characters of its UID."""
    uid = str(image.get("SOPInstanceUID", ""))
    return f"an image (UID ...{uid[-8:]})" if UID.fullmatch(uid) else "a DICOM file"


def _same_content(path: Path, other: Path) -> bool:
    """Return whether two files contain the same data set and voxels; file meta information may differ."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path) == pydicom.dcmread(other)
    except Exception:  # pydicom's messages quote values
        return False


def _check_one_patient(headers: Sequence[Dataset]) -> None:
    names, births, sexes = ({identity(header) for header in headers} - {""} for identity in (_name, _birth_date, _sex))
    if (count := max(len({_patient(header) for header in headers}), len(names), len(births), len(sexes))) > 1:
        raise InputError(f"contains images of {count} patients; expected one patient")


def _patient(header: Dataset) -> tuple[str, ...]:
    """Return a key of a patient: ID and issuer or, without an ID, name and birth date."""
    if identifier := str(header.get("PatientID", "")).strip():
        return identifier, str(header.get("IssuerOfPatientID", "")).strip()
    return _name(header), _birth_date(header)


def _birth_date(header: Dataset) -> str:
    return str(header.get("PatientBirthDate") or "").strip()


def _sex(header: Dataset) -> str:
    return str(header.get("PatientSex") or "").strip().upper()


def _name(header: Dataset) -> str:
    """Return the letters and digits of the patient's name in lower case, because systems differ in punctuation."""
    return re.sub(r"[\W_]+", " ", str(header.get("PatientName") or "").partition("=")[0]).strip().casefold()


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
