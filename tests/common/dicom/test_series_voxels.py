"""The voxels of two T1 scans of phantoms: vessels, a glioma, noise, receive fields, a moved patient."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from common.data.cohorts import COHORTS
from common.dicom.series.voxels import brighter, tails
from common.prepare.volumes import Volume
from scripts.phantoms.anatomy import add_glioma, make_head
from scripts.phantoms.layouts import grid_of
from scripts.phantoms.mr_signal import SEQUENCES, TISSUES, Tissue, signal

BLOOD = Tissue(0.85, 1900, 90, uptake=1.2)  # T1 and T2 in ms at 3 T
NATIVE, ENHANCED = SEQUENCES["T1"], SEQUENCES["T1ce"]
AGENT = 0.5  # mM in enhancing tumour


def make(seed, skull_stripped, glioma):
    """A head with a sagittal sinus and choroid plexus, and perhaps a glioma, in voxels of 3 mm."""
    rng = np.random.default_rng([seed, 5])
    head = make_head(rng, grid_of(COHORTS["brats" if skull_stripped else "atlas"], 3.0), [], skull_stripped)
    if glioma:
        add_glioma(rng, head, np.array([[30, 5 * seed - 10, 25]], np.float32))
    x, y, z = head.positions
    sinus = head.soft(3.5 - np.hypot(x, head.depth + 1.5)) * (z > 0)
    plexus = [np.sqrt(((x - side) / 4) ** 2 + ((y + 28) / 14) ** 2 + ((z - 14) / 4) ** 2) for side in (-12, 12)]
    head.replace("blood", np.maximum(sinus, 0.6 * head.soft(4 - 4 * np.min(plexus, axis=0))).astype(np.float32))
    return head


def scan(seed, head, sequence, noise=0.03, field=0.12):
    """A scan with Rician noise relative to white matter and a receive field, both of which differ between seeds."""
    rng = np.random.default_rng(seed)
    tissues = TISSUES | {"blood": BLOOD}
    image = sum(signal(tissues[name], sequence, AGENT) * share for name, share in head.fractions.items())
    image = image * np.exp(field * head.field(rng, 90.0))
    white = signal(TISSUES["WM"], sequence, AGENT)
    noises = noise * white * rng.standard_normal((2, len(image)))
    array = np.zeros(head.grid.shape, np.float32)
    array[head.inside] = np.hypot(image + noises[0], noises[1]) * rng.uniform(300, 900) / white
    return Volume(array, head.grid.affine)


def moved(volume, distance, angle):
    """The volume with the patient moved by so many mm along x and turned by so many degrees about z."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", angle, degrees=True).as_matrix()
    turn[0, 3] = distance
    return Volume(volume.array, turn @ volume.affine)


def sagittal(volume):
    return Volume(np.ascontiguousarray(volume.array.transpose(1, 2, 0)), volume.affine[:, [1, 2, 0, 3]])


CHANGES = {  # options of the second scan, and its change
    "nothing": ({}, lambda volume: volume),
    "noise": ({"noise": 0.08}, lambda volume: volume),
    "another receive field": ({"field": 0.3}, lambda volume: volume),
    "sagittal slices": ({}, sagittal),
    "a patient who moved far": ({"noise": 0.08}, lambda volume: moved(volume, 4.0, 3.0)),
}


@pytest.fixture(scope="module", params=[(0, True, True), (1, True, True), (0, False, True), (1, False, False)], ids=str)
def head(request):
    """A brain or a whole head with a glioma, and a whole head without."""
    return make(*request.param)


@pytest.mark.parametrize("name", CHANGES)
def test_contrast_agent_is_seen_whichever_series_comes_first_and_two_native_scans_say_nothing(head, name):
    options, change = CHANGES[name]
    before = scan(1, head, NATIVE)
    assert brighter(change(scan(2, head, NATIVE, **options)), before) == 0
    after = change(scan(2, head, ENHANCED, **options))
    assert (brighter(after, before), brighter(before, after)) == (1, -1)


def test_two_enhanced_scans_and_scans_without_a_common_head_say_nothing(head):
    before, after = scan(1, head, NATIVE), scan(2, head, ENHANCED)
    assert brighter(after, scan(1, head, ENHANCED)) == 0
    assert brighter(moved(after, 400.0, 0.0), before) is None
    assert brighter(Volume(np.zeros_like(after.array), after.affine), before) is None
    assert brighter(Volume(np.ones((4, 4, 12), np.float32), np.eye(4)), before) is None


def test_the_tails_are_those_of_a_difference_in_closed_form():
    """In a block of ones, 1 % is brighter by 0.5. This is the upper tail, minus the correction of the receive field: in
    so small a cube, at most a quarter of log(1.5). The lower tail is this correction in the surroundings."""
    array = np.zeros((60, 60, 60), np.float32)
    array[5:55, 5:55, 5:55] = 1
    bright = array.copy()
    bright[10:20, 10:20, 10:20] = 1.5
    low, high = tails(*(Volume(image, np.diag([2.5, 2.5, 2.5, 1])) for image in (100 * bright, array)))
    assert low < 0.1
    assert 0.35 < high < 0.51
