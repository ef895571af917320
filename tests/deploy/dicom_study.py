"""Make DICOM studies from the embedded cohort: MR Image instances as a scanner or a converter writes them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

NAME, IDENTIFIER = "SENTINEL^NAMEOF", "SENTINEL-ID-4711"  # may appear in DICOM's patient module only
DESCRIPTIONS = {"FLAIR": "t2_flair_tra", "T1ce": "t1_mprage_sag +C", "T1": "t1_mprage_sag", "T2": "t2_tse_tra"}
TIMES = {"FLAIR": (110, 9000, 2500), "T1ce": (3, 2300, 1100), "T1": (3, 2300, 1100), "T2": (90, 5000, None)}  # ms


@dataclass(frozen=True)
class Study:
    """The attributes that the series of a study share."""

    study: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    name: str = NAME
    identifier: str = IDENTIFIER

    def other_patient(self) -> "Study":
        return replace(self, name="OTHER^SENTINEL", identifier="SENTINEL-ID-4712")


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [x, y, z] and affine (RAS+) of a NIfTI file."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def to_slices(
    array: np.ndarray, affine: np.ndarray, axis: int = 2, flip: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with slices along another axis, or in reverse order."""
    order = [*[other for other in range(3) if other != axis], axis]
    reordered = array.transpose(order)
    permutation = np.eye(4)[:, [*order, 3]]
    affine = affine @ permutation
    if flip:
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, reordered.shape[2] - 1], [0, 0, 0, 1.0]])
        reordered = reordered[:, :, ::-1]
    return reordered, affine


def write_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    study: Study,
    number: int,
    shuffle: bool = False,
    **attributes: object,
) -> list[FileDataset]:
    """Write a series, one file per slice of the last axis; return its instances in the order of that axis.

    Args:
        folder: for the files; it is created if missing.
        array: integers [columns, rows, slices], at least 0.
        affine: voxel index to mm in RAS+.
        study: to which the series belongs.
        number: of the series.
        shuffle: give the slices file names and instance numbers in random order.
        attributes: keyword -> value, for every instance; None omits the attribute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / spacing
    rng = np.random.default_rng(number)
    places = rng.permutation(array.shape[2]) if shuffle else np.arange(array.shape[2])
    common = {
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": number,
        "PixelSpacing": [_ds(spacing[1]), _ds(spacing[0])],
        "SliceThickness": _ds(spacing[2]),
        "ImageOrientationPatient": [_ds(value) for value in cosines[:, :2].T.ravel()],
        "Columns": array.shape[0],
        "Rows": array.shape[1],
    }
    instances = []
    for index in range(array.shape[2]):
        image = _instance(study, common | attributes)
        image.InstanceNumber = int(places[index]) + 1
        image.ImagePositionPatient = [_ds(value) for value in lps[:3, 3] + index * lps[:3, 2]]
        pixels = np.round(array[:, :, index]).T.astype(np.uint16)
        image.PixelData = np.ascontiguousarray(pixels).tobytes()
        image.save_as(folder / f"{number:03d}-{places[index]:04d}.dcm", enforce_file_format=True)
        instances.append(image)
    return instances


def _ds(value: float) -> str:
    """Format a number in the 16 characters of a DICOM decimal string."""
    return pydicom.valuerep.format_number_as_ds(float(value))


def _instance(study: Study, attributes: dict[str, object]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": "20260102",
        "StudyTime": "030405",
        "ContentDate": "20260102",
        "ContentTime": "030405",
        "AccessionNumber": "SENTINEL-ACC",
        "Modality": "MR",
        "Manufacturer": "embedded cohort",
        "ReferringPhysicianName": "",
        "PatientName": study.name,
        "PatientID": study.identifier,
        "PatientBirthDate": "19010203",
        "PatientSex": "O",
        "PatientAge": "061Y",
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "EchoTime": "",
        "RepetitionTime": "1000",
        "EchoTrainLength": "1",
        "PatientPosition": "HFS",
        "StudyInstanceUID": study.study,
        "StudyID": "1",
        "FrameOfReferenceUID": study.frame,
        "PositionReferenceIndicator": "",
        "BodyPartExamined": "BRAIN",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(image, keyword, value)
    return image


def write_modality(
    folder: Path, array: np.ndarray, affine: np.ndarray, study: Study, number: int, modality: str, **options: object
) -> list[FileDataset]:
    """Write a series as `write_series` does, with the description and times of a modality."""
    echo, repetition, inversion = TIMES[modality]
    attributes = {
        "SeriesDescription": DESCRIPTIONS[modality],
        "EchoTime": echo,
        "RepetitionTime": repetition,
        "InversionTime": inversion,
        "ContrastBolusAgent": "gadobutrol" if modality == "T1ce" else None,
        "ScanningSequence": "SE" if inversion is None else ["SE", "IR"],
    }
    return write_series(folder, array, affine, study, number, **(attributes | options))


def write_localiser(folder: Path, study: Study, number: int = 1) -> None:
    """Write three planes of three thick slices each, in one series."""
    uid = generate_uid()
    array = np.full((32, 32, 3), 100)
    for part, axis in enumerate((0, 1, 2)):
        affine = np.diag([8.0, 8.0, 8.0, 1.0])[:, [*np.roll(range(3), axis), 3]]
        write_series(
            folder / f"plane{part}",
            array,
            affine,
            study,
            number,
            SeriesInstanceUID=uid,
            SeriesDescription="localizer",
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            EchoTime="4",
        )


def brats_files(root: Path, subject: int = 0) -> dict[str, Path]:
    """Modality -> NIfTI file of a subject of the embedded cohort in BraTS's layout."""
    name = f"BraTS2021_{subject:05d}"
    return {modality: root / name / f"{name}_{modality.lower()}.nii.gz" for modality in DESCRIPTIONS}


def write_brats(folder: Path, root: Path, study: Study, shuffle: bool = False) -> None:
    """Write a localiser, number 1, and the four series of a subject, numbers 2 to 5."""
    write_localiser(folder / "localiser", study)
    for number, (modality, path) in enumerate(brats_files(root).items(), 2):
        write_modality(folder / f"series{number}", *read(path), study, number, modality, shuffle=shuffle)


def write_small_study(folder: Path) -> Study:
    """Write a localiser, number 1, and the four series of BraTS, numbers 2 to 5, of a few voxels each."""
    study = Study()
    write_localiser(folder / "1", study)
    for number, modality in enumerate(DESCRIPTIONS, 2):
        voxels = np.ones((4, 4, 12), np.uint16)
        write_modality(folder / str(number), voxels, np.eye(4), study, number, modality, shuffle=True)
    return study


def change(file: Path, **values: object) -> None:
    """Change attributes of a DICOM file, given by keyword."""
    image = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(file)
