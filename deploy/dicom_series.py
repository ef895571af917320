"""Which series of a DICOM study a model gets: by rules on headers alone, before any voxel is read.

The rules are those of README.md, section "How series are chosen". No message names a patient, a file or a description,
since hospitals write names into each of them: a series is told by its number and the end of its UID.
"""

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import EnhancedMRImageStorage, MediaStorageDirectoryStorage, MRImageStorage

from common.preflight import InputError

__all__ = ["MIN_SLICES", "Instance", "Series", "choose", "is_volume", "modality_of", "read_study", "wanted_series"]

MIN_SLICES = 10  # fewer are a localiser or a sample; the thickest clinical series of a brain have about 20

HEADER = [  # all that is read of an instance here
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "ImageType",
    "Modality",
    "ContrastBolusAgent",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
]

BEGIN = r"(?:\b|\dd|ax|sag|cor|tra)"  # what may stand before T1 or T2: T1w, 3DT1, AXT2
NOT_ANATOMY = re.compile(
    r"\b(?:loc|localizer|localiser|scout|survey|calib\w*|asset|dwi|adc|trace\w*|diff\w*|dti|perf\w*|pwi|dsc|dce|asl|swi|"
    rf"swan|tof|angio\w*|mra|bold|fmri|phase|sub|subtraction|mip)\b|{BEGIN}t2 ?(?:\*|star)"
)
T1 = re.compile(rf"{BEGIN}t1|mp2?rage|\b(?:bravo|f?spgr|vibe)\b")
T2 = re.compile(rf"{BEGIN}t2")
FLAIR = re.compile(r"flair|dark ?fluid|\btirm\b")
BEFORE_CONTRAST = re.compile(
    r"\b(?:pre|precontrast|non ?contrast|no contrast|without|w o|nativ\w*|plain|unenhanced|ohne|t1n)\b"
)
AFTER_CONTRAST = re.compile(
    r"\b(?:ce|t1 ?ce|t1 ?c|t1 ?gd|gd|gad\w*|post|postcontrast|contrast|enhanced|km)\b|\+ ?(?:c|gd|gad\w*|km)\b|\bc\+"
)
NO_AGENT = ("", "none", "no", "n", "0")
UID = re.compile(r"[0-9.]{1,64}")
ENDINGS = (".dcm", ".dicom", ".ima")  # of files that are meant to be DICOM


@dataclass(frozen=True)
class Instance:
    """One file: where it is, and its header, without voxels."""

    path: Path
    header: Dataset


@dataclass(frozen=True)
class Series:
    """The instances of one SeriesInstanceUID; the first one speaks for all where they have to agree."""

    uid: str
    instances: tuple[Instance, ...] = field(repr=False)  # as headers name the patient

    @property
    def header(self) -> Dataset:
        return self.instances[0].header

    @property
    def number(self) -> int | None:
        """SeriesNumber, which a scanner may leave empty."""
        value = self.header.get("SeriesNumber")
        return None if value in (None, "") else int(value)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"series {'without number' if self.number is None else self.number} (UID ...{self.uid[-8:]})"

    @cached_property
    def modality(self) -> str | None:
        """Its MR contrast by the rules; None where they do not tell, or it is no volume of a head."""
        return modality_of(self.header) if is_volume(self) else None


def read_study(folder: Path) -> list[Series]:
    """The series of the one study in a folder and its subfolders, by number.

    Files that are no DICOM are passed over, and so are directories of media (DICOMDIR). Copies of an image count once.

    Raises:
        InputError: there is no such folder, a link leads out of it, no file is DICOM, one is broken, two of different
            content have one SOPInstanceUID, or the files belong to several patients or studies.
    """
    if not folder.is_dir():
        raise InputError("--input: no such folder; expected one with the DICOM files of one study")
    instances: dict[str, Instance] = {}
    for path in _files(folder):
        header = _header(path)
        if header is None:
            continue
        first = instances.setdefault(header.SOPInstanceUID, Instance(path, header))
        if first.path != path and not _same(first.path, path):  # a scan before and after skull stripping, for one
            raise InputError("--input: two files of different content with one SOPInstanceUID; expected one of them")
    if not instances:
        raise InputError("--input: no DICOM file in it; expected those of one study")
    headers = [instance.header for instance in instances.values()]
    if (count := len({_patient(header) for header in headers})) > 1:
        raise InputError(f"--input: images of {count} patients; expected one")
    if (count := len({header.StudyInstanceUID for header in headers})) > 1:
        raise InputError(f"--input: {count} studies; expected one")
    return _grouped(instances.values())


