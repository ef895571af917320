"""Trainings from end to end: on two processes, and from stage to stage."""

import json
import re

import pytest
import torch

from common import weights
from common.ssl.networks import SSLHead
from tests.support import TINY

BRATS = ["FLAIR", "T1ce", "T1", "T2"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("bundle", "options"),
    [("ukb_ssl_pretrain", []), ("atlas_finetune", []), ("atlas_finetune", ["--architecture=transbts"])],
)
def test_two_processes_train_one_network(run_bundle, tmp_path, bundle, options):
    result = run_bundle(bundle, *TINY, *options, processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / bundle
    record = json.loads((folder / "run.json").read_text())
    assert record["world_size"] == 2
    assert record["finished"]
    for name in ("model.pt", "iteration-0000001.pt"):
        network = torch.load(folder / "models" / name, weights_only=True)["network"]
        assert not any(key.startswith("module.") for key in network)
    ranks = torch.load(folder / "models" / "iteration-0000001.pt", weights_only=True)["ranks"]
    assert len(ranks) == 2
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"])
    assert len(list(folder.glob("tensorboard/train/*"))) == 1, "one rank writes"
    assert (folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert f"curves       {folder / 'progress.png'}" in result.stdout


def test_two_processes_have_the_same_new_channels(run_bundle, tmp_path):
    """Each process draws its own; the network that is trained has those of the main process, and stays one network."""
    metadata = {"modalities": ["T1"], "model_size": "micro"}
    weights.write({"network": SSLHead(1, "micro").state_dict(), "metadata": metadata}, tmp_path / "t1.pt")
    states = ["drawn", "wrapped", "trained"]
    drawn, wrapped, trained = (
        f"$torch.save(@network.state_dict(), str(@output_dir) + '/{name}' + str(@processes.rank) + '.pt')"
        for name in states
    )
    run = ["$@train::checks", drawn, "$@model", wrapped, "$@train::trainer.run()", trained]
    (tmp_path / "look.json").write_text(json.dumps({"run": run}))
    options = [f"--pretrained={tmp_path / 't1.pt'}", f"--args_file={tmp_path / 'look.json'}"]
    options += ["--iterations=2", "--val_interval=2"]  # the first has a learning rate of 0
    result = run_bundle("ukb_ssl_pretrain", *TINY, *options, processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / "ukb_ssl_pretrain"
    (drawn, other), wrapped, trained = (
        [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)] for name in states
    )
    stem = "swinViT.patch_embed.proj.weight"
    assert not torch.equal(drawn[stem][:, 1], other[stem][:, 1]), "FLAIR; otherwise the test would show nothing"
    for name, tensor in drawn.items():
        assert torch.equal(wrapped[0][name], tensor)
        assert torch.equal(wrapped[1][name], tensor)
        assert torch.equal(trained[0][name], trained[1][name])
    assert any(not torch.equal(trained[0][name], tensor) for name, tensor in drawn.items())
    squares = drawn[stem].square().sum((0, 2, 3, 4))
    recorded = json.loads((folder / "run.json").read_text())["weights"]["shares"][stem]
    assert recorded == pytest.approx((squares / squares.sum()).tolist(), abs=1e-4)


def test_surgery_and_its_report(run_bundle, tmp_path):
    """Stage 1 to stage 2: the stem is changed by name, nothing of the encoder is missing, and the run says so."""
    assert run_bundle("ukb_ssl_pretrain", *TINY).returncode == 0
    source = tmp_path / "ukb_ssl_pretrain" / "models" / "model.pt"
    result = run_bundle("brats_stage2", *TINY, f"--pretrained={source}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "brats_stage2" / "run.json").read_text())["weights"]
    assert report["changed"] == 3  # the stem, and the last convolution of the reconstruction with its bias
    assert report["missing"] == report["unexpected"] == 0
    assert re.search(rf"{report['matched']} matched, 3 changed, 0 missing, 0 unexpected", result.stdout)
    shares = report["shares"]["swinViT.patch_embed.proj.weight"]
    shown = ", ".join(f"{name} {share:.0%}" for name, share in zip(BRATS, shares, strict=True))
    assert f"  response   swinViT.patch_embed.proj.weight: {shown}\n" in result.stdout
    metadata = torch.load(tmp_path / "brats_stage2" / "models" / "model.pt", weights_only=True)["metadata"]
    assert metadata["modalities"] == BRATS
    assert metadata["new_channel_init"] == "fan_out"


@pytest.mark.parametrize(
    ("modalities", "options", "printed", "kept"),
    [
        (["T1", "T1"], [], "response   STEM: T1 50%, T1 50%", [(0, 0, 2), (1, 0, 2)]),
        (
            ["T1", "T2"],
            ["--modality_aliases={'T2': 'FLAIR'}"],
            "alias      T2 takes FLAIR's filters",
            [(0, 0, 1), (1, 1, 1)],
        ),
    ],
)
def test_modality_restriction(run_bundle, tmp_path, modalities, options, printed, kept):
    """The paper's Table 5: T1 in both channels; and its code's T1 and T2, the latter by FLAIR's filters."""
    stem = "swinViT.patch_embed.proj.weight"
    network, metadata = SSLHead(2, "micro"), {"modalities": ["T1", "FLAIR"], "model_size": "micro"}
    weights.write({"network": network.state_dict(), "metadata": metadata}, tmp_path / "ukb.pt")
    wanted = f"--modalities={modalities}"
    result = run_bundle("brats_finetune", *TINY, wanted, f"--pretrained={tmp_path / 'ukb.pt'}", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"  {printed.replace('STEM', stem)}\n" in result.stdout
    saved = torch.load(tmp_path / "brats_finetune" / "models" / "model.pt", weights_only=True)
    given = network.state_dict()[stem]
    for channel, source, times in kept:  # the one step has a learning rate of 0
        assert torch.equal(saved["network"][stem][:, channel], given[:, source] / times)
    assert saved["metadata"]["modality_aliases"] == ({"T2": "FLAIR"} if options else None)
    config = json.loads((tmp_path / "brats_finetune" / "run.json").read_text())["config"]
    assert config["modality_aliases"] == saved["metadata"]["modality_aliases"]
    size = ["--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]
    checkpoint = f"--checkpoint={tmp_path / 'brats_finetune' / 'models' / 'model.pt'}"
    result = run_bundle("brats_finetune", *size, wanted, checkpoint, config="configs/evaluate.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
