"""Segment scans from Python, with the same results as a bundle's own inference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from common.data.datasets import CaseDataset
from common.errors import choice
from common.inference import check_missing
from scripts.configs import read_config


class Segmenter:
    """A bundle's trained network, called with the images of one subject at a time.

    Preprocessing, sliding windows and postprocessing come from the bundle's `inference.yaml`, so the label maps equal
    those of the bundle's own inference. Scans must be prepared like the training scans; `python -m scripts.segment`
    prepares raw scans.

    `bundle_root` is the folder of a bundle that segments, `checkpoint` by default its models/model.pt; `options` are
    others of `inference.yaml`, such as device="cuda". `modalities` are the images that a call takes.

    Example:
        >>> segment = Segmenter("bundles/brats_finetune", "model.pt")  # doctest: +SKIP
        >>> label = segment({name: f"P1_{name}.nii.gz" for name in segment.modalities})  # doctest: +SKIP
    """

    def __init__(self, bundle_root: str | Path, checkpoint: str | Path | None = None, **options: Any) -> None:
        root = Path(bundle_root)
        self.checkpoint = str(Path(checkpoint or root / "models" / "model.pt").expanduser())
        values = {"bundle_root": str(root), "checkpoint": self.checkpoint}
        parser = read_config([root / "configs" / "inference.yaml"], values | options)
        parser.get_parsed_content("imports")
        settings = parser.get_parsed_content("options")
        self.modalities: list[str] = list(settings.modalities)
        self.convention: str = settings.label_convention
        self._device = torch.device(settings.device)
        self._preprocess = parser.get_parsed_content("preprocessing")
        self._postprocess = parser.get_parsed_content("postprocessing")
        self._infer = parser.get_parsed_content("inferer")
        self._network = parser.get_parsed_content("network").to(self._device).eval()

    @torch.no_grad()
    def __call__(self, images: Mapping[str, str | Path]) -> MetaTensor:
        """Return the label map [H, W, D] of a subject, uint8, on the grid of the first image, with its `affine`.

        `images` maps modalities to files; those that the network works without may be left out (`check_missing`).
        Raise `InputError` if a file cannot be read or a scan is prepared differently from the training scans.
        """
        for name in images:
            choice("images", name, dict.fromkeys(self.modalities))
        files = [str(images[name]) if name in images else None for name in self.modalities]
        name = next((Path(file).name for file in files if file), "without images")
        cases = check_missing([{"subject": name, "image": files}], self.modalities, self.checkpoint)
        (data,) = CaseDataset(cases, self._preprocess)
        del data["subject"]  # so that nothing is written
        data["pred"] = self._infer(data["image"][None].to(self._device), self._network)[0]
        label: MetaTensor = self._postprocess(data)["pred"][0]
        return label.to(torch.uint8)
