"""Reading of training crops: from a store, from `.nii.gz`, and sampled from a volume."""

import atexit
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import Any

from scripts.benchmark.timing import ROOT, timed
from scripts.configs import read

__all__ = ["CROPS", "crops", "make_entries", "reader", "reading_batches", "stock_batches"]

CROPS = 4  # of a batch whose reading is timed


def reader() -> dict[str, dict[str, Callable[[], float]]]:
    """Batches of stage 1 from disk: from a store, by MONAI's transforms, and with several crops of a volume."""
    import torch

    torch.set_num_threads(1)
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    entries = make_entries(folder.name)

    def variant(batches: Iterator[dict[str, Any]]) -> Callable[[], float]:
        next(batches)  # a store verifies a file when it is read for the first time
        return lambda: timed(lambda: next(batches))

    variants = {
        "4 volumes, 1 crop of each, from a store (ours)": variant(reading_batches(entries, 1, f"{folder.name}/store")),
        "4 volumes, 1 crop of each, MONAI's transforms": variant(stock_batches(entries)),
        "4 volumes, 1 crop of each": variant(reading_batches(entries, 1)),
        "2 volumes, 2 of each": variant(reading_batches(entries, 2)),
        "1 volume, 4 of it": variant(reading_batches(entries, 4)),
    }
    return {"reader": variants}


def make_entries(folder: str, subjects: int = 2, spacing: float = 1.0) -> list[dict[str, Any]]:
    """Entries of subjects of UK Biobank's layout, which are made in a folder; spacing in mm."""
    from scripts.phantoms.cohort import make
    from scripts.phantoms.layouts import LAYOUTS

    make("ukb", subjects, folder, spacing=spacing, workers=1)
    cases = [LAYOUTS["ukb"].case(number) for number in range(subjects)]
    return [
        {"subject": case.subject, "image": [f"{folder}/{case.images[name]}" for name in ("T1", "FLAIR")]}
        for case in cases
    ]


def reading_batches(
    entries: list[dict[str, Any]], crops_per_volume: int, store: str | None = None, processes: int = 0
) -> Iterator[dict[str, Any]]:
    """Endless training batches of four crops, by stage 1's transforms.

    Args:
        entries: as `Datalist.load` returns them.
        crops_per_volume: number of crops from each volume that is read.
        store: folder for a store of the volumes, which gets those that it lacks; None to read the scans' own files.
        processes: that read; 0 for this one.
    """
    from monai.data import DataLoader
    from monai.transforms import Compose

    from common.data.datasets import CaseDataset, CaseSampler
    from common.data.store import Store

    options = {"crops_per_volume": crops_per_volume, "batch_size": CROPS}
    config = read([ROOT / "bundles/ukb_ssl_pretrain/configs/train.yaml"], options)
    names = ("deterministic_transforms", "train::random_transforms")
    transforms = [transform for name in names for transform in config.get_parsed_content(name)]
    composed = Compose(transforms)
    if store is not None:
        filled = Store(store, composed)
        for entry in filled.missing(entries):
            filled.add(entry)
    dataset = CaseDataset(entries, composed, store=store)
    settings = {"batch_size": CROPS // crops_per_volume, "num_workers": processes}
    return iter(DataLoader(dataset, sampler=CaseSampler(entries), **settings))


def stock_batches(entries: list[dict[str, Any]], is_cached: bool = False) -> Iterator[dict[str, Any]]:
    """Endless training batches of four crops, each from a volume, by MONAI's transforms and loader alone.

    Args:
        entries: as `Datalist.load` returns them; one, two, or a multiple of four.
        is_cached: whether all volumes are kept in memory, by MONAI's `CacheDataset`.
    """
    from monai.data import CacheDataset, DataLoader, Dataset
    from monai.transforms import (
        Compose,
        CropForegroundd,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        RandSpatialCropd,
        SpatialPadd,
    )

    edges = [96] * 3  # voxels; stage 1's patch_size
    composed = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            CropForegroundd("image", source_key="image", allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            SpatialPadd("image", edges),
            RandSpatialCropd("image", edges, random_size=False),
        ]
    )
    repeated = entries * max(1, CROPS // len(entries))
    dataset = CacheDataset(repeated, composed, progress=False) if is_cached else Dataset(repeated, composed)
    loader = DataLoader(dataset, batch_size=CROPS, shuffle=True)
    while True:
        yield from loader


def crops() -> dict[str, dict[str, Callable[[], float]]]:
    """Crops of the fine-tuning on ATLAS, half of them turned."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Compose

    torch.set_num_threads(1)
    config = read([ROOT / "bundles/atlas_finetune/configs/train.yaml"], {"deterministic_transforms": []})
    ours = config.get_parsed_content("train::preprocessing")
    plain = Compose(ours.transforms)  # without `lazy`: one transform after the other
    draw = torch.Generator().manual_seed(0)
    image = MetaTensor(torch.randn(1, 197, 233, 189, generator=draw))
    case = {"image": image, "label": MetaTensor((image > 3).float())}

    def run(transforms: Any) -> float:
        transforms.set_random_state(seed=0)
        return timed(lambda: [transforms(case) for _ in range(20)]) / 20

    return {"crops": {"sampled from the volume (ours)": lambda: run(ours), "cut out, then turned": lambda: run(plain)}}
