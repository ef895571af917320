"""`scripts.weights`: what foreign files are told apart by, and what a converted one says."""

import pytest
import torch
from monai.networks.nets import SwinUNETR

from common import weights
from common.networks import SSLHead, settings
from common.preflight import InputError
from scripts.weights import convert, describe, inspect


def public_layout(network, path):
    """As the paper's authors publish: wrapped, with the prefix of DistributedDataParallel."""
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    return str(path)


@pytest.mark.parametrize(("channels", "size"), [(1, "tiny"), (2, "small"), (4, "micro")])
def test_an_ssl_network_is_recognised(channels, size):
    network = SSLHead(channels, size)
    found = describe(network.state_dict())
    assert (found["network"], found["model_size"], found["input_channels"]) == ("SSLHead", size, channels)
    assert found["parameters"] == sum(parameter.numel() for parameter in network.parameters())


def test_a_segmentation_network_of_no_known_size_is_recognised():
    network = SwinUNETR(4, 3, depths=(1, 2, 1, 1), feature_size=12, window_size=4)
    found = describe(network.state_dict())
    assert found["network"] == "SwinUNETR"
    assert found["model_size"] == "depths (1, 2, 1, 1), feature size 12"


def test_another_network_is_refused():
    with pytest.raises(InputError, match="expected SwinUNETR's encoder"):
        describe(torch.nn.Conv3d(1, 1, 1).state_dict())


def test_a_converted_file_starts_a_stage(tmp_path, capsys):
    source = SSLHead(2, "micro")
    output = tmp_path / "converted.pt"
    convert(public_layout(source, tmp_path / "public.pt"), ("T1", "FLAIR"), str(output))
    inspect(str(output))
    printed = capsys.readouterr().out
    assert "T1, FLAIR" in printed
    size = settings("micro")
    target = SwinUNETR(1, 1, depths=size.depths, feature_size=size.feature_size, window_size=size.window_size)
    weights.initialise(target, output, ["FLAIR"])
    stem = "swinViT.patch_embed.proj.weight"
    torch.testing.assert_close(target.state_dict()[stem][:, 0], source.state_dict()[stem][:, 1])


def test_the_number_of_modalities_must_fit(tmp_path):
    file = public_layout(SSLHead(2, "micro"), tmp_path / "public.pt")
    with pytest.raises(InputError, match=r"--modalities=T1: .* has 2 input channels"):
        convert(file, "T1", str(tmp_path / "out.pt"))
    assert not (tmp_path / "out.pt").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path):
    file = public_layout(SSLHead(1, "micro"), tmp_path / "public.pt")
    (tmp_path / "out.pt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        convert(file, "T1", str(tmp_path / "out.pt"))
    assert (tmp_path / "out.pt").read_text() == "mine"
