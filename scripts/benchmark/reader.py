"""Benchmark of reading crops: from a store of preprocessed volumes, or from `.nii.gz` by the bundle's or stock code."""

import atexit
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import ROOT
from common.data.cohorts import COHORTS
from common.files import read_json, write_json
from scripts.benchmark.timing import Works, measure

BATCH_SIZE = 4  # crops
EDGE = 96  # voxels; stage 1's patch_size
VARIANTS = {  # title -> kind of reading
    "from a store (ours)": "store",
    "MONAI's transforms": "stock",
    "from .nii.gz": "files",
}


def reader() -> Works:
    """Return the variants that read pretraining batches from disk, on a single thread."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    entries_of(folder.name)
    function = "scripts.benchmark.reader:batch"
    return {
        "reader": {name: partial(measure, function, folder.name, kind, threads=1) for name, kind in VARIANTS.items()}
    }


def entries_of(folder: str, spacing: float = 1.0) -> list[dict[str, Any]]:
    """Return datalist entries of two phantom subjects in `folder`; make the phantoms if they are missing."""
    from scripts.phantoms.cohort import make
    from scripts.phantoms.layouts import files_of

    if not Path(folder, "entries.json").exists():
        make("ukb", 2, folder, spacing=spacing, workers=1)
        cohort = COHORTS["ukb"]
        entries = [
            {
                "subject": cohort.phantom(number)["person"],
                "image": [f"{folder}/{file}" for file in files_of(cohort, number)[0].values()],
            }
            for number in range(2)
        ]
        write_json(f"{folder}/entries.json", entries)
    return read_json(f"{folder}/entries.json")


def batch(folder: str, kind: str) -> Callable[[], Any]:
    """Return a function that reads the next batch of crops of the subjects listed in `folder`/entries.json.

    `kind` is `store`, `files`, or `stock` for MONAI's transforms and loader alone.
    """
    entries = entries_of(folder)
    if kind == "stock":
        return partial(next, _stock_batches(entries))
    return partial(next, iter(loader(entries, f"{folder}/store" if kind == "store" else None)))


def loader(
    entries: list[dict[str, Any]], store: str | None, crops: int = BATCH_SIZE, workers: int = 0, edge: int = EDGE
) -> Any:
    """Return an endless loader of pretraining batches; each time a volume is read, it gives a single crop.

    `store` is the folder of a store, which is filled if necessary; None reads the volumes from the files.
    """
    from monai.bundle import ConfigParser
    from monai.data import DataLoader
    from monai.transforms import Compose

    from common.data.datasets import CaseDataset, CaseSampler
    from common.data.store import Store

    config = ConfigParser()
    config.read_config(str(ROOT / "bundles/ukb_ssl_pretrain/configs/train.yaml"))
    config.update({"crops_per_volume": 1, "batch_size": crops, "patch_size": [edge] * 3})
    names = ("deterministic_transforms", "train::random_transforms")
    composed = Compose([transform for name in names for transform in config.get_parsed_content(name)])
    if store is not None:
        filled = Store(store, composed)
        for entry in filled.missing(entries):
            filled.add(entry)
    dataset = CaseDataset(entries, composed, store=store)
    return DataLoader(dataset, sampler=CaseSampler(entries), batch_size=crops, num_workers=workers)


def _stock_batches(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield batches of four crops without end, one crop per read; needs 1, 2 or a multiple of 4 volumes."""
    from monai.data import DataLoader, Dataset
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

    edges = [EDGE] * 3
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
    repeated = entries * max(1, BATCH_SIZE // len(entries))
    loader = DataLoader(Dataset(repeated, composed), batch_size=BATCH_SIZE, shuffle=True)
    while True:
        yield from loader
