"""Segmentation of a whole case and of a window: ours, and with MONAI's parts alone."""

import atexit
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.benchmark.timing import PLAIN_MEMORY, ROOT, Measured, run_alone, run_process

__all__ = ["dice_of", "inference", "random_case", "segment", "train", "window", "window_pass"]

SIZE, EDGE, OVERLAP = "small", 96, 0.5
BUNDLE, CONVENTION = ROOT / "bundles/brats_finetune", "brats2021"
STEPS, TRAINED, TESTED = 60, 7, 4  # of a training that learns something; subjects of it, and others to segment


def inference() -> dict[str, dict[str, Callable[[], Measured]]]:
    """A BraTS case of 240 x 240 x 155 voxels by a network of size small, and Dice by a small one that is trained.

    The time of the first does not depend on its weights, which are random; a minute would not train it.
    """
    from scripts.phantoms.cohort import make

    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    place = Path(folder.name)
    make("brats", TESTED, str(place / "tested"), spacing=2.0, seed=1, skull_stripped=True, workers=1)
    trained = train(place / "training", STEPS)
    return {
        "inference": random_case(place / "random", SIZE, EDGE),
        "trained": _variants(trained, place / "tested", place / "segmented", is_scored=True),
    }


def random_case(place: Path, size: str, edge: int, device: str = "cpu") -> dict[str, Callable[[], Measured]]:
    """A BraTS case of 240 x 240 x 155 voxels, by a network with random weights.

    Args:
        place: folder for the case, the network and what it writes.
        size: of the network.
        edge: of the windows, in voxels.
        device: of the network; on a GPU, stock runs in bfloat16 autocast.
    """
    from scripts.phantoms.cohort import make

    make("brats", 1, str(place / "scans"), spacing=1.0, workers=1)
    return _variants(_write_checkpoint(place / "model.pt", size, edge), place / "scans", place / "segmented", device)


def _variants(
    checkpoint: Path, scans: Path, output: Path, device: str = "cpu", is_scored: bool = False
) -> dict[str, Callable[[], Measured]]:
    ours = [
        *("-m", "monai.bundle", "run", "--config_file=configs/inference.yaml", f"--dataset_dir={scans}"),
        *(f"--checkpoint={checkpoint}", "--existing=replace", "--num_workers=0", f"--device={device}"),
    ]

    def variant(words: list[str], name: str) -> Callable[[], Measured]:
        return lambda: run_process([*words, f"--output_dir={output / name}"], BUNDLE)

    def stock(name: str, *options: str) -> Callable[[], Measured]:
        words = [device, str(checkpoint), str(scans), str(output / name), *options]
        return lambda: run_process(["-m", "scripts.benchmark.whole_case", *words], ROOT, PLAIN_MEMORY)

    runs = {
        "ours": (variant(ours, "ours"), "ours"),
        "ours, bfloat16": (variant([*ours, "--amp=bf16"], "half"), "half"),
        "stock": (stock("stock"), "stock"),
    }
    if not is_scored:
        return {name: run for name, (run, _) in runs.items()}
    runs["stock, cropped to the brain"] = stock("cropped", "box"), "cropped"
    return {name: partial(_scored, run, output / folder, scans) for name, (run, folder) in runs.items()}


def _scored(run: Callable[[], Measured], output: Path, scans: Path) -> Measured:
    measured = run()
    return measured._replace(dice=dice_of(output, scans))


def train(folder: Path, steps: int) -> Path:
    """A checkpoint of the quick start's network, trained on the embedded cohort at 2 mm.

    Args:
        folder: for the cohort and the training.
        steps: of the optimiser; in 60, which take a minute and a half of one core, it learns all three regions.
    """
    from scripts.phantoms.cohort import make

    make("brats", TRAINED, str(folder / "scans"), spacing=2.0, skull_stripped=True, workers=1)
    datalist = folder / "datalist.json"
    splits = ["--validation=1", "--testing=0"]
    run_process(["-m", "scripts.datalists", "brats", f"--root={folder / 'scans'}", f"--output={datalist}", *splits])
    training = ["-m", "monai.bundle", "run", "--config_file=['configs/train.yaml','configs/quickstart.yaml']"]
    data = [f"--dataset_dir={folder / 'scans'}", f"--datalist={datalist}", f"--output_dir={folder / 'out'}"]
    length = [f"--iterations={steps}", f"--val_interval={steps}", f"--warmup_iterations={steps // 6}"]
    run_process([*training, *data, f"--ckpt_dir={folder / 'models'}", *length], BUNDLE)
    return folder / "models/model.pt"


