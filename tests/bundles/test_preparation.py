"""A training records how its scans were prepared; later workflows refuse scans with a different preparation."""

import re
import shutil
from contextlib import nullcontext

import pytest
import torch

from common import weights
from common.errors import InputError, explained
from tests.bundles.workflows import STEP, untrained, workflow

ONE = {"spacing": [[1.0] * 3] * 2, "extent": [[60.0] * 3, [300.0] * 3], "volume": [0.5, 6.0]}  # the cohort has 4 mm
ONE |= {"air": [0.0, 1.0], "overlap": [0.9, 1.0]}
REFUSED = (
    r"preparation differs from the training data: .*: voxels of 4 x 4 x 4 mm; expected 1 x 1 x 1 mm "
    r"\(--spacing resamples scans, .*--accept='\[spacing\]' goes on regardless\)"
)


@pytest.mark.parametrize("bundle", ["brats_finetune", "ukb_ssl_pretrain"])
def test_a_training_records_how_its_scans_were_prepared(bundle, trained):
    (measured,) = weights.measured_of(trained(bundle) / "models/model.pt")
    assert measured["spacing"] == [[4.0] * 3] * 2
    assert 1 < measured["volume"][0] <= measured["volume"][1] < 2.8
    log = (trained(bundle) / "log.txt").read_text()
    assert "scans: voxels of 4 x 4 x 4 mm, brains without skull, background 0\n" in log


def test_a_training_on_scans_that_the_pretrained_network_has_not_seen_is_refused(cohorts, tmp_path, capsys):
    options = STEP | {"pretrained": untrained("ukb_ssl_pretrain", tmp_path / "one.pt", measured=ONE)}
    with pytest.raises(InputError) as raised:
        workflow("brats_stage2", "train", cohorts, tmp_path / "refused", **options)
    assert re.fullmatch(REFUSED, str(explained(raised.value)))
    workflow("brats_stage2", "train", cohorts, tmp_path / "accepted", **options, accept=["spacing"])
    assert re.search(r"accepted: subject .*: voxels of 4 x 4 x 4 mm", capsys.readouterr().out)


def test_a_run_does_not_go_on_with_scans_of_another_preparation(cohorts, trained, tmp_path):
    run = shutil.copytree(trained("brats_stage2"), tmp_path / "run")
    (file,) = run.glob("models/iteration-*.pt")
    state = torch.load(file, weights_only=True)
    state["metadata"]["measured"] = ONE
    torch.save(state, file)
    options = STEP | {"pretrained": str(trained("ukb_ssl_pretrain") / "models/model.pt"), "resume": True}
    with pytest.raises(InputError, match=REFUSED):
        workflow("brats_stage2", "train", cohorts, run, **options, ckpt_dir=str(run / "models"))


@pytest.mark.parametrize("bundle", ["atlas_finetune", "atlas_stage2"])
@pytest.mark.parametrize("options", [{}, {"spacing": [4, 4, 4]}, {"accept": ["spacing"]}, {"spacing": [1, 1, 1]}])
def test_a_scan_that_the_network_has_not_seen_is_refused(bundle, options, cohorts, tmp_path):
    checkpoint = untrained(bundle, tmp_path / "seen.pt", measured=ONE)
    dataset = workflow(bundle, "inference", cohorts, tmp_path, checkpoint=checkpoint, **options).parser
    fits = options in ({"accept": ["spacing"]}, {"spacing": [1, 1, 1]})
    with nullcontext() if fits else pytest.raises(InputError, match=rf"^subject .*: {REFUSED}"):
        dataset.get_parsed_content("dataset")[0]
