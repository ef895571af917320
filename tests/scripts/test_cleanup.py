"""Choose a cleanup on hand-made label maps; their Dice is known in closed form."""

import numpy as np
import pytest
import torch

from common import weights
from common.data.regions import LARGEST
from common.files import digest, write_json
from scripts.cleanup import choose, choose_cleanup
from scripts.evaluate.__main__ import evaluate
from scripts.evaluate.__main__ import pool as pool_evaluations
from tests.scripts.evaluate.evaluations import save
from tests.support import refused

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])  # voxels of 8 mm3


def boxes(*boxes):
    """Return a label map of cubes, each given as (value, first voxel, edge)."""
    label = np.zeros((20, 20, 20), np.uint8)
    for value, corner, edge in boxes:
        label[tuple(slice(start, start + edge) for start in corner)] = value
    return label


LESION = (2, (2, 2, 2), 6)  # 216 voxels
SPECK = (2, (18, 18, 18), 1)


def checkpoint(file, **metadata):
    file.parent.mkdir(parents=True, exist_ok=True)
    weights.write({"network": {"a.weight": torch.arange(3.0)}, "metadata": {"model_size": "micro"} | metadata}, file)
    return file


def evaluated(folder, pairs, *files, split=None, **settings):
    """Evaluate pairs of prediction and reference, with `files` as the weights; return the folder."""
    for number, (prediction, reference) in enumerate(pairs):
        save(folder / f"p/{folder.name}{number}.nii.gz", prediction, AFFINE)
        save(folder / f"r/{folder.name}{number}.nii.gz", reference, AFFINE)
    made = {"checkpoints": {str(file): digest(file) for file in files}, "split": split, "settings": settings}
    write_json(folder / "p/made.json", made)
    places = {"predictions": str(folder / "p"), "references": str(folder / "r"), "output": str(folder)}
    evaluate(**places, protocol="brats", workers=1)
    return str(folder)


def test_what_helps_is_stored_and_everything_else_of_the_checkpoint_stays(tmp_path, capsys):
    file = checkpoint(tmp_path / "models/model.pt", reached={"dice": 0.5})
    folder = evaluated(tmp_path / "e", [(boxes(LESION, SPECK), boxes(LESION))], file)
    before = weights.load(file)
    choose_cleanup(folder, str(file))
    after = weights.load(file)
    assert after["metadata"] == {**before["metadata"], "cleanup": "WT=10mm3"}
    torch.testing.assert_close(after["network"], before["network"], rtol=0, atol=0)
    lines = capsys.readouterr().out.splitlines()
    assert f"WT: mean Dice {2 * 216 / (217 + 216):.4f} -> 1.0000 (cases: 1)" in lines
    assert "ET: mean Dice 1.0000 -> 1.0000 (cases: 1)" in lines
    assert weights.settings_of(file) == {"model_size": "micro", "cleanup": "WT=10mm3"}
    with refused("checkpoint", str(file), f"expected {file}, unchanged"):
        choose_cleanup(folder, str(file))  # the weights' file has changed


def test_the_largest_component_alone_is_chosen_where_false_ones_are_large():
    case = boxes(LESION, (2, (12, 12, 12), 5)), boxes(LESION), 8.0  # 125 voxels, 1000 mm3
    cleanup, before, after = choose([case], "brats2021")
    assert cleanup == {"WT": LARGEST}
    assert before == {"TC": 1, "WT": pytest.approx(2 * 216 / (216 + 125 + 216)), "ET": 1}
    assert after == {"TC": 1, "WT": 1, "ET": 1}


def test_folds_of_a_pool_get_the_same_choice(tmp_path):
    files = [checkpoint(tmp_path / f"{name}/model.pt", fold=name) for name in "ab"]
    pairs = [(boxes(LESION, SPECK), boxes(LESION))]
    folders = [evaluated(tmp_path / f"e{file.parent.name}", pairs, file) for file in files]
    pool_evaluations(*folders, output=str(tmp_path / "pool"))
    with refused("checkpoint", str(files[0]), f"{files[1]}, unchanged"):
        choose_cleanup(str(tmp_path / "pool"), str(files[0]))
    choose_cleanup(str(tmp_path / "pool"), str([*map(str, files)]))
    assert [weights.load(file)["metadata"]["cleanup"] for file in files] == ["WT=10mm3"] * 2
