"""Make enhanced (multi-frame) MR images with the attributes that readers need."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from scripts.phantoms.mr_signal import SEQUENCES
from tests.deploy.dicom.dicom_study import DESCRIPTIONS, Study, header, write_series
from tests.support import oblique

MOVED = ["PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"]  # to functional groups
LEFT_OUT = ["EchoTime", "RepetitionTime", "EchoTrainLength", "ScanningSequence", "BodyPartExamined"]
TYPE = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
BRAIN = {"CodeValue": "12738006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Brain"}
AGENT = {"CodeValue": "7140000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Gadobutrol"}
SHAPE = (7, 5, 12)
ARRAY = np.random.default_rng(0).integers(0, 4000, SHAPE)
ORDER = np.random.default_rng(1).permutation(SHAPE[2])
SLOPES = np.random.default_rng(2).integers(1, 5, SHAPE[2])
KINDS = {
    "plain": {},
    "frames in random order": {"order": ORDER},
    "rescaled frame by frame": {"slopes": SLOPES},
}


def write_enhanced(folder, array, affine, study, number, modality, order=None, slopes=None, **options):
    """Write a series as one enhanced image, with the voxels and positions of `write_series`.

    `order` lists the slice of each frame; `slopes` lists the RescaleSlope of each slice. The option `change` modifies
    the image before it is written.
    """
    order = np.arange(array.shape[2]) if order is None else order
    slopes = np.ones(array.shape[2]) if slopes is None else slopes
    with tempfile.TemporaryDirectory() as temporary:
        slices = write_series(Path(temporary), array, affine, study, number, SeriesDescription=DESCRIPTIONS[modality])
    first, image = slices[0], copy.deepcopy(slices[0])
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in (*MOVED, *LEFT_OUT):
        image.pop(keyword, None)
    image.PixelData = b"".join(slices[index].PixelData for index in order)
    image.NumberOfFrames = len(order)
    _add_root_attributes(image, modality)
    geometry = {
        "PixelMeasuresSequence": [header(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)],
        "PlaneOrientationSequence": [header(ImageOrientationPatient=first.ImageOrientationPatient)],
    }
    image.PerFrameFunctionalGroupsSequence = [_groups(slices[index], int(index), slopes[index]) for index in order]
    image.SharedFunctionalGroupsSequence = [_shared_groups(modality)]
    for keyword, value in geometry.items():
        setattr(image.SharedFunctionalGroupsSequence[0], keyword, value)
    if "change" in options:
        options["change"](image)
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return pydicom.dcmread(folder / f"{number:03d}.dcm")


def _add_root_attributes(image, modality):
    organization = generate_uid()
    image.ImageType, image.AcquisitionDateTime = TYPE, "20260102030405"
    image.EchoPulseSequence = "SPIN"
    image.DimensionOrganizationSequence = [header(DimensionOrganizationUID=organization)]
    image.DimensionIndexSequence = [
        header(
            DimensionIndexPointer=pydicom.tag.Tag(pointer),
            FunctionalGroupPointer=pydicom.tag.Tag("FrameContentSequence"),
            DimensionOrganizationUID=organization,
        )
        for pointer in ("StackID", "InStackPositionNumber")
    ]
    if modality == "T1ce":
        profile = header(ContrastBolusStartTime="025800")
        image.ContrastBolusAgentSequence = [header(**AGENT, ContrastAdministrationProfileSequence=[profile])]


def _groups(image, index, slope):
    """Return the functional groups of a slice's frame."""
    content = header(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1])
    content.FrameAcquisitionDateTime = "20260102030405"
    return header(
        FrameContentSequence=[content],
        PlanePositionSequence=[header(ImagePositionPatient=image.ImagePositionPatient)],
        PixelValueTransformationSequence=[header(RescaleIntercept="0", RescaleSlope=str(slope), RescaleType="US")],
    )


def _shared_groups(modality):
    sequence = SEQUENCES[modality]
    inversions = {} if sequence.inversion is None else {"InversionTimes": [float(sequence.inversion)]}
    shared = header(
        MRImageFrameTypeSequence=[header(FrameType=TYPE, ComplexImageComponent="MAGNITUDE")],
        FrameAnatomySequence=[header(AnatomicRegionSequence=[header(**BRAIN)])],
        MRTimingAndRelatedParametersSequence=[header(RepetitionTime=sequence.repetition)],
        MREchoSequence=[header(EffectiveEchoTime=float(sequence.echo))],
        MRModifierSequence=[header(InversionRecovery="YES" if inversions else "NO", **inversions)],
    )
    if modality == "T1ce":
        usage = header(ContrastBolusAgentAdministered="YES", ContrastBolusAgentPhase="POST_CONTRAST")
        shared.ContrastBolusUsageSequence = [usage]
    return shared


def write_frames(folder, modality="T1", study=None, **options):
    """Write `ARRAY` as an enhanced image, number 3, on an oblique grid."""
    return write_enhanced(folder, ARRAY, oblique(), study or Study(), 3, modality, **options)
