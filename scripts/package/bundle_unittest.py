"""Run every workflow of this bundle on synthetic volumes, and check its network against metadata.json.

Each package contains this file as `tests/test_BUNDLE.py`; run `python -m unittest tests/test_BUNDLE.py` there. In the
Model Zoo, it belongs in `ci/unit_tests` and tests `models/BUNDLE`.
"""

# ruff: noqa: PT009 (the Model Zoo runs unittest)

import json
import os
import shutil
import sys
import tempfile
import unittest
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import monai.bundle
import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

NAME = Path(__file__).stem.removeprefix("test_")
PACKAGE = Path(__file__).resolve().parents[1]  # the package that contains this file
ROOTS = (Path(os.environ.get("BUNDLE_ROOT", PACKAGE)), PACKAGE.parent / "models" / NAME)
BUNDLE = next((root for root in ROOTS if (root / "configs/metadata.json").is_file()), ROOTS[0])
sys.path.insert(0, str(BUNDLE))  # for the bundle's own code

INFERENCE = BUNDLE / "configs/inference.json"
EDGE = 64  # voxels; the smallest input of the networks
NETWORK = {"model_size": "micro", "patch_size": [EDGE] * 3, "num_workers": 0, "amp": False, "device": "cpu"}
SHORT = {
    "batch_size": 2,
    "global_batch_size": None,
    "warmup_iterations": 0,  # the first step of a warm-up changes nothing
    "iterations": 1,
    "val_interval": 1,
}
SUBJECTS = {"training": 2, "validation": 2, "testing": 1}


def are_finite(metrics: Mapping[str, float]) -> bool:
    """Whether all metrics are finite, except `..._present`, which is NaN if no case has the region."""
    return all(np.isfinite(value) for name, value in metrics.items() if not name.endswith("_present"))


class TestNetwork(unittest.TestCase):
    """The network of the inference config with the bundle's weights, or random weights if it has none."""

    folder: ClassVar[Path]
    weights: ClassVar[Path]
    image: ClassVar[list[int]]
    outputs: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        """Change to an empty folder; find the bundle's weights, or write random weights."""
        cls.folder = empty_folder(cls)
        formats = json.loads((BUNDLE / "configs/metadata.json").read_text())["network_data_format"]
        shape = formats["inputs"]["image"]
        cls.image, cls.outputs = [1, shape["num_channels"], *shape["spatial_shape"]], formats["outputs"]
        cls.weights = BUNDLE / "models/model.pt"
        if not cls.weights.exists():
            cls.weights = cls.folder / "model.pt"
            torch.save(inference_value("network_def").state_dict(), cls.weights)

    def test_load(self) -> None:
        """`monai.bundle.load` gives a network with exactly the file's weights, from any folder, and writes nothing."""
        file, before = str(self.weights), [*Path.cwd().iterdir(), *BUNDLE.glob("eval/*")]
        for kind in ("train", "inference"):
            options = {"model_file": file, "bundle_dir": BUNDLE.parent, "workflow_type": kind, "device": "cpu"}
            network = monai.bundle.load(BUNDLE.name, **options)
            expected, loaded = torch.load(file, weights_only=True), network.state_dict()
            self.assertEqual(loaded.keys(), expected.keys())
            self.assertEqual([name for name in expected if not torch.equal(loaded[name], expected[name])], [])
        self.assertEqual([*Path.cwd().iterdir(), *BUNDLE.glob("eval/*")], before)

    def test_torchscript(self) -> None:
        """The exported trace returns the outputs of the network, in the shapes of metadata.json."""
        script = self.folder / "model.ts"
        monai.bundle.ckpt_export(
            "network_def",
            filepath=str(script),
            ckpt_file=str(self.weights),
            meta_file=str(BUNDLE / "configs/metadata.json"),
            config_file=str(INFERENCE),
            bundle_root=str(BUNDLE),
        )
        network, test = inference_value("network_def").eval(), torch.randn(self.image)
        network.load_state_dict(torch.load(self.weights, weights_only=True))
        with torch.no_grad():
            expected, exported = network(test), torch.jit.load(script)(test)
        expected, exported = ({"pred": out} if isinstance(out, torch.Tensor) else out for out in (expected, exported))
        described = {
            name: ([1, form["num_channels"], *form["spatial_shape"]], f"torch.{form['dtype']}")
            for name, form in self.outputs.items()
        }
        actual = {name: (list(tensor.shape), str(tensor.dtype)) for name, tensor in expected.items()}
        self.assertEqual(actual, described, "outputs of the network, and those of metadata.json")
        for name, tensor in expected.items():
            torch.testing.assert_close(exported[name], tensor, rtol=1e-4, atol=1e-4)


