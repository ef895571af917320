"""Draw the summary that a radiologist sees next to the scans: overlays in three planes, volumes, model and remarks.

It is stored as a secondary capture, which every viewer shows. None of its text comes from DICOM headers.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import highdicom as hd
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from common.prepare.volumes import Volume
from deploy.segmentation import CAUTION, LONG_STRING, MANUFACTURER, series_number
from deploy.source_header import sanitised_header

__all__ = ["Summary", "draw_summary", "make_capture", "segment_volumes"]

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # plane -> the RAS+ axis perpendicular to it
SIDES = {"sagittal": ("P", "A"), "coronal": ("L", "R"), "axial": ("L", "R")}  # low and high horizontal end
SIZE = (12.0, 7.5)  # inches
DOTS = 100  # per inch


@dataclass(frozen=True)
class Summary:
    """What is written and drawn.

    Attributes:
        model: its name.
        version: of the model.
        volumes: label of a segment -> mL.
        colours: of the segments.
        remarks: sentences for the readers.
        figures: lines on how well the scans were prepared, if they were.
        trained_on: the data that the model was trained on.
    """

    model: str
    version: str
    volumes: dict[str, float]
    colours: Sequence[str]
    remarks: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    trained_on: str = ""


def segment_volumes(segments: NDArray[np.uint8], labels: Sequence[str], voxel_volume: float) -> dict[str, float]:
    """Volume of each segment in mL.

    Args:
        segments: segment numbers, 1, 2, ... in the order of the labels; 0 is background.
        labels: names of the segments.
        voxel_volume: in mL.

    Returns:
        Label -> volume in mL.
    """
    counts = np.bincount(segments.ravel(), minlength=len(labels) + 1)
    return {label: float(counts[number] * voxel_volume) for number, label in enumerate(labels, 1)}


def draw_summary(volume: Volume, segments: NDArray[np.uint8], summary: Summary) -> Figure:
    """Draw the planes with the largest segment areas, plain above and with overlay below, and the text to the right.

    Args:
        volume: the reference.
        segments: segment numbers on its grid.
        summary: the text.
    """
    figure = Figure(figsize=SIZE, dpi=DOTS, facecolor="black")
    layout = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.3], left=0.01, right=0.99, wspace=0.03, hspace=0.03)
    orientation = io_orientation(volume.affine)
    image, label = (apply_orientation(array, orientation) for array in (volume.array, segments))
    edges = volume.spacing[np.argsort(orientation[:, 0])]
    white = float(np.percentile(image[image > 0], 99)) if (image > 0).any() else 1.0
    for column, (plane, axis) in enumerate(PLANES.items()):
        counts = (label > 0).sum(axis=tuple(other for other in range(3) if other != axis))
        index = int(np.argmax(counts)) if counts.any() else label.shape[axis] // 2
        for row in range(2):
            axes = figure.add_subplot(layout[row, column])
            overlay = np.take(label, index, axis) if row else None
            _show(axes, np.take(image, index, axis) / white, overlay, summary.colours, plane, np.delete(edges, axis))
    _write(figure.add_subplot(layout[:, 3]), summary)
    return figure


def _show(
    axes: Axes, image: NDArray, label: NDArray | None, colours: Sequence[str], plane: str, edges: NDArray
) -> None:
    """Draw a plane [horizontal, vertical] in RAS+ in radiological view, with the patient's right on the left."""
    pixels = np.repeat(np.clip(image, 0, 1)[..., None], 3, axis=-1)
    if label is not None:
        for number, colour in enumerate(colours, 1):
            mask = label == number
            pixels[mask] = 0.45 * pixels[mask] + 0.55 * np.array(to_rgb(colour))
    axes.imshow(pixels.transpose(1, 0, 2), origin="lower", aspect=edges[1] / edges[0], interpolation="nearest")
    left, right = SIDES[plane]
    if plane != "sagittal":
        axes.invert_xaxis()
        left, right = right, left
    for place, text in ((0.02, left), (0.94, right)):
        axes.text(place, 0.5, text, color="white", transform=axes.transAxes)
    axes.set_axis_off()


def _write(axes: Axes, summary: Summary) -> None:
    axes.set_axis_off()
    lines: list[tuple[str, str]] = [
        (_wrapped(summary.model), "white"),
        (f"version {summary.version}", "white"),
        (_wrapped(f"trained on {summary.trained_on}"), "lightgrey"),
        ("", "white"),
    ]
    for (label, volume), overlay_colour in zip(summary.volumes.items(), summary.colours, strict=False):
        lines.append((f"{label}: {volume:.2f} mL", overlay_colour))
    lines += [("", "white")] + [(_wrapped(remark), "orange") for remark in summary.remarks]
    lines += [(_wrapped(figure), "lightgrey") for figure in summary.figures]
    lines += [("", "white"), (f"{CAUTION}.", "white")]
    height = 0.97
    for text, colour in lines:
        axes.text(0.03, height, text, color=colour, fontsize=9.5, va="top", transform=axes.transAxes, parse_math=False)
        height -= 0.035 * (text.count("\n") + 1)


def _wrapped(text: str, width: int = 46) -> str:
    return "\n".join(textwrap.wrap(text, width))


def make_capture(figure: Figure, source: Dataset, summary: Summary, burned_in: str | None = None) -> hd.sc.SCImage:
    """Convert the figure to a secondary capture.

    Args:
        figure: from `draw_summary`.
        source: an image of the reference series, in whose study the capture is.
        summary: its text.
        burned_in: BurnedInAnnotation, which is left out if None. It is about text that identifies the patient and the
            date (PS3.3, C.7.6.1), which the figure's own text does not, but text in the scans can.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    header = sanitised_header(source)
    capture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=hd.UID(),
        series_number=series_number(source, 2),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        patient_orientation=("L", "P"),
    )
    if "IssuerOfPatientID" in header:  # highdicom does not copy it
        capture.IssuerOfPatientID = header.IssuerOfPatientID
    capture.BodyPartExamined = "BRAIN"
    capture.PatientOrientation = []  # empty, as it shows three planes
    capture.SeriesDescription = f"Summary of segmentation. {CAUTION}"
    capture.ManufacturerModelName = summary.model[:LONG_STRING]
    capture.SoftwareVersions = summary.version
    if burned_in:
        capture.BurnedInAnnotation = burned_in
    return capture
