"""Run every workflow of this bundle on synthetic volumes, as MONAI's `ConfigWorkflow` and as a federated client.

Each package contains this file as `tests/test_BUNDLE.py`; run it there by `python -m unittest tests/test_BUNDLE.py`. In
the Model Zoo it goes to `ci/unit_tests`, and finds the bundle in `models/BUNDLE`.
"""

# ruff: noqa: PT009 (the Model Zoo runs unittest)

import os
import shutil
import sys
import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

NAME = Path(__file__).stem.removeprefix("test_")
BESIDE = Path(__file__).resolve().parents[1]  # the package that contains this file
PLACES = (Path(os.environ.get("BUNDLE_ROOT", BESIDE)), BESIDE.parent / "models" / NAME)
BUNDLE = next((place for place in PLACES if (place / "configs/metadata.json").is_file()), PLACES[0])
sys.path.insert(0, str(BUNDLE))  # for the bundle's own code, `common`

EDGE = 64  # voxels; the smallest input of the networks
NETWORK = {"model_size": "micro", "patch_size": [EDGE] * 3, "num_workers": 0, "amp": False, "device": "cpu"}
SHORT = {
    "batch_size": 2,
    "global_batch_size": None,
    "warmup_iterations": 0,  # because the first step of a warm-up changes nothing
    "iterations": 1,
    "val_interval": 1,
}
SUBJECTS = {"training": 2, "validation": 2, "testing": 1}


def are_finite(metrics: Mapping[str, float]) -> bool:
    """Whether metrics are finite, but for a mean over the cases with a region that none has."""
    return all(np.isfinite(value) for name, value in metrics.items() if not name.endswith("_present"))


class TestBundle(unittest.TestCase):
    """The bundle's configs, in the order of their use."""

    folder: ClassVar[Path]
    data: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        """Make the volumes, and start in an empty folder."""
        cls.folder = Path(tempfile.mkdtemp())
        cls.data = make_cohort(cls.folder / "data")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.addClassCleanup(os.chdir, Path.cwd())
        (cls.folder / "empty").mkdir()
        os.chdir(cls.folder / "empty")

    def workflow(self, name: str, kind: str, **options: Any) -> ConfigWorkflow:
        """A workflow of the bundle that has every required property."""
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
        """Weights of one step of training."""
        folder = self.folder / "models"
        if not folder.exists():
            trainer = self.workflow(
                "train", "train", output_dir=str(self.folder / "train"), ckpt_dir=str(folder), **SHORT
            )
            trainer.run()
            self.assertEqual(trainer.trainer.state.iteration, 1)
            self.assertTrue(are_finite(trainer.evaluator.state.metrics))
            trainer.finalize()
        return folder / "model.pt"

    def test_train(self) -> None:
        """One step and one validation; the weights can be read without unpickling."""
        content = torch.load(self.checkpoint(), weights_only=True)
        self.assertTrue(all(tensor.isfinite().all() for tensor in content["network"].values()))

    def test_evaluate(self) -> None:
        """Scores of the test split."""
        if not (BUNDLE / "configs/evaluate.json").is_file():
            self.skipTest("nothing to evaluate")
        place = self.folder / "evaluation"
        evaluator = self.workflow("evaluate", "infer", output_dir=str(place), checkpoint=str(self.checkpoint()))
        evaluator.run()
        self.assertEqual(evaluator.evaluator.state.iteration, SUBJECTS["testing"])
        for file in ("metrics.csv", "evaluation.html"):
            self.assertTrue((place / file).is_file(), file)
        evaluator.finalize()

    def test_inference(self) -> None:
        """Outputs for the test split."""
        if not (BUNDLE / "configs/inference.json").is_file():
            self.skipTest("no inference")
        place = self.folder / "inference"
        options = {"split": "testing", "output_dir": str(place), "checkpoint": str(self.checkpoint())}
        inferrer = self.workflow("inference", "infer", **options)
        inferrer.run()
        self.assertEqual(inferrer.evaluator.state.iteration, SUBJECTS["testing"])
        self.assertTrue([file for file in place.rglob("*") if file.suffix in (".gz", ".npz")])
        inferrer.finalize()

    def test_federated(self) -> None:
        """A client's round: receive global weights, train on local data, send the difference."""
        place = self.folder / "client"
        places = {"output_dir": str(place / "eval"), "ckpt_dir": str(place / "models")}
        options = {"bundle_root": str(BUNDLE), **self.data, **NETWORK, **SHORT, **places}
        client = MonaiAlgo(
            bundle_root=str(BUNDLE),
            config_train_filename="configs/train.json",
            config_evaluate_filename="configs/train.json",  # its validation gives the metrics that a server asks for
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


def make_cohort(folder: Path) -> dict[str, Any]:
    """Write noisy balls, with a lesion if the bundle is trained with labels; returns options of the configs."""
    from common.data import known_labels, write  # here, as it is found once the bundle is on the path

    settings = ConfigParser()
    settings.read_config(BUNDLE / "configs/inference.json")
    settings["bundle_root"] = str(BUNDLE)
    settings.get_parsed_content("imports")
    convention = settings.get_parsed_content("label_convention") if "label_convention" in settings else None
    modalities = settings.get_parsed_content("modalities")
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
                label = np.where(distance < 12, min(known_labels(convention) - {0}), 0)
                entry["label"] = _write(label.astype(np.uint8), folder / f"{subject}_label.nii.gz")
            splits.setdefault(split, []).append(entry)
    content = {"name": "made up", "modalities": modalities, "label_convention": convention, **splits}
    datalist = folder / "datalist.json"
    write(content, datalist)
    return {"dataset_dir": str(folder), "datalist": str(datalist)}


def _write(volume: np.ndarray, file: Path) -> str:
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), file)
    return file.name


if __name__ == "__main__":
    unittest.main()
