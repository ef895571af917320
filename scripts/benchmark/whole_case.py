"""Segmentation of a whole case and of a window: ours, and with MONAI's parts alone."""

import atexit
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, ROOT, Measured, run_alone, run_process

__all__ = ["inference", "segment", "window", "window_pass"]

SIZE, EDGE, OVERLAP = "small", 96, 0.5


def inference() -> dict[str, dict[str, Callable[[], Measured]]]:
    """A BraTS case of 240 x 240 x 155 voxels by a network of size small with random weights."""
    from scripts.phantoms.cohort import make

    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    place = Path(folder.name)
    make("brats", 1, folder.name, spacing=1.0, workers=1)
    checkpoint = _write_checkpoint(place / "model.pt")
    bundle = ROOT / "bundles/brats_finetune"
    ours = [
        *("-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", f"--dataset_dir={place}"),
        *(f"--checkpoint={checkpoint}", "--split=training", "--existing=replace", "--num_workers=0"),
    ]
    stock = ["-m", "scripts.benchmark.whole_case", str(checkpoint), str(place), str(place / "stock")]
    return {
        "inference": {
            "ours": lambda: run_process([*ours, f"--output_dir={place / 'ours'}"], bundle),
            "ours, bfloat16": lambda: run_process([*ours, "--amp=bf16", f"--output_dir={place / 'half'}"], bundle),
            "stock": lambda: run_process(stock, ROOT, PLAIN_MEMORY),
        }
    }


def _write_checkpoint(file: Path) -> Path:
    from common.weights import write

    network = _network()
    metadata: dict[str, Any] = {"bundle": "brats_finetune", "network": "SwinUNETR", "model_size": SIZE}
    metadata |= {"modalities": ["FLAIR", "T1ce", "T1", "T2"], "patch_size": [EDGE] * 3, "label_convention": "brats2021"}
    write({"network": network.state_dict(), "metadata": metadata}, file)
    return file


def _network() -> Any:
    import torch
    from monai.networks.nets import SwinUNETR

    from common.ssl.networks import settings

    torch.manual_seed(0)
    return SwinUNETR(4, 3, **settings(SIZE)._asdict()).eval()


def window() -> dict[str, dict[str, Callable[[], Measured]]]:
    """A window of a case, in the network alone."""
    function = "scripts.benchmark.whole_case:window_pass"
    return {
        "window": {
            "ours": lambda: run_alone(function, "fused", "float32", threads=0),
            "ours, bfloat16": lambda: run_alone(function, "fused", "bfloat16", threads=0),
            "stock, memory as ours": lambda: run_alone(function, "stored", "float32", threads=0),
            "stock": lambda: run_alone(function, "stored", "float32", threads=0, environment=PLAIN_MEMORY),
        }
    }


def window_pass(attention: str, dtype: str, device: str = "cpu") -> Callable[[], Any]:
    """The network on one window, as inference runs it; attention `stored` in float32 is MONAI's network as it comes."""
    import torch

    from common.inference.windows import WindowInferer
    from common.ssl import set_attention

    image = torch.randn(1, 4, EDGE, EDGE, EDGE, device=device)
    network = set_attention(_network(), attention).to(device)
    run = WindowInferer(roi_size=[EDGE] * 3, dtype=getattr(torch, dtype))
    return torch.no_grad()(lambda: run(image, network))


def segment(checkpoint: str, source: str, output: str) -> None:
    """Segment a case with MONAI's network, transforms and windows, as its tutorials do.

    Args:
        checkpoint: with the network's weights.
        source: folder of one BraTS case.
        output: folder of the label map.
    """
    import torch
    from monai.data import DataLoader, Dataset, decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        SaveImaged,
    )

    names = ("flair", "t1ce", "t1", "t2")
    files = [str(next(Path(source).rglob(f"*_{name}.nii.gz"))) for name in names]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", sigmoid=True),
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", threshold=0.5),
            SaveImaged("pred", output_dir=output, print_log=False, separate_folder=False),
        ]
    )
    network = _network()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    for batch in DataLoader(Dataset([{"image": files}], before), batch_size=1):
        with torch.no_grad():
            windows = {"roi_size": [EDGE] * 3, "sw_batch_size": 2, "overlap": OVERLAP, "mode": "gaussian"}
            batch["pred"] = sliding_window_inference(batch["image"], predictor=network, **windows)
        for case in decollate_batch(batch):
            after(case)


if __name__ == "__main__":
    segment(*sys.argv[1:])
