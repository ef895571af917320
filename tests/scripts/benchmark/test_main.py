"""`scripts.benchmark`: its variants, and its printed and written results."""

import json
from datetime import date

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from common.errors import InputError
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import inference, metrics, reader, step, timing
from scripts.phantoms.cohort import make
from tests.oracles import lesionwise
from tests.oracles.masks import balls, cube, noise


def test_all_prints_the_ratios_and_writes_them_to_the_page_and_to_json(monkeypatch, tmp_path, capsys):
    page, file = tmp_path / "benchmarks.md", tmp_path / "figures.json"
    page.write_text(benchmark.PAGE.read_text())  # the real one has a place for each
    monkeypatch.setattr(benchmark, "PAGE", page)
    for name in benchmark.BENCHMARKS:
        variants = {
            "ours": map(timing.Measured, [1.0, 2.0, 4.0], [1.0, 1.0, 2.0]).__next__,
            "stock": map(timing.Measured, [3.0, 4.0, 4.0], [2.0, 2.0, 2.5]).__next__,
        }
        monkeypatch.setitem(
            benchmark.BENCHMARKS, name, lambda name=name, variants=variants: {f"work of {name}": variants}
        )
    monkeypatch.setattr(benchmark, "_kernels", lambda: ([], ["| kernels of a step |"]))
    benchmark.benchmark("all", json=str(file))
    assert page.read_text().count("\n\n| kernels of a step |\n\n<!-- end -->") == 1
    row = "4 | 2.00 (1.00 to 3.00) | 2.0 GiB"
    assert (
        capsys.readouterr().out.count(row) == page.read_text().count(f"| stock | {row} |") == len(benchmark.BENCHMARKS)
    )
    assert page.read_text().count(f"Measured on {date.today()}. {timing.setting()}.") == 1 + len(benchmark.BENCHMARKS)
    assert page.read_text().count("\n\n3 repeats.\n\n| variant |") == len(benchmark.BENCHMARKS)
    assert json.loads(file.read_text())[1] == {
        "work": "work of step",
        "variant": "stock",
        "seconds": 4.0,
        "ratio": 2.0,
        "peak_gib": 2.0,
    }


def test_an_unknown_benchmark_and_a_missing_gpu_are_refused(monkeypatch):
    with pytest.raises(InputError, match="name=steps: expected one of kernels, step, reader"):
        benchmark.benchmark("steps")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="PyTorch finds no GPU"):
        benchmark.benchmark("gpu")


def test_a_process_has_memory_and_settings_of_its_own(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    bytearray(2**30)
    measured = timing.measure("tests.scripts.benchmark.programs:allocate", "28")
    assert 0.25 < measured.peak_gib < 0.6
    assert measured.seconds >= 0
    command = timing.measure("this")  # prints, and ends
    assert 0 < command.seconds < 20
    with pytest.raises(RuntimeError, match="programs: ended with status 1"):
        timing.measure("tests.scripts.benchmark.programs")


def test_steps_run():
    for work, kind in (("pretraining", "ours"), ("pretraining", "stock"), ("fine_tuning", "stock channels_last")):
        step.one_step(work, kind, "cpu", "float32", "micro", 64)()


def test_a_batch_has_crops_of_all_subjects(tmp_path):
    entries = []
    for name in "ab":
        files = [tmp_path / f"{name}_{modality}.nii.gz" for modality in ("T1", "FLAIR")]
        for seed, file in enumerate(files):
            voxels = np.random.default_rng(seed).normal(100, 9, (40, 40, 40))
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)
        entries.append({"subject": name, "image": [str(file) for file in files]})
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    for kind in reader.VARIANTS.values():
        batch = reader.batch(str(tmp_path), kind)()
        assert batch["image"].shape == (4, 2, 96, 96, 96)
        assert sorted(set(batch["subject"])) == ["a", "b"]
    assert len(list((tmp_path / "store").glob("*.json"))) == 2


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bfloat16_is_timed_on_processors_that_compute_in_it(monkeypatch, capsys, has_bfloat16):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "amx_bf16": has_bfloat16})
    monkeypatch.setattr(inference, "commands", lambda *_: (print, print))
    variants = inference.inference()["inference"]
    assert len(variants) == 3 + has_bfloat16
    assert ("ours, bfloat16" in variants) == has_bfloat16 == (capsys.readouterr().out == "")


def test_the_stock_way_writes_regions_on_the_grid_of_the_scan(tmp_path):
    make("brats", 1, str(tmp_path / "cohort"), spacing=4.0, workers=1)
    inference.write_checkpoint(tmp_path / "model.pt", "micro", 64)
    inference.segment("cpu", str(tmp_path / "model.pt"), str(tmp_path / "cohort"), str(tmp_path / "stock"))
    (file,) = (tmp_path / "stock").iterdir()
    scan = nibabel.load(next((tmp_path / "cohort").rglob("*_flair.nii.gz")))
    regions = nibabel.load(file)
    assert regions.shape[:3] == scan.shape
    np.testing.assert_allclose(regions.affine, scan.affine)
    assert set(np.unique(np.asarray(regions.dataobj))) == {0, 1}


def test_the_drawn_case_has_ten_lesions_one_of_them_missed_and_three_false_components():
    prediction, reference = metrics.draw_case()
    (lesions, count), (predicted, _) = (ndimage.label(mask, np.ones((3, 3, 3))) for mask in (reference, prediction))
    near = ndimage.binary_dilation(reference, ndimage.generate_binary_structure(3, 2), iterations=3)
    missed, false = np.setdiff1d(lesions, lesions[prediction]), np.setdiff1d(predicted, predicted[near])
    assert (count, missed.size, false.size) == (10, 1, 3)


NEAR = [  # dilation by 3 voxels does not join lesions 7 voxels apart, nor reach a component after 3 voxels
    (cube(2), cube(2) | cube(13)),
    (cube(2) | cube(9), cube(2)),
]


def test_the_plain_way_scores_as_the_challenge_does():
    for prediction, reference in [*map(balls, range(12)), *map(noise, range(12)), *NEAR]:
        figures, rows = lesionwise.brats(prediction, reference, (1, 1, 1), "GLI")
        if prediction.any() and any(row[0] and row[3] for row in rows):  # it takes masks that are not empty
            assert metrics.score_plainly(prediction, reference) == pytest.approx(figures, abs=1e-6)
