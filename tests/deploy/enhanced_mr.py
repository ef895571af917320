"""Make enhanced (multi-frame) MR images from the embedded cohort, as scanners write them."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from tests.deploy.dicom_study import DESCRIPTIONS, TIMES, Study, write_series

MOVED = (  # attributes of a single-frame image that enhanced MR has in functional groups, or not at all
    *(
        "PixelSpacing",
        "SliceThickness",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "EchoTime",
        "RepetitionTime",
    ),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "EchoTrainLength", "PixelData", "InstanceNumber"),
    *("BodyPartExamined", "PatientOrientation"),
)


def item(**values: object) -> Dataset:
    """A data set of these attributes."""
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result


def write_enhanced(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    study: Study,
    number: int,
    modality: str,
    order: np.ndarray | None = None,
    geometry_per_frame: bool = False,
    slopes: np.ndarray | None = None,
    change: Callable[[FileDataset], None] = lambda image: None,
) -> FileDataset:
    """Write a series of one enhanced image; its voxels and places are those of `write_series`.

    Args:
        folder: for the file.
        array: integers [columns, rows, slices], at least 0.
        affine: voxel index to mm in RAS+.
        study: to which the series belongs.
        number: of the series.
        modality: gives description, times and contrast agent.
        order: index of the slice in each frame; by default their order.
        geometry_per_frame: repeat spacing and orientation in every frame's groups instead of the shared ones.
        slopes: RescaleSlope of each slice; by default 1.
        change: changes the image before it is written.
    """
    order = np.arange(array.shape[2]) if order is None else order
    slopes = np.ones(array.shape[2]) if slopes is None else slopes
    with tempfile.TemporaryDirectory() as place:
        slices = write_series(Path(place), array, affine, study, number, SeriesDescription=DESCRIPTIONS[modality])
    first, image = slices[0], copy.deepcopy(slices[0])
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in MOVED:
        image.pop(keyword, None)
    image.PixelData = b"".join(slices[index].PixelData for index in order)
    image.NumberOfFrames = len(order)
    _add_root_attributes(image, modality)
    geometry = {
        "PixelMeasuresSequence": [item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)],
        "PlaneOrientationSequence": [item(ImageOrientationPatient=first.ImageOrientationPatient)],
    }
    frames = []
    for index in order:
        content = item(
            FrameAcquisitionDateTime="20260102030405",
            FrameReferenceDateTime="20260102030405",
            FrameAcquisitionDuration=1000.0,
            StackID="1",
            InStackPositionNumber=int(index) + 1,
            DimensionIndexValues=[1, int(index) + 1],
        )
        frame = item(
            FrameContentSequence=[content],
            PlanePositionSequence=[item(ImagePositionPatient=slices[index].ImagePositionPatient)],
            PixelValueTransformationSequence=[
                item(RescaleIntercept="0", RescaleSlope=str(slopes[index]), RescaleType="US")
            ],
        )
        for keyword, value in geometry.items() if geometry_per_frame else ():
            setattr(frame, keyword, copy.deepcopy(value))
        frames.append(frame)
    shared = _shared_groups(modality)
    for keyword, value in geometry.items() if not geometry_per_frame else ():
        setattr(shared, keyword, value)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = frames
    change(image)
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return pydicom.dcmread(folder / f"{number:03d}.dcm")


def _add_root_attributes(image: FileDataset, modality: str) -> None:
    organization = generate_uid()
    pointers = (("StackID", "FrameContentSequence"), ("InStackPositionNumber", "FrameContentSequence"))
    values: dict[str, object] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER", "NONE"],
        "InstanceNumber": 1,
        "AcquisitionNumber": 1,
        "AcquisitionDateTime": "20260102030405",
        "AcquisitionDuration": 1.0,
        "ManufacturerModelName": "cohort",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "ContentQualification": "RESEARCH",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "PresentationLUTShape": "IDENTITY",
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE",
        "AcquisitionContrast": "UNKNOWN",
        "AcquisitionContextSequence": [],
        "ApplicableSafetyStandardAgency": "IEC",
        "MagneticFieldStrength": 3.0,
        "ResonantNucleus": "1H",
        "KSpaceFiltering": "NONE",
        "PulseSequenceName": "sequence",
        "EchoPulseSequence": "SPIN",
        "MultipleSpinEcho": "NO",
        "MultiPlanarExcitation": "NO",
        "PhaseContrast": "NO",
        "TimeOfFlightContrast": "NO",
        "SteadyStatePulseSequence": "NONE",
        "EchoPlanarPulseSequence": "NO",
        "SaturationRecovery": "NO",
        "SpectrallySelectedSuppression": "NONE",
        "OversamplingPhase": "NONE",
        "GeometryOfKSpaceTraversal": "RECTILINEAR",
        "RectilinearPhaseEncodeReordering": "LINEAR",
        "SegmentedKSpaceTraversal": "SINGLE",
        "CoverageOfKSpace": "FULL",
        "NumberOfKSpaceTrajectories": 1,
        "DimensionOrganizationSequence": [item(DimensionOrganizationUID=organization)],
        "DimensionIndexSequence": [
            item(
                DimensionIndexPointer=pydicom.tag.Tag(pointer),
                FunctionalGroupPointer=pydicom.tag.Tag(group),
                DimensionOrganizationUID=organization,
            )
            for pointer, group in pointers
        ],
    }
    if modality == "T1ce":
        values["ContrastBolusAgentSequence"] = [
            item(
                CodeValue="7140000",
                CodingSchemeDesignator="SCT",
                CodeMeaning="Gadobutrol",
                ContrastBolusAgentNumber=1,
                ContrastBolusIngredientCodeSequence=[],
                ContrastBolusAdministrationRouteSequence=[
                    item(CodeValue="47625008", CodingSchemeDesignator="SCT", CodeMeaning="Intravenous route")
                ],
                ContrastBolusVolume=None,
                ContrastBolusIngredientConcentration=None,
                ContrastAdministrationProfileSequence=[
                    item(ContrastBolusVolume=None, ContrastBolusStartTime="025800", ContrastBolusStopTime="025810")
                ],
            )
        ]
    for keyword, value in values.items():
        setattr(image, keyword, value)


def _shared_groups(modality: str) -> Dataset:
    echo, repetition, inversion = TIMES[modality]
    timing = item(
        RepetitionTime=repetition,
        FlipAngle=90,
        EchoTrainLength=1,
        RFEchoTrainLength=1,
        GradientEchoTrainLength=0,
        GradientOutputType="DB_DT",
        GradientOutput=0.0,
        SpecificAbsorptionRateSequence=[
            item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.1)
        ],
        OperatingModeSequence=[item(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL")],
    )
    modifier = item(
        InversionRecovery="NO" if inversion is None else "YES",
        FlowCompensation="NONE",
        Spoiling="NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )
    if inversion is not None:
        modifier.InversionTimes = [float(inversion)]
    shared = item(
        MRImageFrameTypeSequence=[
            item(
                FrameType=["ORIGINAL", "PRIMARY", "OTHER", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
                ComplexImageComponent="MAGNITUDE",
                AcquisitionContrast="UNKNOWN",
            )
        ],
        FrameAnatomySequence=[
            item(
                FrameLaterality="U",
                AnatomicRegionSequence=[item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")],
            )
        ],
        MRTimingAndRelatedParametersSequence=[timing],
        MREchoSequence=[item(EffectiveEchoTime=float(echo))],
        MRModifierSequence=[modifier],
        MRImagingModifierSequence=[
            item(
                MagnetizationTransfer="NONE",
                BloodSignalNulling="NO",
                Tagging="NONE",
                TransmitterFrequency=123.0,
                PixelBandwidth=100.0,
            )
        ],
        MRReceiveCoilSequence=[
            item(
                ReceiveCoilName="head",
                ReceiveCoilManufacturerName="",
                ReceiveCoilType="VOLUME",
                QuadratureReceiveCoil="NO",
            )
        ],
        MRTransmitCoilSequence=[
            item(TransmitCoilName="body", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
        ],
        MRAveragesSequence=[item(NumberOfAverages=1)],
        MRFOVGeometrySequence=[
            item(
                InPlanePhaseEncodingDirection="ROW",
                MRAcquisitionFrequencyEncodingSteps=64,
                MRAcquisitionPhaseEncodingStepsInPlane=64,
                MRAcquisitionPhaseEncodingStepsOutOfPlane=1,
                PercentSampling=100,
                PercentPhaseFieldOfView=100,
            )
        ],
    )
    if modality == "T1ce":
        shared.ContrastBolusUsageSequence = [
            item(
                ContrastBolusAgentNumber=1,
                ContrastBolusAgentAdministered="YES",
                ContrastBolusAgentDetected="YES",
                ContrastBolusAgentPhase="POST_CONTRAST",
            )
        ]
    return shared
