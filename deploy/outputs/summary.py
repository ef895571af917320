"""Draw the summary for radiologists: outlines in three planes, volumes, model and remarks.

The summary is stored as a secondary capture, which every viewer shows. No text comes from DICOM headers.
"""

import textwrap
from collections.abc import Sequence

import highdicom as hd
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from common.inference.pictures import SIDES, grey_levels
from deploy.job import Case
from deploy.outputs.segmentation import CAUTION, new_series
from deploy.source_header import sanitised_header
from scripts.pages.panels import AXES, panel

STEP = 2
SIZE = (12.0, 7.5)  # inches
DOTS, EDGE = 100, 270  # per inch; pixels of a plane's longest edge


def draw_summary(case: Case) -> Figure:
    """Draw the planes with the largest segment areas (plain above, outlines below) and the text on the right.

    Without any segment, the middle planes are drawn.
    """
    volume, bundle = case.reference, case.bundle
    figure = Figure(figsize=SIZE, dpi=DOTS, facecolor="black")
    layout = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.3], left=0.01, right=0.99, wspace=0.03, hspace=0.03)
    orientation = io_orientation(volume.affine)
    image, label = (apply_orientation(array, orientation) for array in (volume.array, case.segments))
    edges, levels = volume.spacing[np.argsort(orientation[:, 0])], grey_levels(image)
    outlines: dict[str, NDArray[np.bool_]] = {}
    for number, segment in enumerate(bundle.segments, 1):
        outlines[segment.colour] = (label == number) | outlines.get(segment.colour, False)
    for column, plane in enumerate(reversed(SIDES)):
        counts = (label > 0).sum(axis=AXES[plane])
        at = int(np.argmax(counts)) if counts.any() else len(counts) // 2
        for row, masks in enumerate(({}, outlines)):
            axes = figure.add_subplot(layout[row, column])
            axes.imshow(panel(levels, plane, at, edges, masks, EDGE), interpolation="nearest")
            axes.set_axis_off()
    texts = [
        (bundle.name, "white"),
        (f"version {bundle.version}", "white"),
        (f"trained on {bundle.trained_on}", "lightgrey"),
        ("", "white"),
        *((f"{part.label}: {case.volumes[part.label]:.2f} mL", part.colour) for part in bundle.segments),
        ("", "white"),
        *((remark, "orange") for remark in case.remarks),
        ("", "white"),
        (f"{CAUTION}.", "white"),
    ]
    _write(figure.add_subplot(layout[:, 3]), texts)
    return figure


def _write(axes: Axes, texts: Sequence[tuple[str, str]]) -> None:
    """Write coloured lines below each other, smaller if there are too many."""
    axes.set_axis_off()
    paragraphs = [(textwrap.wrap(text, 46) or [""], colour) for text, colour in texts]
    height, line = 0.97, min(0.035, 0.97 / sum(len(lines) for lines, _ in paragraphs))
    size = 9.5 * line / 0.035
    for lines, colour in paragraphs:
        text = "\n".join(lines)
        axes.text(0.03, height, text, color=colour, fontsize=size, va="top", transform=axes.transAxes, parse_math=False)
        height -= line * len(lines)


def make(case: Case) -> hd.sc.SCImage:
    """Make the summary of a case, a secondary capture in its study.

    BurnedInAnnotation refers to text in the scans, which may identify the patient (PS3.3, C.7.6.1), not to the figure.
    """
    header = sanitised_header(case.slices[0])
    canvas = FigureCanvasAgg(draw_summary(case))
    canvas.draw()
    capture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=np.asarray(canvas.buffer_rgba())[..., :3].copy(),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        **new_series(case, STEP, "Summary of segmentation"),
        patient_orientation=("L", "P"),
    )
    if "IssuerOfPatientID" in header:  # highdicom does not copy it
        capture.IssuerOfPatientID = header.IssuerOfPatientID
    capture.BodyPartExamined = "BRAIN"
    capture.PatientOrientation = []  # empty: the picture shows three planes
    if case.burned_in:
        capture.BurnedInAnnotation = case.burned_in
    return capture
