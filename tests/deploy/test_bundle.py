import re
import shutil

import pytest
import torch

from deploy.bundle import open_bundle, segments_of, split_options
from scripts.package import write_plain
from tests.deploy.dicom.dicom_study import refusal
from tests.support import ROOT


@pytest.fixture
def bundle(tmp_path, models):
    """A copy of a bundle's folder, with a checkpoint."""
    folder = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundles/brats_finetune/configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(models["brats"], folder / "models/model.pt")
    return folder


def test_a_checkpoint_states_the_modalities_that_it_needs(bundle, models, tmp_path):
    assert open_bundle(bundle).reference == "T1ce"
    content, file = torch.load(models["brats"], weights_only=True), tmp_path / "model.pt"
    lacking = {"modalities": ["T1", "FLAIR"], "missing_modalities": ["T1", "FLAIR"]}  # each in some subjects
    write_plain(content["network"], content["metadata"] | lacking, file)
    opened = open_bundle(bundle, file)
    assert (opened.modalities, opened.reference) == (("T1", "FLAIR"), "T1")
    write_plain(content["network"], content["metadata"] | {"modalities": ["T1", "PD"]}, file)
    assert refusal(open_bundle, bundle, file) == f"checkpoint {file}: modality PD; expected some of FLAIR, T1ce, T1, T2"


def test_a_checkpoint_states_the_regions_that_it_segments(bundle, models, tmp_path):
    content, file = torch.load(models["brats"], weights_only=True), tmp_path / "model.pt"
    own = {"label_convention": "ventricles=7,hippocampus=3"}
    write_plain(content["network"], content["metadata"] | own, file)
    opened = open_bundle(bundle, file)
    assert [segment.label for segment in opened.segments] == ["hippocampus", "ventricles"]
    assert opened.name == "BrainSegFounder stage 3: segmentation of ventricles and hippocampus"
    assert (opened.cohort, opened.reference) == ("brats", "T1ce")
    write_plain(content["network"], {"normalization": "brain"}, file)  # such as a converted file
    assert [segment.value for segment in open_bundle(bundle, file).segments] == [1, 2, 4]
    config = bundle / "configs/inference.yaml"  # of a package, the file states its own regions
    config.write_text(re.sub("(?m)^label_convention:.*", "label_convention: whole=1+2,core=1", config.read_text()))
    assert [segment.label for segment in open_bundle(bundle, file).segments] == ["core", "whole outside core"]


def test_a_label_map_has_a_segment_for_each_region_outside_its_inner_regions():
    segments = segments_of("core=1+3:d1495b:6574001 SCT Necrosis,whole=1+2+3,cavity=7:C0-1 99LAB Cavity (old)")
    named = [(segment.value, segment.label, segment.code) for segment in segments]
    core, cavity = (1, "core", "6574001 SCT Necrosis"), (7, "cavity", "C0-1 99LAB Cavity (old)")
    assert named == [core, (2, "whole outside core", ""), cavity]
    assert segments[0].colour == "#d1495b"
    assert [segment.value for segment in segments_of("whole=1+2,a=1,b=2")] == [1, 2], "whole is a and b"
    inner, outer = "x" * 40, "y" * 40
    assert len(segments_of(f"{outer}=1+2,{inner}=1")[1].label) == 64, "DICOM's limit"


def test_options_that_the_application_sets_are_refused():
    assert split_options("--model_size=tiny --overlap=0.25") == ["--model_size=tiny", "--overlap=0.25"]
    assert "--checkpoint is set by the application" in refusal(split_options, "--checkpoint=other.pt")
