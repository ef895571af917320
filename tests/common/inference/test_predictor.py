"""`common.inference.predictor`: a case that fails does not stop the others."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, list_data_collate
from torch import nn

from common.data.datasets import CaseDataset
from common.errors import InputError
from common.inference.predictor import Predictor


class Picky(nn.Module):
    def forward(self, image):
        if image.max() == 13:
            raise ValueError("thirteen\nand more")
        return image


def read(case):
    if case["value"] == 0:
        raise InputError("zero is no image")
    return {**case, "image": torch.full((1, 2, 2, 2), float(case["value"]))}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_case_that_fails_is_named_and_the_others_go_on(tmp_path, capsys, workers):
    values = [5, 0, 7, 13, 9]
    files = [str(tmp_path / "in.nii.gz")]
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4)), files[0])
    dataset = CaseDataset([{"subject": f"P{value}", "image": files, "value": value} for value in values], read)
    seen = []

    def keep(item):
        if item["subject"] == "P9":
            raise InputError("cannot be written")
        seen.append(item["subject"])
        return item

    predictor = Predictor(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=list_data_collate),
        network=Picky(),
        postprocessing=keep,
        val_handlers=[],
    )
    with pytest.raises(SystemExit) as ended:
        predictor.run()
    assert (seen, ended.value.code) == (["P5", "P7"], 1)
    assert [line for line in capsys.readouterr().err.splitlines() if line] == [
        "failed: subject P0: zero is no image",
        "failed: subject P13: ValueError: thirteen",
        "failed: subject P9: cannot be written",
        "3 of 5 cases failed",
    ]
