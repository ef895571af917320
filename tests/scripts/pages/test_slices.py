"""Pages of slices: the voxels that they hold, the lesions that they link to, and that they load nothing."""

import base64
import gzip
import hashlib
import json
import re

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from common.inference.evaluation import entry_of, new_record
from common.made import origin_of
from common.metrics.protocols import protocol
from scripts.evaluate.cases import read_masks
from scripts.pages.evaluation import read_scene, write_slices
from tests.html_pages import Page
from tests.scripts.evaluate.evaluations import save
from tests.support import oblique

SHAPE = (30, 34, 26)
# Right to left and top to bottom, axes exchanged; and a rotated grid
TURNED = np.array([[0, 0, -2.0, 30], [1.5, 0, 0, -20], [0, -1.0, 0, 12], [0, 0, 0, 1]])
AFFINES = {"RAS": np.diag([1.0, 1.0, 2.0, 1.0]), "turned": TURNED, "oblique": oblique()}
NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # of npm's @niivue/niivue 0.69.0


def case_of(folder, affine):
    """Write a case with two images, whose labels 1, 2, 4 have no symmetry; return its record and files."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:12, 8:20, 5:11], labels[8:11, 9:14, 6:9], labels[9:11, 10:12, 7:9] = 2, 1, 4
    labels[20:23, 25:27, 17:20] = 2
    predicted = np.roll(labels, 2, axis=1)
    predicted[24:26, 5:8, 20:22] = 2
    images = []
    for modality, scale in (("FLAIR", 1000.0), ("T1", 3.0)):
        image = np.zeros(SHAPE, np.float32)
        image[4:28, 3:30, 3:24] = np.random.default_rng(0).uniform(0.2, 1, (24, 27, 21)) * scale
        images.append((modality, save(folder / f"{modality}.nii.gz", image, affine, np.float32)))
    files = save(folder / "p.nii.gz", predicted, affine), save(folder / "r.nii.gz", labels, affine)
    record = new_record("ours", "brats2021", protocol("brats"), origin_of({}))
    scores = protocol("brats").score(*read_masks(*files, "brats2021"))
    record["cases"] = {"P 1": entry_of(folder, scores, *files, images)}
    return record, dict(zip(("prediction", "reference"), files, strict=True)), images


def page_of(folder, record):
    write_slices(folder, record, "P 1", read_scene(folder, record, "P 1"))
    return (folder / "slices/P 1.html").read_text()


def block(html, name):
    return re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', html, re.DOTALL)[1]


def volume(html, name):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(block(html, name))))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_page_holds_the_voxels_of_the_files_at_their_places(affine, tmp_path):
    record, labels, images = case_of(tmp_path, affine)
    html = page_of(tmp_path, record)
    data = json.loads(block(html, "data"))
    assert data["layers"] == list(labels)
    assert [modality["name"] for modality in data["modalities"]] == ["FLAIR", "T1"]
    everywhere = np.argwhere(np.ones(SHAPE))

    def held(scan):
        """The values that a volume of the page has at the places of the file's voxels, and which of them it has."""
        places = apply_affine(np.linalg.inv(scan.affine) @ affine, everywhere)
        np.testing.assert_allclose(places, np.rint(places), atol=1e-3)
        places = np.rint(places).astype(int)
        inside = ((places >= 0) & (places < scan.shape)).all(axis=1)
        to_scene = np.array([*data["to_scene"], [0, 0, 0, 1]])
        np.testing.assert_array_equal(np.rint(apply_affine(to_scene, everywhere)), places)
        return np.asarray(scan.dataobj)[tuple(places[inside].T)], inside

    for number, (_, path) in enumerate(images):
        scan = volume(html, f"image-{number}")
        assert nibabel.aff2axcodes(scan.affine) == ("R", "A", "S")
        assert list(scan.shape) == data["shape"]
        stored, inside = held(scan)
        expected = nibabel.load(path).get_fdata().reshape(-1)
        assert not expected[~inside].any()
        assert inside.sum() < len(inside)
        low, high = data["modalities"][number]["range"]
        np.testing.assert_allclose(stored, np.clip(expected[inside], low, high), atol=(high - low) / 255 * 0.51)
        assert (expected > high).mean() <= 0.001
    for number, path in enumerate(labels.values()):
        stored, inside = held(volume(html, f"layer-{number}"))
        expected = np.asanyarray(nibabel.load(path).dataobj).reshape(-1)
        assert not expected[~inside].any()
        # WT is 1, 2 and 4; TC is 1 and 4; ET is 4
        regions = {0: set(), 2: {"WT"}, 1: {"WT", "TC"}, 4: {"WT", "TC", "ET"}}
        for label, wanted in regions.items():
            for code in np.unique(stored[expected[inside] == label]):
                assert set(data["codes"][int(code)]) == wanted
    assert data["regions"] == ["WT", "TC", "ET"]


def test_a_page_loads_nothing_and_runs_its_own_scripts_only(tmp_path):
    attack = "</script><script>alert(1)</script>"
    record, *_ = case_of(tmp_path, AFFINES["RAS"])
    entry = record["cases"]["P 1"]
    entry |= {"missing_modalities": [attack], "modalities": {attack: entry["modalities"]["FLAIR"]}}
    html = page_of(tmp_path, record)
    assert "alert(1)</script>" not in html
    for tag, attributes in Page(html.replace("<input", "<img")).tags:
        assert tag not in ("link", "iframe", "object", "embed", "form")
        assert not {"src", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    library = gzip.decompress(base64.b64decode(block(html, "niivue")))
    assert hashlib.sha256(library).hexdigest() == NIIVUE
    scripts = [*re.findall(r"<script>(.*?)</script>", html, re.DOTALL), library.decode()]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert "script-src " + " ".join(f"'sha256-{each}'" for each in hashes) + ";" in html
    assert "Copyright (c) 2021, Niivue" in html
