"""Make enhanced (multi-frame) MR images from the embedded cohort, as converters write them."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from tests.deploy.dicom_study import DESCRIPTIONS, TIMES, header, write_series

MOVED = ["PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"]  # to functional groups
LEFT_OUT = ["EchoTime", "RepetitionTime", "EchoTrainLength", "ScanningSequence", "SequenceVariant", "ScanOptions"]
LEFT_OUT += ["BodyPartExamined"]
KIND = {"PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE"}
KIND |= {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "UNKNOWN"}
TYPE = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
ROOT = KIND | {"ImageType": TYPE, "InstanceNumber": 1, "AcquisitionNumber": 1, "AcquisitionContextSequence": []}
ROOT |= {"AcquisitionDateTime": "20260102030405", "AcquisitionDuration": 1.0, "MagneticFieldStrength": 3.0}
ROOT |= {"ManufacturerModelName": "cohort", "DeviceSerialNumber": "1", "SoftwareVersions": "1"}
ROOT |= {"ContentQualification": "RESEARCH", "BurnedInAnnotation": "NO", "LossyImageCompression": "00"}
ROOT |= {"PresentationLUTShape": "IDENTITY", "ApplicableSafetyStandardAgency": "IEC", "ResonantNucleus": "1H"}
ROOT |= {"PulseSequenceName": "sequence", "EchoPulseSequence": "SPIN", "MultipleSpinEcho": "NO"}
ROOT |= {"MultiPlanarExcitation": "NO", "PhaseContrast": "NO", "TimeOfFlightContrast": "NO"}
ROOT |= {"SteadyStatePulseSequence": "NONE", "EchoPlanarPulseSequence": "NO", "SaturationRecovery": "NO"}
ROOT |= {"SpectrallySelectedSuppression": "NONE", "OversamplingPhase": "NONE", "KSpaceFiltering": "NONE"}
ROOT |= {"GeometryOfKSpaceTraversal": "RECTILINEAR", "RectilinearPhaseEncodeReordering": "LINEAR"}
ROOT |= {"SegmentedKSpaceTraversal": "SINGLE", "CoverageOfKSpace": "FULL", "NumberOfKSpaceTrajectories": 1}
RATE = {"SpecificAbsorptionRateDefinition": "IEC_WHOLE_BODY", "SpecificAbsorptionRateValue": 0.1}
TIMING = {"FlipAngle": 90, "EchoTrainLength": 1, "RFEchoTrainLength": 1, "GradientEchoTrainLength": 0}
TIMING |= {"GradientOutputType": "DB_DT", "GradientOutput": 0.0, "SpecificAbsorptionRateSequence": [header(**RATE)]}
TIMING["OperatingModeSequence"] = [header(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL")]
MODIFIER = {"FlowCompensation": "NONE", "Spoiling": "NONE", "T2Preparation": "NO", "PartialFourier": "NO"}
MODIFIER |= {"SpectrallySelectedExcitation": "NONE", "SpatialPresaturation": "NONE", "ParallelAcquisition": "NO"}
IMAGING = {"MagnetizationTransfer": "NONE", "BloodSignalNulling": "NO", "Tagging": "NONE"}
IMAGING |= {"TransmitterFrequency": 123.0, "PixelBandwidth": 100.0}
RECEIVE = {"ReceiveCoilName": "head", "ReceiveCoilManufacturerName": "", "ReceiveCoilType": "VOLUME"}
TRANSMIT = {"TransmitCoilName": "body", "TransmitCoilManufacturerName": "", "TransmitCoilType": "BODY"}
VIEW = {"InPlanePhaseEncodingDirection": "ROW", "MRAcquisitionFrequencyEncodingSteps": 64, "PercentSampling": 100}
VIEW |= {"MRAcquisitionPhaseEncodingStepsInPlane": 64, "MRAcquisitionPhaseEncodingStepsOutOfPlane": 1}
VIEW |= {"PercentPhaseFieldOfView": 100}
BRAIN = {"CodeValue": "12738006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Brain"}
AGENT = {"CodeValue": "7140000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Gadobutrol"}


def write_enhanced(folder, array, affine, study, number, modality, order=None, slopes=None, **options):
    """Write a series of one enhanced image; its voxels and places are those of `write_series`.

    The frames show the slices of `order`, by default each in turn; `slopes` are the RescaleSlope of each slice. Option
    `geometry_per_frame` repeats spacing and orientation in every frame's groups instead of the shared ones, `change`
    changes the image before it is written.
    """
    order = np.arange(array.shape[2]) if order is None else order
    slopes = np.ones(array.shape[2]) if slopes is None else slopes
    with tempfile.TemporaryDirectory() as place:
        slices = write_series(Path(place), array, affine, study, number, SeriesDescription=DESCRIPTIONS[modality])
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
    places = (
        image.PerFrameFunctionalGroupsSequence
        if options.get("geometry_per_frame")
        else image.SharedFunctionalGroupsSequence
    )
    for groups in places:
        for keyword, value in geometry.items():
            setattr(groups, keyword, copy.deepcopy(value))
    if "change" in options:
        options["change"](image)
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return pydicom.dcmread(folder / f"{number:03d}.dcm")


def _add_root_attributes(image, modality):
    values, organization = dict(ROOT), generate_uid()
    values["DimensionOrganizationSequence"] = [header(DimensionOrganizationUID=organization)]
    values["DimensionIndexSequence"] = [
        header(
            DimensionIndexPointer=pydicom.tag.Tag(pointer),
            FunctionalGroupPointer=pydicom.tag.Tag("FrameContentSequence"),
            DimensionOrganizationUID=organization,
        )
        for pointer in ("StackID", "InStackPositionNumber")
    ]
    if modality == "T1ce":
        route = header(CodeValue="47625008", CodingSchemeDesignator="SCT", CodeMeaning="Intravenous route")
        profile = header(ContrastBolusStartTime="025800", ContrastBolusStopTime="025810")
        agent = header(**AGENT, ContrastBolusAgentNumber=1, ContrastBolusIngredientCodeSequence=[])
        agent.ContrastBolusAdministrationRouteSequence = [route]
        agent.ContrastAdministrationProfileSequence = [profile]
        for contrast, keyword in ((agent, "Volume"), (agent, "IngredientConcentration"), (profile, "Volume")):
            setattr(contrast, f"ContrastBolus{keyword}", None)
        values["ContrastBolusAgentSequence"] = [agent]
    for keyword, value in values.items():
        setattr(image, keyword, value)


def _groups(image, index, slope):
    """The functional groups of the frame of a slice."""
    content = header(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1])
    content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = "20260102030405"
    content.FrameAcquisitionDuration = 1000.0
    return header(
        FrameContentSequence=[content],
        PlanePositionSequence=[header(ImagePositionPatient=image.ImagePositionPatient)],
        PixelValueTransformationSequence=[header(RescaleIntercept="0", RescaleSlope=str(slope), RescaleType="US")],
    )


def _shared_groups(modality):
    echo, repetition, inversion = TIMES[modality]
    inversions = {} if inversion is None else {"InversionTimes": [float(inversion)]}
    shared = header(
        MRImageFrameTypeSequence=[header(FrameType=TYPE, **KIND)],
        FrameAnatomySequence=[header(FrameLaterality="U", AnatomicRegionSequence=[header(**BRAIN)])],
        MRTimingAndRelatedParametersSequence=[header(RepetitionTime=repetition, **TIMING)],
        MREchoSequence=[header(EffectiveEchoTime=float(echo))],
        MRModifierSequence=[header(InversionRecovery="YES" if inversions else "NO", **MODIFIER, **inversions)],
        MRImagingModifierSequence=[header(**IMAGING)],
        MRReceiveCoilSequence=[header(QuadratureReceiveCoil="NO", **RECEIVE)],
        MRTransmitCoilSequence=[header(**TRANSMIT)],
        MRAveragesSequence=[header(NumberOfAverages=1)],
        MRFOVGeometrySequence=[header(**VIEW)],
    )
    if modality == "T1ce":
        usage = header(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES")
        usage.ContrastBolusAgentDetected, usage.ContrastBolusAgentPhase = "YES", "POST_CONTRAST"
        shared.ContrastBolusUsageSequence = [usage]
    return shared