def dice_of(predictions: Path, scans: Path) -> dict[str, float]:
    """Mean Dice of each region over the cases of a folder; 1 for a region that is empty in both label maps.

    Args:
        predictions: folder with a label map of each case (ours), or its regions as channels (stock).
        scans: folder of the cases with their reference labels.
    """
    import nibabel
    import numpy as np

    from common.data.regions import painting_order, regions_of
    from common.metrics import dice

    def voxels(file: Path) -> Any:
        return np.asarray(nibabel.nifti1.load(file).dataobj)

    regions = regions_of(CONVENTION)
    scores: dict[str, list[float]] = {region: [] for region in regions}
    for reference in sorted(scans.rglob("*_seg.nii.gz")):
        labels = voxels(reference)
        (file,) = predictions.glob(f"{reference.name.removesuffix('_seg.nii.gz')}*.nii.gz")
        found = voxels(file)
        if found.ndim == 4:  # into a label map, as challenges take them: TC outside WT counts as both
            channels, found = found, np.zeros(found.shape[:3], np.uint8)
            for channel, value in painting_order(CONVENTION):
                found[channels[..., channel] > 0] = value
        for region, values in regions.items():
            expected, mask = (np.isin(each, list(values)) for each in (labels, found))
            scores[region].append(dice(mask, expected))
    return {region: statistics.fmean(values) for region, values in scores.items()}


def _write_checkpoint(file: Path, size: str, edge: int) -> Path:
    from common.weights import write

    network = _network(size)
    metadata: dict[str, Any] = {"bundle": "brats_finetune", "network": "SwinUNETR", "model_size": size}
    metadata |= {"modalities": ["FLAIR", "T1ce", "T1", "T2"], "patch_size": [edge] * 3, "label_convention": CONVENTION}
    write({"network": network.state_dict(), "metadata": metadata}, file)
    return file


def _network(size: str) -> Any:
    import torch
    from monai.networks.nets import SwinUNETR

    from common.ssl.networks import settings

    torch.manual_seed(0)
    return SwinUNETR(4, 3, **settings(size)._asdict()).eval()


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


def window_pass(
    attention: str, dtype: str, device: str = "cpu", size: str = SIZE, edge: str = str(EDGE)
) -> Callable[[], Any]:
    """The network on one window, as inference runs it; attention `stored` in float32 is MONAI's network as it comes."""
    import torch

    from common.inference.windows import WindowInferer
    from common.ssl import set_attention

    edges = [int(edge)] * 3
    image = torch.randn(1, 4, *edges, device=device)
    network = set_attention(_network(size), attention).to(device)
    run = WindowInferer(roi_size=edges, dtype=getattr(torch, dtype))
    return torch.no_grad()(lambda: run(image, network))


def segment(device: str, checkpoint: str, source: str, output: str, extent: str = "whole") -> None:
    """Segment cases with MONAI's network, transforms and windows, as its tutorials do.

    Args:
        device: of the network; on a GPU it runs in bfloat16 autocast.
        checkpoint: with the network's weights and size.
        source: folder of BraTS cases.
        output: folder of a file for each case, whose channels are the regions.
        extent: what windows cover: the `whole` volume, or the `box` of the brain.
    """
    import torch
    from monai.data import DataLoader, Dataset, decollate_batch
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        CropForegroundd,
        EnsureChannelFirstd,
        Invertd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        SaveImaged,
    )

    names = ("flair", "t1ce", "t1", "t2")
    first = sorted(str(file) for file in Path(source).rglob("*_flair.nii.gz"))
    cases = [{"image": [file.replace("_flair.nii.gz", f"_{name}.nii.gz") for name in names]} for file in first]
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            *([CropForegroundd("image", source_key="image", allow_smaller=True)] if extent == "box" else []),
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
    saved = torch.load(checkpoint, weights_only=True)
    network = _network(saved["metadata"]["model_size"])
    network.load_state_dict(saved["network"])
    network.to(device)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu")
    for batch in DataLoader(Dataset(cases, before), batch_size=1):
        with torch.no_grad(), autocast:
            windows = {
                "roi_size": saved["metadata"]["patch_size"],
                "sw_batch_size": 2,
                "overlap": OVERLAP,
                "mode": "gaussian",
            }
            logits = sliding_window_inference(batch["image"].to(device), predictor=network, **windows)
            batch["pred"] = logits.float().cpu()
        for case in decollate_batch(batch):
            after(case)


if __name__ == "__main__":
    segment(*sys.argv[1:])
