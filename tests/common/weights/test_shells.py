"""The pickled network of BrainSegFounder's ATLAS-finetune, and pickles that call more."""

import os
import sys
from types import ModuleType

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import distributed, nn

from common import weights
from common.errors import InputError


class ATLASPredictor(nn.Module):
    """A stand-in for the published wrapper, whose code is unknown."""

    __module__ = "__mp_main__"

    def __init__(self, network, extra=None):
        super().__init__()
        self.base_model, self.out_size, self.extra = network, [197, 233, 189], extra


class Call:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def predictor(monkeypatch):
    main = ModuleType("__mp_main__")
    main.ATLASPredictor = ATLASPredictor
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    return ATLASPredictor


def network():
    torch.manual_seed(0)
    return SwinUNETR(1, 1, depths=(1, 1, 1, 1), feature_size=12, window_size=4)


def test_the_pickled_network_gives_its_tensors(predictor, file):
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        torch.save(nn.parallel.DistributedDataParallel(predictor(network())), file)
    finally:
        distributed.destroy_process_group()
    read, expected = weights.read(file), network().state_dict()
    assert read.layout == weights.Layout(None, [], "module.base_model.", "swinViT.", [])
    assert read.state.keys() == expected.keys()
    assert all(map(torch.equal, read.state.values(), expected.values()))


@pytest.mark.parametrize(
    "function",
    [os.system, eval, getattr, torch.load, nn.Module.load_state_dict, torch.hub.load],
    ids=lambda function: function.__qualname__,
)
def test_a_pickled_network_that_calls_anything_else_is_refused(function, predictor, file, tmp_path):
    marker = tmp_path / "called"
    torch.save(predictor(network(), Call(function, f"touch {marker}")), file)
    with pytest.raises(InputError):
        weights.read(file)
    assert not marker.exists()


def test_a_class_of_pytorch_is_not_called(predictor, file, monkeypatch):
    """`Linear` may be named, but neither its constructor nor `__setstate__` runs."""
    expected = network().state_dict()
    torch.save(predictor(network(), Call(nn.Linear, 2, 3)), file)
    monkeypatch.setattr(nn.Linear, "__init__", lambda *_: pytest.fail("called"))
    monkeypatch.setattr(nn.Module, "__setstate__", lambda *_: pytest.fail("called"))
    assert weights.read(file).state.keys() == expected.keys()
