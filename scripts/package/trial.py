"""Run a package without the checkout; `scripts.package.check` starts this in a separate process.

    python -P trial.py PACKAGE SCHEMA

The package's folder is the working directory and the whole of PYTHONPATH. Each step prints a line on standard output;
all that MONAI prints goes to standard error. Nothing is imported from the checkout: `common` is the package's own.
"""

import json
import os
import sys
import time
import unittest
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigParser
from torch import nn

CONFIG = "configs/inference.yaml"
WEIGHTS = Path("models/model.pt")


def main(package: Path, schema: Path) -> None:
    """Run the steps in order, up to the first that fails."""
    os.chdir(package)
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    outputs = json.loads(Path("configs/metadata.json").read_text())["network_data_format"]["outputs"]
    steps: dict[str, Callable[[], None]] = {
        "code of its own": lambda: own_code(package),
        "metadata follow MONAI's schema": lambda: monai.bundle.verify_metadata("configs/metadata.json", str(schema)),
        "weights": provide_weights,
        "verify_net_in_out": net_in_out,
        "TorchScript, traced, gives what the network gives": torchscript,
        "monai.bundle.load": load,
        "train, evaluate, infer and a federated round, a step each": unittests,
    }
    if "pred" not in outputs:  # the only output that MONAI's command knows
        del steps["verify_net_in_out"]
    for name, step in steps.items():
        start = time.monotonic()
        try:
            step()
        except BaseException as error:
            report.write(f"FAILED {name}: {cause(error)}\n")
            raise
        report.write(f"{name}: {time.monotonic() - start:.0f} s\n")


def cause(error: BaseException) -> str:
    """The root cause of an exception in one line; MONAI wraps it in the text of a config's section."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def own_code(package: Path) -> None:
    """Check that `import common` imports the package's own."""
    import common

    place = Path(common.__file__ or "").resolve()
    if not place.is_relative_to(package.resolve()):
        raise RuntimeError(f"common comes from {place.parent}")


def network() -> nn.Module:
    """The network of inference with random weights."""
    torch.manual_seed(0)
    return of_config("network_def").eval()


def modalities() -> list[str]:
    """The input channels, in order."""
    return of_config("modalities")


def of_config(name: str) -> Any:
    """A value of the inference config."""
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.get_parsed_content("imports")
    return parser.get_parsed_content(name)


def provide_weights() -> None:
    """Check that the package's weights fit; without weights, write random ones."""
    from common import weights

    if WEIGHTS.exists():
        weights.restore(network(), WEIGHTS, modalities())
    else:
        weights.write_plain(network().state_dict(), {"modalities": modalities()}, WEIGHTS)


def net_in_out() -> None:
    """Run MONAI's command with the shapes of the metadata."""
    monai.bundle.verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file=CONFIG)


def torchscript() -> None:
    """Export by tracing; SwinUNETR cannot be scripted, and `strict` would refuse a network that returns a dictionary.

    A trace is valid for one input size, here that of the metadata. The outputs must have the metadata's shapes.
    """
    described = json.loads(Path("configs/metadata.json").read_text())["network_data_format"]
    image = described["inputs"]["image"]
    shape = [1, image["num_channels"], *image["spatial_shape"]]
    monai.bundle.ckpt_export(
        "network_def",
        filepath="models/model.ts",
        ckpt_file=str(WEIGHTS),
        meta_file="configs/metadata.json",
        config_file=CONFIG,
        use_trace=True,
        input_shape=shape,
        converter_kwargs={"strict": False, "check_trace": False},  # checked below, on another input
    )
    eager = network()
    eager.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    test = torch.randn(shape)
    with torch.no_grad():
        expected, given = eager(test), torch.jit.load("models/model.ts")(test)
    expected, given = ({"pred": out} if isinstance(out, torch.Tensor) else out for out in (expected, given))
    check_outputs(described["outputs"], expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(given[name], tensor, rtol=1e-4, atol=1e-4)


def check_outputs(described: Mapping[str, Any], given: Mapping[str, torch.Tensor]) -> None:
    """Check that a network's outputs have the names, shapes and types of the metadata."""
    if given.keys() != described.keys():
        raise ValueError(f"the network returns {', '.join(given)}; metadata.json says {', '.join(described)}")
    for name, tensor in given.items():
        expected = [1, described[name]["num_channels"], *described[name]["spatial_shape"]]
        if list(tensor.shape) != expected or str(tensor.dtype) != f"torch.{described[name]['dtype']}":
            raise ValueError(f"{name} is {list(tensor.shape)}, {tensor.dtype}; metadata.json says {expected}")


def load() -> None:
    """Check that `monai.bundle.load`, as anybody calls it, gives a network with exactly the weights of the file."""
    place = Path.cwd()
    network = monai.bundle.load(place.name, bundle_dir=place.parent, device="cpu")  # builds the network of train.json
    expected = torch.load(WEIGHTS, weights_only=True)
    given = network.state_dict()
    wrong = [name for name in given.keys() | expected.keys() if not same(given.get(name), expected.get(name))]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors differ from {WEIGHTS}, first {min(wrong)}")


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two tensors exist and are equal."""
    return one is not None and other is not None and torch.equal(one, other)


def unittests() -> None:
    """Run the package's unit tests."""
    name = f"test_{Path.cwd().name}"
    sys.path.insert(0, "tests")
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromName(name))
    if not result.wasSuccessful() or not result.testsRun:
        test, trace = (result.errors + result.failures)[0]
        raise RuntimeError(f"{test}: {trace.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