def _files(folder: Path) -> Iterable[Path]:
    """Every file below a folder in the order of the names; links are followed where they stay inside."""
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names) + [name for name in folders if Path(place, name).is_symlink()]:
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InputError("--input: a link in it leads out of it; expected the files themselves")
            if path.is_file():
                yield path


def _header(path: Path) -> Dataset | None:
    """The header of a DICOM instance; None for what is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their texts quote values
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER)
            if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
                return None
            uids = [header.get(uid) for uid in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
            broken = next((element.keyword for element in header if not _well_formed(element)), None)
    except InvalidDicomError:
        if path.suffix.lower() in ENDINGS or path.stat().st_size == 0:  # an export that broke off leaves such files
            raise InputError("--input: a file in it is empty or damaged; expected DICOM files that are whole") from None
        return None
    except Exception as error:  # pydicom raises what its readers raise, and their texts quote values
        raise InputError(f"--input: a DICOM file in it cannot be read ({type(error).__name__})") from None
    if not all(uids):  # left out in silence, it could be the first slice or the last one
        raise InputError("--input: a DICOM file in it has no UIDs: it is broken, or ends too early")
    if not all(UID.fullmatch(str(uid)) for uid in uids):  # messages quote their ends
        raise InputError("--input: a DICOM file in it has a UID of other characters than digits and dots")
    if broken:
        raise InputError(f"--input: a DICOM file in it has a broken {broken}")
    return header


def _well_formed(element: DataElement) -> bool:
    """Whether numbers and UIDs are as many as DICOM has of them; text with a backslash in it counts as it is.

    Raises:
        Exception: a value is no number; its text quotes the value.
    """
    if element.VM == 0 or element.VR not in ("DS", "IS", "UI", "US"):
        return True
    if element.VR in ("DS", "IS"):
        np.asarray(element.value, dtype=float)  # pydicom may hand on what is no number
    return str(element.VM) == dictionary_VM(element.tag)


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set, voxels included; what transport adds before it may differ."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(one) == pydicom.dcmread(other)
    except Exception:  # texts of pydicom's exceptions quote values
        return False


def _patient(header: Dataset) -> tuple[str, ...]:
    """What tells patients apart: the ID, and where that is empty, name and birth date."""
    if identifier := str(header.get("PatientID", "")).strip():
        return identifier, str(header.get("IssuerOfPatientID", "")).strip()
    return str(header.get("PatientName", "")), str(header.get("PatientBirthDate", ""))


def _grouped(instances: Iterable[Instance]) -> list[Series]:
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.header.SeriesInstanceUID, []).append(instance)
    series = [Series(uid, tuple(members)) for uid, members in groups.items()]
    return sorted(series, key=lambda each: (each.number is None, each.number or 0, each.uid))


def is_volume(series: Series) -> bool:
    """Whether a series can be a volume of a head: MR, no localiser, one orientation, `MIN_SLICES` or more."""
    header = series.header
    if header.get("SOPClassUID") != MRImageStorage or header.get("Modality") != "MR":
        return False
    if any("LOCALI" in str(value).upper() for value in _values(header, "ImageType")):
        return False
    orientations = {
        tuple(round(float(cosine), 2) for cosine in _values(each.header, "ImageOrientationPatient"))
        for each in series.instances
    }
    positions = {tuple(_values(each.header, "ImagePositionPatient")) for each in series.instances}
    return len(orientations) == 1 and () not in orientations | positions and len(positions) >= MIN_SLICES


def modality_of(header: Dataset) -> str | None:
    """FLAIR, T1ce, T1 or T2, by the words of the description, else of the protocol's name, else by times.

    Example:
        >>> header = Dataset()
        >>> header.SeriesDescription = "t1_mprage_sag +C"
        >>> modality_of(header)
        'T1ce'
    """
    texts = [_plain(header.get(keyword)) for keyword in ("SeriesDescription", "ProtocolName")]
    for text in texts:
        if NOT_ANATOMY.search(text):
            return None
        if weighting := _weighting(text):
            return _with_contrast(weighting, header, text)
    return _with_contrast(_weighting_by_times(header), header, texts[0])


def _plain(value: Any) -> str:
    """Lower case, and a blank for what separates words; + and * carry meaning."""
    return " ".join(re.sub(r"[^a-z0-9+*]+", " ", str(value or "").lower()).split())


def _weighting(text: str) -> str | None:
    t1, t2, flair = (pattern.search(text) is not None for pattern in (T1, T2, FLAIR))
    if t1:
        return None if t2 else "T1"  # a T1 FLAIR is weighted by T1
    if flair:
        return "FLAIR"
    return "T2" if t2 else None


def _weighting_by_times(header: Dataset) -> str | None:
    """By echo, repetition and inversion time in ms; None where they are missing or between the kinds."""
    echo, repetition, inversion = (_number(header, f"{name}Time") for name in ("Echo", "Repetition", "Inversion"))
    if echo is None or repetition is None:
        return None
    if echo >= 60 and repetition >= 2000:
        return "FLAIR" if inversion is not None and inversion >= 1500 else "T2"
    inverted = inversion is not None and 300 <= inversion < 1500
    return "T1" if echo <= 15 and (inverted or 200 <= repetition <= 1000) else None


def _with_contrast(weighting: str | None, header: Dataset, text: str) -> str | None:
    """T1ce for a T1 after contrast agent. Words win: some scanners keep the agent in the header once it was typed."""
    if weighting != "T1" or BEFORE_CONTRAST.search(text):
        return weighting
    has_agent = _plain(header.get("ContrastBolusAgent")) not in NO_AGENT
    return "T1ce" if has_agent or AFTER_CONTRAST.search(text) else "T1"


def _number(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    return None if value in (None, "") else float(value)


def _values(header: Dataset, keyword: str) -> list[Any]:
    value = header.get(keyword)
    return [] if value in (None, "") else [value] if isinstance(value, str) else list(value)


def wanted_series(text: str | int, modalities: Sequence[str]) -> dict[str, str]:
    """What `--series` says: modality -> number or UID of the series, as text.

    Args:
        text: such as "T1=5,T1ce=9"; for a model of one modality its number alone will do.
        modalities: that the model takes.

    Raises:
        InputError: it has another form, or an unknown modality.
    """
    if isinstance(text, int) and len(modalities) == 1:
        return {modalities[0]: str(text)}
    wanted = {}
    for part in filter(None, str(text).split(",")):
        modality, separator, value = (word.strip() for word in part.partition("="))
        if not separator or not value or modality not in modalities or modality in wanted:
            raise InputError(f"--series={text}: expected MODALITY=NUMBER, each once, for {', '.join(modalities)}")
        wanted[modality] = value
    return wanted


def choose(study: Sequence[Series], modalities: Sequence[str], wanted: Mapping[str, str]) -> dict[str, Series]:
    """The series for each modality, in the order of `modalities`.

    Args:
        study: all of its series.
        modalities: that the model takes.
        wanted: modality -> number or UID of a series that the user has chosen; rules decide on the others.

    Raises:
        InputError: a modality has no series or several, or those chosen do not share a frame of reference.
    """
    named = {modality: _by_name(study, modality, value) for modality, value in wanted.items()}
    taken = {series.uid for series in named.values()}
    if len(taken) < len(named):
        raise InputError("--series: one series for two modalities; expected one each")
    chosen = {
        modality: named.get(modality) or _by_rules([each for each in study if each.uid not in taken], modality)
        for modality in modalities
    }
    frames = {instance.header.get("FrameOfReferenceUID") for series in chosen.values() for instance in series.instances}
    if len(frames) > 1 or not all(frames):
        parts = ", ".join(f"{modality} {series.name}" for modality, series in chosen.items())
        raise InputError(f"--input: {len(frames)} frames of reference among {parts}; expected one that all share")
    return chosen


def _by_name(study: Sequence[Series], modality: str, value: str) -> Series:
    found = [series for series in study if value in (str(series.number), series.uid)]
    if len(found) != 1:
        several = f"{len(found)} series have it" if found else "no such series"
        raise InputError(f"--series={modality}={value}: {several}; expected the number or UID of one")
    if not is_volume(found[0]):
        raise InputError(
            f"--series={modality}={value}: no volume; expected MR images, {MIN_SLICES} or more in one orientation"
        )
    return found[0]


def _by_rules(study: Sequence[Series], modality: str) -> Series:
    found = [series for series in study if series.modality == modality]
    if len(found) > 1:
        names = ", ".join(series.name for series in found)
        raise InputError(f"{modality}: {len(found)} series fit: {names}; choose one with --series={modality}=NUMBER")
    if not found:
        told = ", ".join(f"{series.name} {series.modality or 'not told'}" for series in study) or "none"
        enhanced = any(series.header.get("SOPClassUID") == EnhancedMRImageStorage for series in study)
        hint = "; enhanced multi-frame MR is not read, convert it to MR images" if enhanced else ""
        raise InputError(f"{modality}: no series fits among: {told}; name it with --series={modality}=NUMBER{hint}")
    return found[0]
