import re
import shutil
from dataclasses import replace

import pytest
import torch

from common import weights
from deploy.bundle import check_options, open_bundle
from tests.deploy.dicom.checks import refusal
from tests.support import ROOT


@pytest.fixture
def bundle(tmp_path, models):
    """A copy of a bundle's folder, with a checkpoint."""
    folder = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundles/brats_finetune/configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(models["brats"], folder / "models/model.pt")
    return folder


def test_a_checkpoint_says_on_which_scans_it_was_trained(models, tmp_path):
    """The quick start's model for strokes has seen brains without skull, unlike ATLAS."""
    folder = ROOT / "bundles/atlas_finetune"
    opened = open_bundle(folder, models["atlas"])
    assert (opened.modalities, opened.cohort, opened.spacing) == (("T1",), "atlas", (1.0, 1.0))
    assert opened.space == "atlas"
    assert not opened.skull_stripped
    content = torch.load(models["atlas"], weights_only=True)
    ranges = {"spacing": [[2.0] * 3, [2.0, 2.0, 2.5]], "extent": [[150.0] * 3] * 2, "volume": [1.9, 2.1], "air": [0, 0]}
    said = {
        "made_up": True,
        "dataset": {"name": "atlas", "training": 20},
        "measured": ranges | {"overlap": [1, 1]},
        "cleanup": "lesion=largest",
        "space": "ukb",
    }
    weights.write_plain(content["network"], content["metadata"] | said, tmp_path / "model.pt")
    opened = open_bundle(folder, tmp_path / "model.pt")
    assert opened.name == "BrainSegFounder stage 3: stroke lesion segmentation, synthetic"
    phrase = "synthetic heads, computed from an anatomical template, without patients: 20 training subjects"
    assert phrase in opened.trained_on
    assert (opened.cohort, opened.space, opened.skull_stripped) == ("atlas", "ukb", True)
    assert (opened.spacing, opened.cleanup) == ((2.0, 2.5), "lesion=largest")
    metadata = content["metadata"] | said | {"spacing": [4.0] * 3}  # the bundle resamples to it
    weights.write_plain(content["network"], metadata, tmp_path / "model.pt")
    assert open_bundle(folder, tmp_path / "model.pt").spacing == (2.0, 2.5), "of the scans, as in scripts.segment"
    weights.write_plain(content["network"], content["metadata"] | {"cohort": "Köln, 東京"}, tmp_path / "model.pt")
    assert open_bundle(folder, tmp_path / "model.pt").trained_on.startswith("Koln, ??")


def test_a_checkpoint_states_the_modalities_that_it_needs(bundle, models, tmp_path):
    assert open_bundle(bundle).reference == "T1ce"
    content, file = torch.load(models["brats"], weights_only=True), tmp_path / "model.pt"
    lacking = {"modalities": ["T1", "FLAIR"], "missing_modalities": ["T1", "FLAIR"]}  # each in some subjects
    weights.write_plain(content["network"], content["metadata"] | lacking, file)
    opened = open_bundle(bundle, file)
    assert (opened.modalities, opened.reference) == (("T1", "FLAIR"), "T1")
    weights.write_plain(content["network"], content["metadata"] | {"modalities": ["T1", "PD"]}, file)
    assert refusal(open_bundle, bundle, file) == f"checkpoint {file}: modality PD; expected some of FLAIR, T1ce, T1, T2"


def test_a_checkpoint_states_the_regions_that_it_segments(bundle, models, tmp_path):
    content, file = torch.load(models["brats"], weights_only=True), tmp_path / "model.pt"
    own = "ventricles=7:35764002 SCT Brain ventricle,deep_grey=2:d55e00,hippocampus=3"
    weights.write_plain(content["network"], content["metadata"] | {"label_convention": own}, file)
    opened = open_bundle(bundle, file)
    segments = [(segment.value, segment.label, segment.code) for segment in opened.segments]
    ventricles = (7, "ventricles", "35764002 SCT Brain ventricle")
    assert segments == [(2, "deep_grey", ""), (3, "hippocampus", ""), ventricles]
    assert opened.segments[0].colour == "#d55e00"
    assert opened.name == "BrainSegFounder stage 3: segmentation of ventricles, deep_grey and hippocampus"
    assert (opened.cohort, opened.reference) == ("brats", "T1ce")
    weights.write_plain(content["network"], content["metadata"] | {"label_convention": "brats2024"}, file)
    labels = ["TC outside ET", "WT outside TC", "Enhancing tumour (ET)", "RC"]
    assert [segment.label for segment in open_bundle(bundle, file).segments] == labels
    weights.write_plain(content["network"], content["metadata"] | {"label_convention": "a=1,b=1"}, file)
    assert refusal(open_bundle, bundle, file).startswith(f"checkpoint {file}: metadata: label_convention=a=1,b=1: a ")
    weights.write_plain(content["network"], {"normalization": "brain"}, file)  # such as a converted file
    assert [segment.value for segment in open_bundle(bundle, file).segments] == [1, 2, 4]
    config = bundle / "configs/inference.yaml"  # of a package, the file states its own regions
    config.write_text(re.sub("(?m)^label_convention:.*", "label_convention: whole=1+2,core=1", config.read_text()))
    assert [segment.label for segment in open_bundle(bundle, file).segments] == ["core", "whole outside core"]


def test_weights_of_a_pretraining_are_refused_before_a_study_is_read(bundle, tmp_path):
    weights.write_plain({"a": torch.ones(1)}, {"tasks": ["rotation", "contrastive"]}, tmp_path / "model.pt")
    message = f"checkpoint {tmp_path / 'model.pt'}: self-supervised (rotation, contrastive); expected"
    assert refusal(open_bundle, bundle, tmp_path / "model.pt").startswith(message)


def test_regions_with_sides_are_not_mirrored_left_to_right(tumours):
    sided = replace(tumours, convention="thalamus_left=1,thalamus_right=2")
    check_options(["--flips=[1,2]"], sided)
    message = "--bundle_options: --flips=[0]: thalamus_left has a side; expected axes from 1, 2"
    assert refusal(check_options, ["--flips=[0]"], sided) == message
