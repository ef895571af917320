"""inference.yaml of the self-supervised bundles: a vector for each volume, as a user gets it."""

import json
import shutil
import sys

import numpy as np
import pytest

from tests.bundles.workflows import untrained, workflow
from tests.support import MODALITIES, execute

pytestmark = pytest.mark.slow


def embeddings(folder):
    with np.load(folder / "embeddings.npz", allow_pickle=False) as content:
        return dict(content)


def test_a_split_is_embedded_without_the_subject_whose_file_is_cut_off(cohorts, tmp_path, capsys):
    copy = shutil.copytree(cohorts / "brats", tmp_path / "brats")
    content = json.loads((cohorts / "brats.json").read_text())
    first, *others = content["training"]
    broken = copy / first["image"][0]
    broken.write_bytes(broken.read_bytes()[:1000])
    options = {"checkpoint": untrained("brats_stage2", tmp_path / "model.pt"), "dataset_dir": str(copy)}
    options |= {"split": "training", "levels": True, "pictures": 1}
    with pytest.raises(SystemExit) as ended:
        workflow("brats_stage2", "inference", cohorts, tmp_path / "out", **options).run()
    assert ended.value.code == 1
    failed = capsys.readouterr().err
    assert f"failed: subject {first['subject']}: " in failed
    assert broken.name in failed
    found = embeddings(tmp_path / "out")
    subjects = sorted(entry["subject"] for entry in others)
    assert found["subject"].tolist() == subjects
    assert set(found["split"].tolist()) == {"training"}
    assert [found[f"level_{level}"].shape for level in range(5)] == [(len(subjects), 12 * 2**n) for n in range(5)]
    np.testing.assert_array_equal(found["embedding"], found["level_4"])
    assert all(np.isfinite(found[f"level_{level}"]).all() for level in range(5))
    assert len(np.unique(found["embedding"], axis=0)) == len(subjects)
    assert json.loads(str(found["settings"]))["modalities"] == MODALITIES["brats_stage2"]
    assert [path.stem for path in (tmp_path / "out/pictures").iterdir()] == [others[0]["subject"]]


def test_a_persons_second_visit_is_the_nearest(run_bundle, tmp_path):
    """The scanner varies from visit to visit, the head does not; a network that was never trained tells heads apart.

    It says that vectors are of the volume, and not of its noise; heads of the embedded cohort differ a lot.
    """
    people = ["--subjects=6", "--second_visits=6", "--spacing=4", f"--output={tmp_path / 'ukb'}", "--workers=1"]
    split = [f"--root={tmp_path / 'ukb'}", f"--output={tmp_path / 'ukb.json'}", "--validation=4"]
    execute([sys.executable, "-m", "scripts.phantoms", "make", "--layout=ukb", *people])
    execute([sys.executable, "-m", "scripts.datalists", "ukb", *split])
    options = [f"--dataset_dir={tmp_path / 'ukb'}", f"--datalist={tmp_path / 'ukb.json'}", "--pictures=0"]
    options += ["--num_workers=0", f"--checkpoint={untrained('ukb_ssl_pretrain', tmp_path / 'model.pt')}"]
    result = run_bundle("ukb_ssl_pretrain", *options, config="configs/inference.yaml")
    assert result.returncode == 0, result.stderr
    assert "12 subjects embedded: vectors of 192 values" in result.stdout
    found = embeddings(tmp_path / "ukb_ssl_pretrain")
    listed = json.loads((tmp_path / "ukb.json").read_text())
    split_of = {entry["subject"]: split for split in ("training", "validation") for entry in listed[split]}
    assert dict(zip(found["subject"].tolist(), found["split"].tolist(), strict=True)) == split_of
    people = [subject.split("_")[0] for subject in found["subject"].tolist()]
    vectors = found["embedding"] - found["embedding"].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    assert [people[nearest] for nearest in cosine.argmax(axis=1)] == people
