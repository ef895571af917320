"""The linear probe of embeddings."""

import json

import nibabel
import numpy as np
import pytest
from sklearn.metrics import r2_score

from common.errors import InputError
from scripts.probe import out_of_fold, probe, r_squared

SUBJECTS = [f"S{number:02d}" for number in range(20)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Label maps whose volume grows with the subject's number, and embeddings that know it or do not."""
    folder, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    entries, volumes = [], []
    for number, subject in enumerate(SUBJECTS):
        labels = np.zeros((12, 12, 12), np.uint8)
        labels.flat[: 10 + 40 * number] = 2
        volumes.append(np.log1p((10 + 40 * number) * 8 / 1000))
        for name in ("image", "label"):
            nibabel.save(nibabel.Nifti1Image(labels, np.diag([2, 2, 2, 1])), folder / f"{subject}_{name}.nii.gz")
        entries.append({"subject": subject, "image": [f"{subject}_image.nii.gz"], "label": f"{subject}_label.nii.gz"})
    content = {"name": "toy", "modalities": ["T1"], "label_convention": "brats2021"}
    content |= {"training": entries[:8], "testing": entries[8:]}
    (folder / "datalist.json").write_text(json.dumps(content))
    noise = rng.normal(size=(len(SUBJECTS), 5))
    knows = np.column_stack([noise, np.array(volumes) + noise[:, 0]]).astype(np.float32)
    files = {
        "knows": (SUBJECTS, knows),
        "noise": (SUBJECTS, noise),
        "others": (SUBJECTS[1:], noise[1:]),
        "few": (SUBJECTS[:9], noise[:9]),
        "stranger": ([*SUBJECTS[1:], "S99"], noise),
        "broken": (SUBJECTS, noise * np.nan),
    }
    for name, (subjects, vectors) in files.items():
        np.savez(folder / f"{name}.npz", subject=subjects, embedding=vectors)
    return folder


def run(cohort, *files, **options):
    probe(*(str(cohort / file) for file in files), datalist=cohort / "datalist.json", dataset_dir=cohort, **options)


def test_vectors_that_know_the_volume_predict_it_and_noise_does_not(cohort, tmp_path, capsys):
    def scores(*files):
        run(cohort, *files, output=tmp_path / "probe.json")
        found = json.loads((tmp_path / "probe.json").read_text())["r2"]
        return [found[str(cohort / file)] for file in files]

    knows, noise = scores("knows.npz", "noise.npz")
    assert knows.keys() == {"WT"}  # ET and TC are empty in all subjects
    assert knows["WT"][0] > 0.95
    assert noise["WT"][0] < 0.3
    assert "20 subjects" in capsys.readouterr().out


def test_no_model_has_seen_the_subject_that_it_predicts():
    """A target that one vector alone gives away is not predicted for that subject."""
    vectors, targets = np.zeros((20, 2)), np.zeros(20)
    vectors[3, 0] = targets[3] = 1.0
    predicted = out_of_fold(vectors, targets, seed=0)
    assert predicted[3] == 0
    assert np.ptp(predicted[[2, 4, 5]]) < 0.2


def test_r_squared_equals_another_librarys_and_lies_in_its_interval():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=60)
    predicted = targets + rng.normal(size=60)
    middle, low, high = r_squared(predicted, targets)
    assert middle == pytest.approx(r2_score(targets, predicted))
    assert low < middle < high


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["absent.npz"], r"absent\.npz: No such file or directory; expected embeddings.npz of an embedding run"),
        (["knows.npz", "others.npz"], r"others.npz: other subjects \(19\) than .*knows.npz \(20\)"),
        (["few.npz"], r"few.npz: 9 subjects; expected 10 at least"),
        (["stranger.npz"], r"subject S99 of the embeddings has no label"),
        (["broken.npz"], r"broken.npz: vectors of shape \(20, 5\); expected a row of finite values"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(cohort, files, message):
    with pytest.raises(InputError, match=message):
        run(cohort, *files)
