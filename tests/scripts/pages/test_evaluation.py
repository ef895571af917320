"""The page of an evaluation: its text, that it loads nothing, and the position of masks in its pictures."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from common.errors import InputError
from common.inference.evaluation import entry_of, new_record, write
from common.made import origin_of
from common.metrics import protocol
from scripts.evaluate.cases import read_masks
from scripts.pages.evaluation import PREDICTION, write_pages
from tests.html_pages import text_of
from tests.scripts.evaluate.evaluations import save

ATLAS = protocol("atlas")
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (32, 64, 32)  # of 32 x 64 x 64 mm


def block(*slices):
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(*edges) for edges in slices)] = 1
    return labels


LARGE = block((4, 12), (10, 30), (8, 16))
MISSED = block((26, 30), (50, 54), (11, 13))  # high in x: on the patient's right; 4 x 4 x 2 voxels of 2 mm3
EMPTY = np.zeros(SHAPE, np.uint8)


def page_of(folder, cases, affine=AFFINE, name="ours", **options):
    """Evaluate pairs of prediction (None if missing) and reference by name; return the page."""
    brain = np.zeros(SHAPE, np.float32)
    brain[1:31, 1:63, 1:31] = np.random.default_rng(0).uniform(100, 200, (30, 62, 30))
    image = save(folder / "image.nii.gz", brain if affine[0, 0] > 0 else brain[::-1], affine, np.float32)
    record = new_record(name, "atlas", ATLAS, origin_of({}))
    for number, (case, (prediction, reference)) in enumerate(cases.items()):
        predicted = None if prediction is None else save(folder / f"p{number}.nii.gz", prediction, affine)
        true = save(folder / f"r{number}.nii.gz", reference, affine)
        scores = ATLAS.score(*read_masks(predicted, true, "atlas"))
        record["cases"][case] = entry_of(folder, scores, predicted, true, [("T1", image)])
    write(folder, record, ATLAS)
    return write_pages(folder, **({"slices": "none"} | options)).read_text()


def test_a_page_shows_its_cases_loads_nothing_and_runs_no_script(tmp_path):
    cases = {"hit": (LARGE | MISSED, LARGE | MISSED), "partly": (LARGE, LARGE | MISSED), "absent": (None, LARGE)}
    html = page_of(tmp_path, cases | {"half": (np.roll(LARGE, 5, axis=1), LARGE), "healthy": (EMPTY, EMPTY)})
    text = text_of(html)
    assert "1 of 5 cases without prediction, scored as empty: absent." in text
    assert "Worst, 1 of 1: half" in text
    assert "Missed lesion 2 (64 mm³)." in text
    assert not re.search(r'(?:src|href|srcset|action)="(?!#|data:image/png;base64,)', html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_a_label_map_that_has_changed_since_is_refused(tmp_path):
    page_of(tmp_path, {"a": (LARGE, LARGE)})
    save(tmp_path / "p0.nii.gz", LARGE | MISSED, AFFINE)
    with pytest.raises(InputError, match=r"p0\.nii\.gz, .*: lesion has changed"):
        write_pages(tmp_path)


@pytest.mark.parametrize("flip", [False, True])
def test_outlines_lie_where_the_masks_are_in_the_radiological_convention(tmp_path, flip):
    """The picture shows all of the volume, 32 x 64 x 64 mm, 5 pixels for each mm, axial first, below two lines."""
    affine, prediction, reference = AFFINE, LARGE | block((26, 30), (50, 54), (8, 16)), LARGE
    if flip:  # the same voxels of the world, stored the other way round
        affine, prediction, reference = np.diag([-1.0, 1, 2, 1]), prediction[::-1], reference[::-1]
        affine[0, 3] = 31
    html = page_of(tmp_path, {"a": (prediction, reference)}, affine)
    (picture,) = re.findall(r'<img src="data:image/png;base64,([^"]*)"', html)
    pixels = np.rint(imread(BytesIO(base64.b64decode(picture)))[..., :3] * 255).astype(int)
    assert pixels.shape == (3 * 14 + 320, 3 * 320, 3)
    inside = np.argwhere((pixels[28:, :160] == list(bytes.fromhex(PREDICTION[1:]))).all(axis=-1))
    middle = (inside.min(axis=0) + inside.max(axis=0) + 1) / 2
    # the patient's front is at the top, and the left side at the right: columns from 32 mm down to 0
    np.testing.assert_allclose(middle, [5 * (64 - (10 + 54) / 2), 5 * (32 - (4 + 30) / 2)], atol=1)
