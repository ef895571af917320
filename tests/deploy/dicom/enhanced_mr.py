"""Make enhanced (multi-frame) MR images with the attributes that readers need."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import EnhancedMRImageStorage

from scripts.phantoms.heads import SEQUENCES
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


def write_enhanced(folder, array, affine, study, number, modality, order=None, slopes=None, change=lambda image: None):
    """Write a series as one enhanced image, with the voxels and positions of `write_series`.

    `order` lists the slice of each frame; `slopes` lists the RescaleSlope of each slice; `change` modifies the image.
    """
    order = np.arange(array.shape[2]) if order is None else order
    slopes = np.ones(array.shape[2]) if slopes is None else slopes
    with tempfile.TemporaryDirectory() as temporary:
        slices = write_series(Path(temporary), array, affine, study, number, SeriesDescription=DESCRIPTIONS[modality])
    first, image = slices[0], copy.deepcopy(slices[0])
    for keyword in (*MOVED, *LEFT_OUT):
        image.pop(keyword, None)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.PixelData, image.NumberOfFrames = b"".join(slices[index].PixelData for index in order), len(order)
    image.ImageType, image.AcquisitionDateTime, image.EchoPulseSequence = TYPE, "20260102030405", "SPIN"
    shared = _shared_groups(modality)
    shared.PixelMeasuresSequence = [header(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)]
    shared.PlaneOrientationSequence = [header(ImageOrientationPatient=first.ImageOrientationPatient)]
    if modality == "T1ce":
        profile = header(ContrastBolusStartTime="025800")
        image.ContrastBolusAgentSequence = [header(**AGENT, ContrastAdministrationProfileSequence=[profile])]
        usage = header(ContrastBolusAgentAdministered="YES", ContrastBolusAgentPhase="POST_CONTRAST")
        shared.ContrastBolusUsageSequence = [usage]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_groups(slices[index], int(index), slopes[index]) for index in order]
    change(image)
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return pydicom.dcmread(folder / f"{number:03d}.dcm")


def _groups(image, index, slope):
    """Return the functional groups of a slice's frame."""
    content = header(StackID="1", InStackPositionNumber=index + 1, FrameAcquisitionDateTime="20260102030405")
    return header(
        FrameContentSequence=[content],
        PlanePositionSequence=[header(ImagePositionPatient=image.ImagePositionPatient)],
        PixelValueTransformationSequence=[header(RescaleIntercept="0", RescaleSlope=str(slope), RescaleType="US")],
    )


def _shared_groups(modality):
    sequence = SEQUENCES[modality]
    inversions = {} if sequence.inversion is None else {"InversionTimes": [float(sequence.inversion)]}
    return header(
        MRImageFrameTypeSequence=[header(FrameType=TYPE, ComplexImageComponent="MAGNITUDE")],
        FrameAnatomySequence=[header(AnatomicRegionSequence=[header(**BRAIN)])],
        MRTimingAndRelatedParametersSequence=[header(RepetitionTime=sequence.repetition)],
        MREchoSequence=[header(EffectiveEchoTime=float(sequence.echo))],
        MRModifierSequence=[header(InversionRecovery="YES" if inversions else "NO", **inversions)],
    )


def write_frames(folder, modality="T1", study=None, **options):
    """Write `ARRAY` as an enhanced image, number 3, on an oblique grid."""
    return write_enhanced(folder, ARRAY, oblique(), study or Study(), 3, modality, **options)
