"""A cohort, its datalist, and a run of the command that is killed once and repeated."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, Result, execute

pytest.importorskip(
    "nnunetv2", reason="nnU-Net is not installed here; make nnunet, then .venv-nnunet/bin/python -m pytest"
)

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

SMALL = ["--plans=resenc_l", "--epochs=3", "--iterations_per_epoch=1", "--num_workers=0", "--device=cpu"]


class Cohort(NamedTuple):
    root: Path
    datalist: Path


class Run(NamedTuple):
    command: list[str]
    output: Path
    killed: str  # what was printed before the kill
    printed: str  # and after it


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Cohort:
    """Six subjects of the embedded BraTS: three for training, one for validation, two held out."""
    folder = tmp_path_factory.mktemp("cohort")
    made = Cohort(folder / "brats", folder / "brats.json")
    make = ["--layout=brats", "--subjects=6", "--spacing=4", f"--output={made.root}", "--workers=1"]
    scan = [f"--root={made.root}", f"--output={made.datalist}", "--validation=1", "--testing=2"]
    for command in (["scripts.phantoms", "make", *make], ["scripts.datalists", "brats", *scan]):
        result = execute([sys.executable, "-m", *command])
        assert result.returncode == 0, result.stderr
    return made


@pytest.fixture(scope="session")
def openmind(tmp_path_factory) -> Path:
    """A checkpoint in the layout of OpenMind's ResEnc-L, with one input channel, and with a stage less."""
    path = tmp_path_factory.mktemp("weights") / "openmind.pth"
    torch.save(
        {
            "network_weights": residual_network(1, 4).state_dict(),
            "nnssl_adaptation_plan": {"key_to_encoder": "encoder.stages", "key_to_stem": "encoder.stem"},
        },
        path,
    )
    return path


def residual_network(channels: int, stages: int) -> torch.nn.Module:
    return ResidualEncoderUNet(
        input_channels=channels,
        n_stages=stages,
        features_per_stage=[32, 64, 128, 256, 320, 320][:stages],
        conv_op=torch.nn.Conv3d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2, 2][:stages],
        n_blocks_per_stage=[1, 3, 4, 6, 6, 6][:stages],
        num_classes=3,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


@pytest.fixture(scope="session")
def baseline(cohort) -> Callable[..., Result]:
    """Runs the command on the cohort."""

    def run(output: Path, *options: str, datalist: Path = cohort.datalist) -> Result:
        return execute(command(cohort, output, *options, datalist=datalist))

    return run


def command(cohort: Cohort, output: Path, *options: str, datalist: Path | None = None) -> list[str]:
    given = [f"--datalist={datalist or cohort.datalist}", f"--dataset_dir={cohort.root}", f"--output={output}"]
    return [sys.executable, "-m", "scripts.nnunet", *given, *options]


@pytest.fixture(scope="session")
def finished(cohort, openmind, tmp_path_factory) -> Run:
    """The whole command, killed as soon as its training has saved a checkpoint, then repeated to the end."""
    output = tmp_path_factory.mktemp("nnunet") / "output"
    started = command(cohort, output, *SMALL, f"--pretrained={openmind}")
    log = output.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(started, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        limit = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < limit and "Epoch 1" not in log.read_text():
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = execute(started)
    assert result.returncode == 0, log.read_text() + result.stdout + result.stderr
    return Run(started, output, log.read_text(), result.stdout)
