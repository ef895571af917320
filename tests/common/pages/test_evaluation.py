"""The page of an evaluation: its text, its charts, that it loads nothing, and the position of masks in its pictures."""

import base64
import re
from io import BytesIO

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from common.inference.masks import masks_of
from common.inference.results import CaseFiles, Details
from common.metrics import protocol
from common.pages.evaluation import PREDICTION
from common.pages.evaluation import page_of as draw_page
from tests.html_pages import text_of

ATLAS = protocol("atlas")
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (32, 64, 32)  # of 32 x 64 x 64 mm


def block(*slices, value=1):
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(*each) for each in slices)] = value
    return labels


LARGE = block((4, 12), (10, 30), (8, 16))
MISSED = block((26, 30), (50, 54), (11, 13))  # high in x: on the patient's right; 4 x 4 x 2 voxels of 2 mm3
FAR = block((20, 23), (40, 43), (28, 30))
EMPTY = np.zeros(SHAPE, np.uint8)


def save(path, voxels, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def files_of(folder, name, prediction, reference, affine=AFFINE, image=True):
    brain = np.zeros(SHAPE, np.float32)
    brain[1:31, 1:63, 1:31] = np.random.default_rng(0).uniform(100, 200, (30, 62, 30))
    if affine[0, 0] < 0:
        brain = brain[::-1]
    return CaseFiles(
        name,
        None if prediction is None else save(folder / f"{name}_p.nii.gz", prediction, affine),
        save(folder / f"{name}_r.nii.gz", reference, affine),
        (("T1", save(folder / f"{name}_i.nii.gz", brain, affine)),) if image else (),
    )


def convention_of(rules):
    return "brats2023" if rules.name == "brats" else "atlas"


def scores_of(files, rules=ATLAS):
    return rules.score(*masks_of(files, convention_of(rules)))


def page_of(cases, rules=ATLAS, name="ours"):
    scores = {files.name: scores_of(files, rules) for files in cases}
    return draw_page(Details(name, convention_of(rules), rules, cases, scores))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return [
        files_of(folder, "hit", LARGE | MISSED, LARGE | MISSED),
        files_of(folder, "partly", LARGE | FAR, LARGE | MISSED),
        files_of(folder, "half", np.roll(LARGE, 5, axis=1), LARGE),
        files_of(folder, "absent", None, LARGE),
        files_of(folder, "healthy", EMPTY, EMPTY),
    ]


@pytest.fixture(scope="module")
def html(cohort):
    return page_of(cohort)


def test_a_page_loads_nothing_and_runs_no_script(html):
    assert not re.search(r'(?:src|href|srcset|action)="(?!#|data:image/png;base64,)', html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy
    assert "script" not in policy


def test_hostile_names_are_escaped(tmp_path):
    attack = "<img src=x onerror=alert('x')>\"&{{ 7 * 7 }}"
    cases = [
        files_of(tmp_path, "good", LARGE, LARGE)._replace(name=attack),
        files_of(tmp_path, "bad", None, LARGE)._replace(name=f"{attack}</script>"),
    ]
    html = page_of(cases, name=attack)
    assert "<img src=x" not in html
    assert text_of(html).count(attack) >= 5  # title, heading, notice, picture, table
    assert "</script>" not in html
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]


def pictures(html):
    """The pictures of a page, as RGB from 0 to 255."""
    places = re.findall(r'<img src="data:image/png;base64,([^"]*)"', html)
    return [np.rint(imread(BytesIO(base64.b64decode(place)))[..., :3] * 255).astype(int) for place in places]


def middle(pixels, colour):
    """The middle of an outline: row and column."""
    inside = np.argwhere((pixels == list(bytes.fromhex(colour[1:]))).all(axis=-1))
    return (inside.min(axis=0) + inside.max(axis=0) + 1) / 2


@pytest.mark.parametrize("flip", [False, True])
def test_outlines_lie_where_the_masks_are_in_the_radiological_convention(tmp_path, flip):
    """The box shown is the brain, 1 to 31 of x, and two voxels about it: all of the volume, 32 x 64 x 64 mm.

    A picture has 5 pixels for each mm; its first panel, 160 x 320 pixels, is axial, after a margin of a pixel.
    """
    affine, prediction, reference = AFFINE, LARGE | block((26, 30), (50, 54), (8, 16)), LARGE
    if flip:  # the same voxels of the world, stored the other way round
        affine, prediction, reference = np.diag([-1.0, 1, 2, 1]), prediction[::-1], reference[::-1]
        affine[0, 3] = 31
    (pixels,) = pictures(page_of([files_of(tmp_path, "a", prediction, reference, affine)]))
    assert pixels.shape == (320, 160 + 160 + 320 + 6, 3)
    # the patient's front is at the top, and the left side at the right: columns from 32 mm down to 0
    expected = [5 * (64 - (10 + 54) / 2), 5 * (32 - (4 + 30) / 2)]
    np.testing.assert_allclose(middle(pixels[:, 1:161], PREDICTION), expected, atol=1)
