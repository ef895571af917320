"""A training records how its scans were prepared, and what follows holds other scans against the record."""

import re

import pytest

from common import weights
from common.baselines.architectures import segmentation_network
from common.errors import InputError, input_error_message
from common.ssl.networks import SSLHead
from tests.bundles.workflows import workflow

FOUR = {"spacing": [[4.0] * 3] * 2, "extent": [[60.0] * 3, [300.0] * 3], "volume": [0.5, 6.0]}  # the cohort's voxels
FOUR |= {"air": [0.0, 1.0], "overlap": [0.9, 1.0]}
ONE = FOUR | {"spacing": [[1.0] * 3] * 2}
REFUSED = r"prepared otherwise: voxels of 4 x 4 x 4 mm; expected 1 x 1 x 1 mm \(--accept='\[spacing\]' to go on\)"


def checkpoint(folder, network, modalities, measured):
    stated = {"modalities": modalities, "model_size": "micro", "patch_size": [64, 64, 64], "normalization": "brain"}
    weights.write({"network": network.state_dict(), "metadata": stated | {"measured": measured}}, folder / "seen.pt")
    return str(folder / "seen.pt")


@pytest.mark.parametrize("bundle", ["brats_finetune", "ukb_ssl_pretrain"])
def test_a_training_records_how_its_scans_were_prepared(bundle, cohorts, tmp_path, capsys):
    plan = workflow(bundle, "train", "train", cohorts, tmp_path, warmup_iterations=1).parser.get_parsed_content("plan")
    measured = plan.settings["measured"]
    assert measured["spacing"] == FOUR["spacing"]
    assert 1 < measured["volume"][0] <= measured["volume"][1] < 2.8
    assert "scans: voxels of 4 x 4 x 4 mm, brains without skull, background 0\n" in capsys.readouterr().out
    weights.write({"network": {"a": plan_tensor()}, "metadata": {"measured": measured}}, tmp_path / "model.pt")
    assert weights.measured_of(tmp_path / "model.pt") == [measured]


def plan_tensor():
    return SSLHead(1, "micro").rotation_head.bias.detach()


@pytest.mark.parametrize(("measured", "accept"), [(FOUR, []), (ONE, ["spacing"])])
def test_a_training_goes_on_from_a_network_that_saw_such_scans(measured, accept, cohorts, tmp_path, capsys):
    pretrained = checkpoint(tmp_path, SSLHead(2, "micro"), ["T1", "FLAIR"], measured)
    options = {"pretrained": pretrained, "warmup_iterations": 1, "accept": accept}
    workflow("brats_stage2", "train", "train", cohorts, tmp_path / "run", **options)
    assert ("accepted: voxels of 4 x 4 x 4 mm" in capsys.readouterr().out) == bool(accept)


def test_a_training_on_scans_that_the_pretrained_network_has_not_seen_is_refused(cohorts, tmp_path):
    pretrained = checkpoint(tmp_path, SSLHead(2, "micro"), ["T1", "FLAIR"], ONE)
    options = {"pretrained": pretrained, "warmup_iterations": 1}
    with pytest.raises(RuntimeError) as raised:
        workflow("brats_stage2", "train", "train", cohorts, tmp_path / "run", **options)
    assert re.fullmatch(REFUSED, str(input_error_message(raised.value)))


@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_a_scan_that_the_network_has_not_seen_is_refused(name, cohorts, tmp_path):
    network = segmentation_network("swin_unetr", 1, 1, "micro", [64, 64, 64])
    options = {"checkpoint": checkpoint(tmp_path, network, ["T1"], ONE), "num_workers": 0}
    dataset = workflow("atlas_finetune", name, "infer", cohorts, tmp_path / "out", **options).parser
    with pytest.raises(InputError, match=rf"^subject .*: {REFUSED}"):
        dataset.get_parsed_content("dataset")[0]
    accepted = workflow("atlas_finetune", name, "infer", cohorts, tmp_path / "two", accept=["spacing"], **options)
    accepted.parser.get_parsed_content("dataset")[0]
    resampled = workflow("atlas_finetune", name, "infer", cohorts, tmp_path / "three", spacing=[4, 4, 4], **options)
    resampled.parser.get_parsed_content("dataset")[0]


def test_an_embedding_of_a_scan_that_the_network_has_not_seen_is_refused(cohorts, tmp_path):
    options = {"checkpoint": checkpoint(tmp_path, SSLHead(1, "micro"), ["T1"], ONE), "num_workers": 0}
    opened = workflow("atlas_stage2", "inference", "infer", cohorts, tmp_path / "out", **options)
    with pytest.raises(InputError, match=REFUSED):
        opened.parser.get_parsed_content("dataset")[0]
