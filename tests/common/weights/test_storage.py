"""Loading and saving: nothing is unpickled, no file is half written."""

import os
import sys
from types import ModuleType

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import distributed, nn

from common import weights
from common.errors import InputError
from tests.support import disk_of, refused


class Call:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped, file, tmp_path):
    marker = tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Call(os.system, f"touch {marker}")}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with refused(f"checkpoint {file}", text="needs posix.system, and unpickling can run any code"):
        weights.read(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


def test_a_flipped_bit_is_refused(file):
    """torch.load takes it for a weight."""
    torch.save({"a": torch.zeros(1000)}, file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(3000)) + 1000] ^= 64
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["a"].any()
    with refused(f"checkpoint {file}", text="data/0 is wrong"):
        weights.read(file)


def test_a_disk_that_fills_is_named_and_leaves_the_file_that_was_there(file):
    weights.write({"a": torch.ones(2)}, file)
    before = file.read_bytes()
    for most in (2000, 40_200):  # bytes: within a tensor, and within the archive's directory
        with disk_of(most), refused(text=": cannot be written: File too large"):
            weights.write({"a": torch.zeros(10_000)}, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# The pickled network of BrainSegFounder's ATLAS-finetune


class ATLASPredictor(nn.Module):
    """A stand-in for the published wrapper, whose code is unknown."""

    __module__ = "__mp_main__"

    def __init__(self, network, extra=None):
        super().__init__()
        self.base_model, self.out_size, self.extra = network, [197, 233, 189], extra


@pytest.fixture
def predictor(monkeypatch):
    main = ModuleType("__mp_main__")
    main.ATLASPredictor = ATLASPredictor
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    return ATLASPredictor


def network():
    torch.manual_seed(0)
    return SwinUNETR(1, 1, depths=(1, 1, 1, 1), feature_size=12, window_size=4)


def test_the_pickled_network_gives_its_tensors(predictor, file, monkeypatch):
    """Classes of PyTorch and MONAI are named in it, but none of their code runs."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        torch.save(nn.parallel.DistributedDataParallel(predictor(network(), Call(nn.Linear, 2, 3))), file)
    finally:
        distributed.destroy_process_group()
    expected = network().state_dict()
    monkeypatch.setattr(nn.Linear, "__init__", lambda *_: pytest.fail("called"))
    monkeypatch.setattr(nn.Module, "__setstate__", lambda *_: pytest.fail("called"))
    read = weights.read(file)
    assert read.layout == weights.Layout(None, "module.base_model.", "swinViT.", [])
    assert read.state.keys() == expected.keys()
    assert all(map(torch.equal, read.state.values(), expected.values()))


@pytest.mark.parametrize("function", [os.system, eval, torch.load], ids=lambda function: function.__qualname__)
def test_a_pickled_network_that_calls_anything_else_is_refused(function, predictor, file, tmp_path):
    marker = tmp_path / "called"
    torch.save(predictor(network(), Call(function, f"touch {marker}")), file)
    with pytest.raises(InputError):
        weights.read(file)
    assert not marker.exists()
