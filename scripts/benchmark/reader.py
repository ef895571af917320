"""Reading of training crops: from a store, and from `.nii.gz` with the bundle's transforms or MONAI's."""

import atexit
from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from common.data.cohorts import COHORTS
from common.files import read_json, write_json
from scripts.benchmark.timing import ROOT, Works, measure

CROPS_OF_A_BATCH = 4  # of each timed batch
STAGE_1 = ROOT / "bundles/ukb_ssl_pretrain/configs/train.yaml"
VARIANTS = {  # and kind of reading
    "from a store (ours)": "store",
    "MONAI's transforms": "stock",
    "from .nii.gz": "files",
}


def reader() -> Works:
    """Batches of stage 1 from disk, on a single thread."""
    from scripts.phantoms.cohort import make
    from scripts.phantoms.layouts import files_of

    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    make("ukb", 2, folder.name, spacing=1.0, workers=1)
    cohort = COHORTS["ukb"]
    entries = [
        {
            "subject": cohort.phantom(number)["person"],
            "image": [f"{folder.name}/{file}" for file in files_of(cohort, number)[0].values()],
        }
        for number in range(2)
    ]
    write_json(f"{folder.name}/entries.json", entries)
    function = "scripts.benchmark.reader:batch"
    return {
        "reader": {name: partial(measure, function, folder.name, kind, threads=1) for name, kind in VARIANTS.items()}
    }


def batch(folder: str, kind: str) -> Callable[[], Any]:
    """A function that reads the next batch of the entries in `folder`/entries.json.

    `kind` is `store`, `files`, or `stock` for MONAI's transforms and loader alone.
    """
    entries = read_json(f"{folder}/entries.json")
    if kind == "stock":
        return partial(next, _stock_batches(entries))
    return partial(next, _our_batches(entries, f"{folder}/store" if kind == "store" else None))


def _our_batches(entries: list[dict[str, Any]], store: str | None) -> Iterator[dict[str, Any]]:
    """Endless training batches of four crops, each of another volume, with stage 1's transforms."""
    from monai.bundle import ConfigParser
    from monai.data import DataLoader
    from monai.transforms import Compose

    from common.data.datasets import CaseDataset, CaseSampler
    from common.data.store import Store

    config = ConfigParser()
    config.read_config(str(STAGE_1))
    config.update({"crops_per_volume": 1, "batch_size": CROPS_OF_A_BATCH})
    names = ("deterministic_transforms", "train::random_transforms")
    composed = Compose([transform for name in names for transform in config.get_parsed_content(name)])
    if store is not None:
        filled = Store(store, composed)
        for entry in filled.missing(entries):
            filled.add(entry)
    dataset = CaseDataset(entries, composed, store=store)
    return iter(DataLoader(dataset, sampler=CaseSampler(entries), batch_size=CROPS_OF_A_BATCH))


def _stock_batches(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Endless training batches of four crops, one from each volume read; takes 1, 2 or a multiple of 4 volumes."""
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
    repeated = entries * max(1, CROPS_OF_A_BATCH // len(entries))
    loader = DataLoader(Dataset(repeated, composed), batch_size=CROPS_OF_A_BATCH, shuffle=True)
    while True:
        yield from loader
