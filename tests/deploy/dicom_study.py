"""Make DICOM studies from the embedded cohort: MR Image instances as a scanner or a converter writes them."""

from dataclasses import dataclass, field, replace

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

NAME, IDENTIFIER = "SENTINEL^NAMEOF", "SENTINEL-ID-4711"  # may appear in DICOM's patient module only
DESCRIPTIONS = {"FLAIR": "t2_flair_tra", "T1ce": "t1_mprage_sag +C", "T1": "t1_mprage_sag", "T2": "t2_tse_tra"}
TIMES = {"FLAIR": (110, 9000, 2500), "T1ce": (3, 2300, 1100), "T1": (3, 2300, 1100), "T2": (90, 5000, None)}  # ms
VOXELS = np.ones((4, 4, 12), np.uint16)  # of a series whose voxels do not matter

IMAGE = {"SpecificCharacterSet": "ISO_IR 192", "ImageType": ["DERIVED", "SECONDARY", "OTHER"], "Modality": "MR"}
IMAGE |= {"StudyDate": "20260102", "StudyTime": "030405", "ContentDate": "20260102", "ContentTime": "030405"}
IMAGE |= {"AccessionNumber": "SENTINEL-ACC", "ReferringPhysicianName": "", "StudyID": "1", "BodyPartExamined": "BRAIN"}
IMAGE |= {"PatientBirthDate": "19010203", "PatientSex": "O", "PatientAge": "061Y", "Manufacturer": "embedded cohort"}
IMAGE |= {"ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "3D"}
IMAGE |= {"EchoTime": "", "RepetitionTime": "1000", "EchoTrainLength": "1"}
IMAGE |= {"PatientPosition": "HFS", "PositionReferenceIndicator": ""}
IMAGE |= {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
IMAGE |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}


@dataclass(frozen=True)
class Study:
    """The attributes that the series of a study share."""

    study: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    name: str = NAME
    identifier: str = IDENTIFIER

    def other_patient(self) -> "Study":
        return replace(self, name="OTHER^SENTINEL", identifier="SENTINEL-ID-4712")


def read(path):
    """Voxels [x, y, z] and affine (RAS+) of a NIfTI file."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def to_slices(array, affine, axis=2, flip=False):
    """The same volume with slices along another axis, or in reverse order."""
    order = [*[other for other in range(3) if other != axis], axis]
    reordered = array.transpose(order)
    affine = affine @ np.eye(4)[:, [*order, 3]]
    if flip:
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, reordered.shape[2] - 1], [0, 0, 0, 1.0]])
        reordered = reordered[:, :, ::-1]
    return reordered, affine


def write_series(folder, array, affine, study, number, shuffle=False, **attributes):
    """Write a series, one file per slice of the last axis; return its instances in the order of that axis.

    The array holds integers [columns, rows, slices], at least 0; the affine leads to mm in RAS+. With `shuffle` file
    names and instance numbers are in random order. Attributes are for every instance; None omits one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / spacing
    rng = np.random.default_rng(number)
    places = rng.permutation(array.shape[2]) if shuffle else np.arange(array.shape[2])
    values = IMAGE | {
        "PatientName": study.name,
        "PatientID": study.identifier,
        "StudyInstanceUID": study.study,
        "FrameOfReferenceUID": study.frame,
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
        image = _instance(values | attributes)
        image.InstanceNumber = int(places[index]) + 1
        image.ImagePositionPatient = [_ds(value) for value in lps[:3, 3] + index * lps[:3, 2]]
        image.PixelData = np.ascontiguousarray(np.round(array[:, :, index]).T.astype(np.uint16)).tobytes()
        image.save_as(folder / f"{number:03d}-{places[index]:04d}.dcm", enforce_file_format=True)
        instances.append(image)
    return instances


def _ds(value):
    """Format a number in the 16 characters of a DICOM decimal string."""
    return pydicom.valuerep.format_number_as_ds(float(value))


def _instance(values):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    for keyword, value in values.items():
        if value is not None:
            setattr(image, keyword, value)
    return image


def write_modality(folder, array, affine, study, number, modality, **options):
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


def write_localiser(folder, study, number=1):
    """Write three planes of three thick slices each, in one series."""
    text = {"SeriesDescription": "localizer", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "EchoTime": "4"}
    text["SeriesInstanceUID"] = generate_uid()
    for axis in range(3):
        affine = np.diag([8.0, 8.0, 8.0, 1.0])[:, [*np.roll(range(3), axis), 3]]
        write_series(folder / f"plane{axis}", np.full((32, 32, 3), 100), affine, study, number, **text)


def brats_files(root):
    """Modality -> NIfTI file of the first subject of the embedded cohort in BraTS's layout."""
    name = "BraTS2021_00000"
    return {modality: root / name / f"{name}_{modality.lower()}.nii.gz" for modality in DESCRIPTIONS}


def write_brats(folder, root, study):
    """Write a localiser, number 1, and the four series of BraTS, numbers 2 to 5, with shuffled slices.

    Their voxels are those of the first subject of the cohort in the folder `root`, or a few if it is None.
    """
    write_localiser(folder / "1", study)
    for number, modality in enumerate(DESCRIPTIONS, 2):
        array, affine = read(brats_files(root)[modality]) if root else (VOXELS * number, np.eye(4))
        write_modality(folder / str(number), array, affine, study, number, modality, shuffle=True)


def change(file, **values):
    """Change attributes of a DICOM file, given by keyword."""
    image = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(file)


def header(**values):
    """A data set of these attributes; None omits one."""
    result = pydicom.Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(result, keyword, value)
    return result
