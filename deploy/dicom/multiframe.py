"""Split enhanced (multi-frame) MR images into single-frame images.

An enhanced image describes its frames in functional groups, shared or per frame (PS3.3, C.7.6.16). Each frame becomes a
data set with the attribute names of MR Image Storage, so that enhanced and single-frame images are read alike.
"""

import warnings
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, LegacyConvertedEnhancedMRImageStorage
from pydicom.valuerep import format_number_as_ds

ENHANCED_MR = (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # per-frame groups take precedence
IMAGE_ONLY = (*GROUPS, "NumberOfFrames", "PixelData")  # not copied to the frames
ENHANCED_ATTRIBUTES = (  # image attributes that `frames_of` reads
    *(*GROUPS, "NumberOfFrames", "AcquisitionDateTime", "EchoPulseSequence", "EchoPlanarPulseSequence"),
    *("ContrastBolusAgentSequence", "ComplexImageComponent"),
)
HEAD = {"12738006", "69536005", "89546000", "T-A0100", "T-D1100", "T-11100"}  # SNOMED codes of brain, head and skull
SCANNING_SEQUENCES = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}  # EchoPulseSequence -> ScanningSequence


def frames_of(image: Dataset) -> list[Dataset]:
    """Return the frames of an enhanced MR image as single-frame data sets, in order; [image] for other images.

    A frame's ReferencedFrameNumber counts from 1; its voxels, if the image has any, are uncompressed. Raise ValueError
    if a frame lacks functional groups. Exceptions from pydicom are not caught; their messages may quote values.
    """
    if image.get("SOPClassUID") not in ENHANCED_MR:
        return [image]
    shared, per_frame = (image.get(keyword) or [] for keyword in GROUPS)
    if not per_frame or len(per_frame) != image.get("NumberOfFrames"):
        raise ValueError("a frame has no functional groups")
    common = Dataset()
    common.update({element.tag: element for element in image if element.keyword not in IMAGE_ONLY})
    frames = []
    for number, groups in enumerate(per_frame, 1):
        frame = Dataset()
        frame.update(common)
        for group in (element for item in (*shared, groups) for element in item if element.VR == "SQ"):
            frame.update(group.value[0] if group.value else {})
        frame.add_new("ReferencedFrameNumber", "IS", number)
        _add_single_frame_attributes(frame)
        frames.append(frame)
    if "PixelData" in image:
        pixels = voxels_of(image).reshape(len(per_frame), image.Rows, image.Columns)
        for frame, values in zip(frames, pixels, strict=True):
            frame.file_meta = FileMetaDataset()
            frame.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
            frame.add_new("PixelData", "OB" if values.itemsize == 1 else "OW", little_endian.tobytes())
    return frames


def voxels_of(image: Dataset) -> NDArray[Any]:
    """Return the stored values of an image. Decoder warnings, for example about excess voxels, become errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"pydicom\.pixels")
        return image.pixel_array


def _add_single_frame_attributes(frame: Dataset) -> None:
    """Add the attributes of MR Image Storage for which enhanced MR has different names."""
    moment = str(frame.get("FrameAcquisitionDateTime") or frame.get("AcquisitionDateTime") or "")
    attributes = {
        "EchoTime": _as_ds(frame.get("EffectiveEchoTime")),
        "InversionTime": _as_ds(frame.get("InversionTimes")),
        "ScanningSequence": _scanning_sequence(frame),
        **_contrast_agent(frame),
        "BodyPartExamined": _body_part(frame),
        "AcquisitionDate": moment[:8],
        "AcquisitionTime": moment[8:].partition("+")[0].partition("-")[0],  # without the offset from UTC
    }
    for keyword, value in attributes.items():
        if keyword not in frame and value:
            setattr(frame, keyword, value)
    component = frame.get("ComplexImageComponent", "MAGNITUDE")  # or PHASE, REAL, IMAGINARY, MIXED
    kinds = [*(frame.get("FrameType") or frame.get("ImageType") or [])]
    frame.add_new("ImageType", "CS", kinds if component == "MAGNITUDE" else [*kinds, component])


def _as_ds(value: float | MultiValue[float] | None) -> str | None:
    """Return the first number as a DICOM decimal string; None without a number."""
    first = value[0] if isinstance(value, MultiValue) else value
    return None if first is None else format_number_as_ds(float(first))


def _body_part(frame: Dataset) -> str:
    """Return "HEAD" or "OTHER PART", by the code of the frame's anatomic region; empty without a code."""
    codes = [str(region.get("CodeValue") or "") for region in frame.get("AnatomicRegionSequence") or []]
    return "" if not any(codes) else "HEAD" if HEAD & set(codes) else "OTHER PART"


def _scanning_sequence(frame: Dataset) -> list[str]:
    result = list(SCANNING_SEQUENCES.get(str(frame.get("EchoPulseSequence")), []))
    result += ["IR"] if frame.get("InversionRecovery") == "YES" else []
    return result + (["EP"] if frame.get("EchoPlanarPulseSequence") == "YES" else [])


def _contrast_agent(frame: Dataset) -> dict[str, str]:
    """Return the contrast agent's name ("NONE" if no agent was given) and start time; empty if unknown."""
    if frame.get("ContrastBolusAgentAdministered") == "NO" or frame.get("ContrastBolusAgentPhase") == "PRE_CONTRAST":
        return {"ContrastBolusAgent": "NONE"}
    for agent in frame.get("ContrastBolusAgentSequence") or []:
        profile = agent.get("ContrastAdministrationProfileSequence") or [Dataset()]
        return {
            "ContrastBolusAgent": str(agent.get("CodeMeaning") or ""),
            "ContrastBolusStartTime": str(profile[0].get("ContrastBolusStartTime") or ""),
        }
    return {}
