"""Write a computed head as a DICOM study, as a scanner exports it: `python -m deploy.phantom HEAD --output=DIR`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from common.data.volumes import read_scan
from scripts.cli import run
from scripts.phantoms.heads import SEQUENCES
from scripts.prepare.volumes import FLIP

Array = NDArray[Any]
DESCRIPTIONS = {"FLAIR": "t2_flair_tra", "T1ce": "t1_mprage_tra +C", "T1": "t1_mprage_tra", "T2": "t2_tse_tra"}
ACQUIRED = {"T1": "100000", "FLAIR": "100600", "T2": "101300", "T1ce": "102500"}  # times of day, in order of the scans
AGENT, INJECTED = "gadobutrol", "101900"
IMAGE: dict[str, Any] = {"ImageType": ["DERIVED", "SECONDARY", "OTHER"], "Modality": "MR"}
IMAGE |= {"StudyDate": "20260102", "StudyTime": "030405", "ContentDate": "20260102", "ContentTime": "030405"}
IMAGE |= {"ReferringPhysicianName": "", "StudyID": "1", "BodyPartExamined": "BRAIN", "Manufacturer": "embedded cohort"}
IMAGE |= {"PatientBirthDate": "19010203", "PatientSex": "O", "PatientAge": "061Y", "PatientPosition": "HFS"}
IMAGE |= {"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "3D"}
IMAGE |= {"EchoTime": "", "RepetitionTime": "1000", "EchoTrainLength": "1", "PositionReferenceIndicator": ""}
IMAGE |= {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
IMAGE |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "SpecificCharacterSet": "ISO_IR 192"}
SCANNER: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "StudyTime": "095500", "ContentTime": None}
SCANNER |= {"QualityControlImage": "YES", "BurnedInAnnotation": "NO"}  # a phantom


@dataclass(frozen=True)
class Study:
    """Attributes shared by the series of a study."""

    study: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    name: str = ""
    identifier: str = ""
    accession: str = ""


def phantom(head: str, output: str) -> None:
    """Write the scans of a head from `python -m scripts.phantoms` as a DICOM study, a folder OUTPUT/NUMBER per series.

    Args:
        head: a subject's folder in the layout brats.
        output: folder of the study.
    """
    folder = Path(head)
    study = Study(name=f"PHANTOM^{folder.name}", identifier=folder.name)
    for number, (modality, time) in enumerate(ACQUIRED.items(), 2):  # 1 is a scanner's localiser
        scan, voxels = read_scan(folder / f"{folder.name}_{modality.lower()}.nii.gz")
        options = SCANNER | {"AcquisitionDate": IMAGE["StudyDate"], "AcquisitionTime": time}
        options |= {"ContrastBolusStartTime": INJECTED if SEQUENCES[modality].enhanced else None}
        write_modality(Path(output, str(number)), voxels, scan.affine, study, number, modality, **options)


def write_modality(
    folder: Path, array: Array, affine: Array, study: Study, number: int, modality: str, **options: Any
) -> list[FileDataset]:
    """Write a series with a modality's description, sequence times and contrast agent; see `write_series`."""
    repetition, echo, inversion, is_enhanced = SEQUENCES[modality]
    attributes: dict[str, Any] = {"EchoTime": echo, "RepetitionTime": repetition, "InversionTime": inversion}
    attributes |= {"ContrastBolusAgent": AGENT if is_enhanced else None, "SeriesDescription": DESCRIPTIONS[modality]}
    attributes |= {"ScanningSequence": "SE" if inversion is None else ["SE", "IR"]}
    return write_series(folder, array, affine, study, number, **(attributes | options))


def write_series(
    folder: Path, array: Array, affine: Array, study: Study, number: int, shuffle: bool = False, **attributes: Any
) -> list[FileDataset]:
    """Write a series [columns, rows, slices], a file per slice; return its instances in the order of the slices.

    `affine` maps to mm in RAS+. With `shuffle`, file names and instance numbers are in random order. `attributes` apply
    to every instance; None omits one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    order = np.random.default_rng(number).permutation(array.shape[2]) if shuffle else np.arange(array.shape[2])
    values = IMAGE | {
        "PatientName": study.name,
        "PatientID": study.identifier,
        "AccessionNumber": study.accession,
        "StudyInstanceUID": study.study,
        "FrameOfReferenceUID": study.frame,
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": number,
        "PixelSpacing": _ds(spacing[[1, 0]]),
        "SliceThickness": _ds(spacing[2:]),
        "ImageOrientationPatient": _ds((lps[:3, :2] / spacing[:2]).T.ravel()),
        "Columns": array.shape[0],
        "Rows": array.shape[1],
    }
    instances = []
    for index, place in enumerate(order.tolist()):
        image = FileDataset("", {}, file_meta=FileMetaDataset())  # saving completes the file_meta
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID, image.InstanceNumber = MRImageStorage, generate_uid(), place + 1
        image.ImagePositionPatient = _ds(lps[:3, 3] + index * lps[:3, 2])
        image.PixelData = np.round(array[:, :, index]).T.astype(np.uint16).tobytes()
        for keyword, value in (values | attributes).items():
            if value is not None:
                setattr(image, keyword, value)
        image.save_as(folder / f"{number:03d}-{place:04d}.dcm", enforce_file_format=True)
        instances.append(image)
    return instances


def _ds(numbers: Array) -> list[str]:
    """Return numbers as DICOM decimal strings (at most 16 characters)."""
    return [format_number_as_ds(float(number)) for number in numbers]


if __name__ == "__main__":
    run(phantom, "deploy.phantom")
