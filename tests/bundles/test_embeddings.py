"""inference.yaml of a self-supervised bundle: a feature vector for each volume."""

import json
import shutil

import numpy as np
import pytest

from tests.bundles.workflows import untrained, workflow
from tests.support import MODALITIES

pytestmark = pytest.mark.slow


def test_a_split_is_embedded_without_the_subject_whose_file_is_cut_off(cohorts, tmp_path, capsys):
    copy = shutil.copytree(cohorts / "brats", tmp_path / "brats")
    content = json.loads((cohorts / "brats.json").read_text())
    first, *others = content["training"]
    broken = copy / first["image"][0]
    broken.write_bytes(broken.read_bytes()[:1000])
    options = {"checkpoint": untrained("brats_stage2", tmp_path / "model.pt"), "dataset_dir": str(copy)}
    options |= {"split": "training", "levels": True}
    with pytest.raises(SystemExit) as ended:
        workflow("brats_stage2", "inference", cohorts, tmp_path / "out", **options).run()
    assert ended.value.code == 1
    failed = capsys.readouterr().err
    assert f"failed: subject {first['subject']}: " in failed
    assert broken.name in failed
    found = np.load(tmp_path / "out/embeddings.npz", allow_pickle=False)
    subjects = sorted(entry["subject"] for entry in others)
    assert found["subject"].tolist() == subjects
    assert set(found["split"].tolist()) == {"training"}
    assert [found[f"level_{level}"].shape for level in range(5)] == [(len(subjects), 12 * 2**n) for n in range(5)]
    np.testing.assert_array_equal(found["embedding"], found["level_4"])
    assert all(np.isfinite(found[f"level_{level}"]).all() for level in range(5))
    assert len(np.unique(found["embedding"], axis=0)) == len(subjects)
    assert json.loads(str(found["settings"]))["modalities"] == MODALITIES["brats_stage2"]