class TestBundle(unittest.TestCase):
    """The bundle's configs, in the order of use."""

    folder: ClassVar[Path]
    data: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        """Make the volumes and change to an empty folder."""
        cls.folder = empty_folder(cls)
        cls.data = make_cohort(cls.folder / "data")

    def workflow(self, name: str, kind: str, **options: Any) -> ConfigWorkflow:
        """Return a workflow of the bundle, with all required properties."""
        workflow = ConfigWorkflow(
            config_file=str(BUNDLE / f"configs/{name}.json"),
            meta_file=str(BUNDLE / "configs/metadata.json"),
            logging_file=str(BUNDLE / "configs/logging.conf"),
            workflow_type=kind,
            bundle_root=str(BUNDLE),
            **self.data,
            **NETWORK,
            **options,
        )
        workflow.initialize()
        self.assertFalse(workflow.check_properties(), f"{name}: properties that MONAI expects are missing")
        return workflow

    def checkpoint(self) -> Path:
        """Return the path of weights after a single training step and validation; they load without unpickling."""
        folder = self.folder / "models"
        if not folder.exists():
            trainer = self.workflow(
                "train", "train", output_dir=str(self.folder / "train"), ckpt_dir=str(folder), **SHORT
            )
            trainer.run()
            self.assertEqual(trainer.trainer.state.iteration, 1)
            self.assertTrue(are_finite(trainer.evaluator.state.metrics))
            trainer.finalize()
            content = torch.load(folder / "model.pt", weights_only=True)
            self.assertTrue(all(tensor.isfinite().all() for tensor in content["network"].values()))
        return folder / "model.pt"

    def test_evaluate(self) -> None:
        """Scores of the test split."""
        if not (BUNDLE / "configs/evaluate.json").is_file():
            self.skipTest("nothing to evaluate")
        folder = self.folder / "evaluation"
        evaluator = self.workflow("evaluate", "infer", output_dir=str(folder), checkpoint=str(self.checkpoint()))
        evaluator.run()
        self.assertEqual(evaluator.evaluator.state.iteration, SUBJECTS["testing"])
        for file in ("metrics.csv", "evaluation.html"):
            self.assertTrue((folder / file).is_file(), file)
        evaluator.finalize()

    def test_inference(self) -> None:
        """Outputs for the test split."""
        folder = self.folder / "inference"
        options = {"split": "testing", "output_dir": str(folder), "checkpoint": str(self.checkpoint())}
        inferrer = self.workflow("inference", "infer", **options)
        inferrer.run()
        self.assertEqual(inferrer.evaluator.state.iteration, SUBJECTS["testing"])
        self.assertTrue([file for file in folder.rglob("*") if file.suffix in (".gz", ".npz")])
        inferrer.finalize()

    def test_federated(self) -> None:
        """A client's round: receive global weights, train on local data, send the difference."""
        folder = self.folder / "client"
        folders = {"output_dir": str(folder / "eval"), "ckpt_dir": str(folder / "models")}
        options = {**self.data, **NETWORK, **SHORT, **folders}
        client = MonaiAlgo(
            bundle_root=str(BUNDLE),
            config_train_filename="configs/train.json",
            config_evaluate_filename="configs/train.json",  # its validation gives the metrics that a server requests
            train_kwargs=dict(options),
            eval_kwargs=dict(options),
            save_dict_key="network",
        )
        client.initialize({ExtraItems.CLIENT_NAME: "hospital"})
        state = torch.load(self.checkpoint(), weights_only=True)["network"]
        client.train(ExchangeObject(weights=state))
        sent = client.get_weights()
        self.assertEqual(sent.weight_type, WeightType.WEIGHT_DIFF)
        self.assertEqual(sent.weights.keys(), state.keys())
        self.assertTrue(any(tensor.any() for tensor in sent.weights.values()), "nothing was learnt")
        metrics = client.evaluate(ExchangeObject(weights=state)).metrics
        self.assertTrue(metrics)
        self.assertTrue(are_finite(metrics))
        client.finalize()


def empty_folder(case: type[unittest.TestCase]) -> Path:
    """Change to an empty folder until the tests of a class have ended."""
    folder = Path(tempfile.mkdtemp())
    case.addClassCleanup(shutil.rmtree, folder)
    case.addClassCleanup(os.chdir, Path.cwd())
    os.chdir(folder)
    return folder


def inference_value(name: str) -> Any:
    """Return a value of the inference config; None if the config lacks it."""
    parser = ConfigParser()
    parser.read_config(str(INFERENCE))
    parser.get_parsed_content("imports")
    return parser.get_parsed_content(name) if name in parser else None


def make_cohort(folder: Path) -> dict[str, Any]:
    """Write a cohort of noisy balls with its datalist, and label maps if the bundle has a label convention.

    Return the config options that select the cohort.
    """
    data = import_module(f"{NAME}_common.data")
    convention, modalities = inference_value("label_convention"), inference_value("modalities")
    splits: dict[str, list[dict[str, Any]]] = {}
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    distance = np.linalg.norm(np.indices((EDGE,) * 3) - EDGE / 2, axis=0)
    for split, count in SUBJECTS.items():
        for number in range(count):
            subject = f"{split}{number}"
            entry: dict[str, Any] = {"subject": subject, "image": []}
            for modality in modalities:
                image = (distance < EDGE * 0.4) * random.normal(100, 10, distance.shape)
                entry["image"].append(_write(image.astype(np.float32), folder / f"{subject}_{modality.lower()}.nii.gz"))
            if convention:
                label = np.where(distance < random.uniform(10, 14), min(data.known_labels(convention) - {0}), 0)
                entry["label"] = _write(label.astype(np.uint8), folder / f"{subject}_label.nii.gz")
            splits.setdefault(split, []).append(entry)
    content = {"name": "made up", "modalities": modalities, "label_convention": convention, **splits}
    datalist = folder / "datalist.json"
    data.write(content, datalist)
    return {"dataset_dir": str(folder), "datalist": str(datalist)}


def _write(volume: np.ndarray, file: Path) -> str:
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), file)
    return file.name


if __name__ == "__main__":
    unittest.main()
