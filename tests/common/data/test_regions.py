import subprocess
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.colors import to_rgb
from monai.data import MetaTensor

from common.data import datalists, regions
from common.data.transforms import LabelToRegionsd, RegionsToLabeld
from common.errors import InputError
from common.inference.pictures import draw_segmentations
from common.inference.segmentations import Volumes
from scripts.evaluate.cases import CaseFiles, masks_of


def test_regions_come_in_display_order_with_their_colours():
    expected = {"WT": "#4dac6d", "TC": "#e9c46a", "ET": "#d1495b", "lesion": "#d1495b"}
    assert list(regions.colours().items()) == list(expected.items())
    assert regions.display_order(["lesion", "ET", "another", "WT"]) == ["WT", "ET", "lesion"]


def test_protocols_name_their_conventions():
    expected = {"brats": ("brats2023", "brats2021"), "atlas": ("atlas",), "isles": ("atlas",)}
    assert regions.conventions_by_protocol() == expected
    assert regions.aliases_of(expected["brats"]) == {4: 3}
    assert regions.aliases_of(["atlas"]) == {}


def test_no_other_module_waits_for_torch():
    code = "import common.data.regions, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def metastases(monkeypatch):
    """A convention that the table lacks: metastases (7) in their oedema (9)."""
    convention = regions.Convention(
        regions={
            "metastasis": regions.Region(frozenset({7}), "#112233"),
            "with oedema": regions.Region(frozenset({7, 9}), "#445566"),
        },
        protocols=("mets",),
    )
    monkeypatch.setitem(regions.CONVENTIONS, "mets", convention)
    return "mets"


LABEL = [0, 9, 9, 7]


def label_map():
    return MetaTensor(torch.tensor(LABEL, dtype=torch.uint8).view(1, 1, -1, 1).repeat(1, 4, 1, 4))


def test_one_entry_adds_a_convention_to_datalists(metastases):
    datalists.check({"name": "toy", "modalities": ["T1"], "label_convention": metastases}, "toy.json")


def test_one_entry_adds_a_convention_to_transforms(metastases):
    channels = LabelToRegionsd("label", metastases)({"label": label_map()})["label"]
    assert channels[:, 0, :, 0].tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    back = RegionsToLabeld("label", metastases)({"label": channels})["label"]
    assert torch.equal(back, label_map())
    with pytest.raises(InputError, match="the convention mets knows 0, 7, 9"):
        LabelToRegionsd("label", metastases)({"label": label_map() - 1})


def test_one_entry_adds_a_convention_to_pictures(metastases):
    regions_of_case = LabelToRegionsd("label", metastases)({"label": label_map()})["label"]
    output = {"image": torch.rand(1, 4, 4, 4), "label": regions_of_case, "pred": regions_of_case}
    (figure,) = draw_segmentations([output], [{"subject": "s"}], ["T1"], metastases).values()
    (legend,) = figure.legends
    entries = zip(legend.get_texts(), legend.get_patches(), strict=True)
    found = {text.get_text(): patch.get_facecolor()[:3] for text, patch in entries}
    assert found == {"metastasis": to_rgb("#112233"), "with oedema": to_rgb("#445566")}


def test_one_entry_adds_a_convention_to_volumes(metastases, tmp_path):
    engine = Engine(lambda engine, batch: None)
    engine.state = SimpleNamespace(output=[{"pred": label_map()}], batch=[{"subject": "s"}])
    Volumes(str(tmp_path), metastases)(engine)
    lines = (tmp_path / "volumes.csv").read_text().splitlines()[1:]
    assert lines == ["s,with oedema,0.048,48", "s,metastasis,0.016,16"]  # 1 mm3 a voxel


def test_one_entry_adds_a_convention_to_its_protocol(metastases, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.array(label_map()[0]), np.eye(4)), tmp_path / "s.nii.gz")
    masks = masks_of(CaseFiles("s", tmp_path / "s.nii.gz", tmp_path / "s.nii.gz", None), "mets")
    assert {name: mask.sum() for name, mask in masks.references.items()} == {"with oedema": 48, "metastasis": 16}
    assert list(masks.references) == ["with oedema", "metastasis"]
