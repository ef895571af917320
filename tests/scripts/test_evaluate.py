"""`python -m scripts.evaluate` on NIfTI files: figures against direct calls of the protocols, and each way to fail."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common import metrics
from common.preflight import InputError
from scripts import evaluate as module
from scripts import evaluation_page
from scripts.evaluate import compare, evaluate, score
from scripts.evaluation_cases import CaseFiles
from tests.bundles.conftest import ROOT
from tests.scripts.test_evaluation_cases import AFFINE, label_map, save

SPACING = (0.7, 1.3, 2.5)  # mm, of AFFINE
SHAPE = (24, 20, 12)


def blobs(seed, values=(1,)):
    """A label map with a few cuboids, some of which a prediction of the next seed overlaps."""
    generator = np.random.default_rng(seed // 2)
    labels = np.zeros(SHAPE, np.uint8)
    for _ in range(4):
        corner = [int(generator.integers(0, edge - 5)) for edge in SHAPE]
        size = generator.integers(2, 6, 3)
        for number, value in enumerate(values):
            low = [start + (seed % 2) + number for start in corner]
            labels[tuple(slice(start, start + edge - number) for start, edge in zip(low, size, strict=True))] = value
    return labels


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Predictions and references of five cases with labels 0 and 1; a page that only says what it was given."""
    monkeypatch.setattr(evaluation_page, "page", lambda name, files, *rest: f"page of {name}: {len(files)} cases")
    arrays = {}
    for number in range(5):
        pair = blobs(2 * number), blobs(2 * number + 1)
        if number == 3:
            pair[0][:] = 0
        save(tmp_path / f"p/c{number}.nii.gz", pair[0], AFFINE)
        save(tmp_path / f"r/c{number}.nii.gz", pair[1], AFFINE)
        arrays[f"c{number}"] = pair
    return tmp_path, arrays


def run(folder, output="out", **options):
    arguments = {"predictions": folder / "p", "references": folder / "r", "protocol": "atlas", "workers": 1} | options
    evaluate(**{name: value if name == "workers" else str(value) for name, value in arguments.items()}, output=output)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("protocol_name", ["atlas", "isles"])
def test_figures_are_those_of_the_protocol(protocol_name, cohort, capsys):
    folder, arrays = cohort
    run(folder, folder / "out", protocol=protocol_name)
    expected = [
        {"case": case, "region": "lesion", "metric": metric, "value": str(float(value)), "unit": unit}
        for case, pair in arrays.items()
        for (metric, value), unit in zip(
            getattr(metrics, protocol_name)(*pair, SPACING).values.items(),
            ("1", "1", "lesions", "voxels" if protocol_name == "atlas" else "ml"),
            strict=True,
        )
    ]
    assert rows(folder / "out/metrics.csv") == expected
    lesions = [
        (case, lesion.volume, lesion.is_found)
        for case, pair in arrays.items()
        for lesion in getattr(metrics, protocol_name)(*pair, SPACING).lesions
    ]
    found = rows(folder / "out/lesions.csv")
    assert [(row["case"], float(row["volume_mm3"]), bool(int(row["found"]))) for row in found] == lesions
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["protocol"], summary["cases"], summary["missing"]) == (protocol_name, 5, [])
    dice = np.mean([metrics.dice(*pair) for pair in arrays.values()])
    assert summary["regions"]["lesion"]["dice"]["mean"] == pytest.approx(dice)
    assert (folder / "out/evaluation.html").read_text() == "page of p: 5 cases"
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"5 cases by {protocol_name}"
    assert shown[-1] == f"{folder}/out/evaluation.html"
    assert [line.split()[2] for line in shown if line.startswith("lesion  dice ")] == [f"{dice:.4g}"]


@pytest.mark.parametrize("challenge", [None, "MET"])
def test_regions_of_brats_are_scored_whether_enhancing_tumour_is_3_or_4(challenge, cohort):
    folder, _ = cohort
    expected = {}
    for case, seed in (("x", 0), ("y", 2)):
        prediction, reference = blobs(seed, (2, 1, 4)), blobs(seed + 1, (2, 1, 3))
        save(folder / f"bp/{case}.nii", prediction, AFFINE)
        save(folder / f"br/{case}.nii.gz", reference, AFFINE, np.int16)
        for region, inside in (("WT", (1, 2, 3, 4)), ("TC", (1, 3, 4)), ("ET", (3, 4))):
            pair = np.isin(prediction, inside), np.isin(reference, inside)
            scores = metrics.brats(*pair, SPACING, challenge or "GLI").values
            expected |= {(case, region, metric): value for metric, value in scores.items()}
            expected[case, region, "nsd"] = metrics.normalized_surface_dice(*pair, SPACING, 1.5)
    options = {} if challenge is None else {"challenge": challenge}
    places = {"predictions": str(folder / "bp"), "references": str(folder / "br"), "output": str(folder / "out")}
    evaluate(protocol="brats", tolerance=1.5, workers=1, **places, **options)
    found = {
        (row["case"], row["region"], row["metric"]): float(row["value"]) for row in rows(folder / "out/metrics.csv")
    }
    assert found == expected
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["challenge"], summary["tolerance_mm"], summary["connectivity"]) == (challenge or "GLI", 1.5, 26)


def test_processes_find_what_one_finds(cohort):
    folder, _ = cohort
    for workers in (1, 3):
        run(folder, folder / f"out{workers}", workers=workers)
    for name in ("metrics.csv", "lesions.csv", "summary.json", "evaluation.html"):
        assert (folder / "out1" / name).read_bytes() == (folder / "out3" / name).read_bytes()


def test_an_absent_prediction_counts_as_empty_where_that_is_asked_for(cohort, capsys):
    folder, arrays = cohort
    (folder / "p/c1.nii.gz").unlink()
    with pytest.raises(InputError, match="no prediction for 1 of 5 cases: c1; "):
        run(folder, folder / "out")
    assert not (folder / "out").exists()
    run(folder, folder / "out", missing="worst")
    expected = metrics.atlas(np.zeros(SHAPE), arrays["c1"][1], SPACING).values
    found = {row["metric"]: float(row["value"]) for row in rows(folder / "out/metrics.csv") if row["case"] == "c1"}
    assert found == expected
    assert found["dice"] == found["lesion_f1"] == 0
    assert json.loads((folder / "out/summary.json").read_text())["missing"] == ["c1"]
    assert capsys.readouterr().out.startswith("5 cases by atlas, 1 without prediction counted as empty\n")


def test_the_references_can_be_the_labels_of_a_datalist(cohort):
    folder, arrays = cohort
    entries = [{"subject": case, "image": [f"r/{case}.nii.gz"], "label": f"r/{case}.nii.gz"} for case in arrays]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": "atlas"}
    (folder / "toy.json").write_text(json.dumps({**head, "testing": entries}))
    run(folder, folder / "out")
    run(folder, folder / "again", references=folder / "toy.json", dataset_dir=folder)
    assert (folder / "out/metrics.csv").read_bytes() == (folder / "again/metrics.csv").read_bytes()


def test_the_page_gets_files_scores_protocol_and_summary(cohort, monkeypatch, capsys):
    folder, _ = cohort
    given = []
    monkeypatch.setattr(evaluation_page, "page", lambda *arguments: given.append(arguments) or "page")
    save(folder / "i/c2_0000.nii.gz", np.zeros(SHAPE), AFFINE)
    run(folder, folder / "out", images=folder / "i")
    ((name, files, cases, rules, summary),) = given
    assert name == "p"
    assert [each.name for each in files] == list(cases) == [f"c{number}" for number in range(5)]
    assert [each.image and each.image.name for each in files] == [None, None, "c2_0000.nii.gz", None, None]
    assert cases["c2"] == score(files[2], rules)
    assert (rules.name, summary["protocol"]) == ("atlas", "atlas")
    warning = "warning: no image of 4 of 5 cases, whose pictures have no background: c0, c1, c3, c4"
    assert capsys.readouterr().err.splitlines()[0] == warning


def test_earlier_results_are_replaced(cohort):
    folder, _ = cohort
    run(folder, folder / "out", protocol="isles")
    (folder / "out/other.txt").touch()
    run(folder, folder / "out")
    assert json.loads((folder / "out/summary.json").read_text())["protocol"] == "atlas"
    assert (folder / "out/other.txt").exists()


def test_a_page_that_fails_leaves_no_older_one(cohort, monkeypatch):
    folder, _ = cohort
    run(folder, folder / "out")

    def fail(*_):
        raise InputError("no page")

    monkeypatch.setattr(evaluation_page, "page", fail)
    with pytest.raises(InputError, match="no page"):
        run(folder, folder / "out", protocol="isles")
    assert json.loads((folder / "out/summary.json").read_text())["protocol"] == "isles"
    assert not (folder / "out/evaluation.html").exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_faulty_files_are_named_before_anything_is_scored(workers, cohort, monkeypatch):
    folder, _ = cohort
    save(folder / "p/c1.nii.gz", 3 * label_map([0, 1]), AFFINE)
    save(folder / "p/c2.nii.gz", np.zeros((3, 3, 3)), AFFINE)
    (folder / "r/c4.nii.gz").write_bytes(b"no NIfTI")
    monkeypatch.setattr(module, "score", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError) as error:
        run(folder, folder / "out", workers=workers)
    expected = f"{folder}/p/c1.nii.gz: label 3; expected labels 0, 1 (2 more of 5 cases have a fault)"
    assert str(error.value) == expected
    assert not (folder / "out").exists()
    save(folder / "p/c1.nii.gz", blobs(2), AFFINE)
    save(folder / "r/c4.nii.gz", blobs(9), AFFINE)
    with pytest.raises(InputError, match=r"c2.nii.gz: shape 3 x 3 x 3; expected the reference's, 24 x 20 x 12$"):
        run(folder, folder / "out", workers=workers)


def test_labels_3_and_4_among_the_references_are_named(cohort):
    folder, _ = cohort
    save(folder / "r/c0.nii.gz", 3 * blobs(0), AFFINE)
    save(folder / "r/c2.nii.gz", 4 * blobs(0), AFFINE)
    with pytest.raises(InputError, match=r"r/c2.nii.gz: label 4, while .*r/c0.nii.gz has 3; expected one of them"):
        run(folder, folder / "out", protocol="brats")


def test_a_case_that_ends_its_process_or_has_no_memory_is_named(cohort, monkeypatch):
    folder, _ = cohort
    monkeypatch.setattr(module, "each", lambda work, cases, *_: [None for _ in cases])
    with pytest.raises(InputError, match=r"p/c0.nii.gz: reading it ended the process, twice; .* \(4 more of 5 cases"):
        run(folder, folder / "out")

    def hungry(*_, **__):
        raise MemoryError

    monkeypatch.setattr(module, "each", lambda work, cases, *_: [work(files) for files in cases])
    monkeypatch.setattr(module, "labels_of", hungry)
    with pytest.raises(InputError, match=r"r/c0.nii.gz: out of memory; expected fewer --workers"):
        run(folder, folder / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "dice"}, "^--protocol=dice: expected one of brats, atlas, isles$"),
        ({"challenge": "GLI"}, "^--challenge=GLI: the protocol atlas has none"),
        ({"protocol": "brats", "challenge": "gli"}, "^--challenge=gli: expected one of GLI, MET, MEN, SSA, PED$"),
        ({"missing": "best"}, "^--missing=best: expected worst$"),
        ({"workers": -1}, "^--workers=-1: expected a whole number from 0 to 1024$"),
        ({"split": "training"}, "^--split=training: expected with a datalist"),
    ],
)
def test_options_that_cannot_be_are_named(options, message, cohort):
    folder, _ = cohort
    with pytest.raises(InputError, match=message):
        run(folder, folder / "out", **options)


def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(cohort, monkeypatch):
    folder, _ = cohort
    monkeypatch.setattr(module, "each", lambda *_: pytest.fail("read"))
    (folder / "file").touch()
    (folder / "taken/summary.json").mkdir(parents=True)
    for output, options, message in (
        (folder / "p", {}, "the folder of --predictions; expected another one"),
        (folder / "p/../r", {}, "the folder of --references; expected another one"),
        (folder / "p/../i", {"images": folder / "i"}, "the folder of --images; expected another one"),
        (folder / "file", {}, "expected a folder that metrics.csv, lesions.csv, summary.json, evaluation.html can"),
        (folder / "file/below", {}, "expected a folder that metrics.csv"),
        (folder / "taken", {}, "expected a folder that metrics.csv"),
    ):
        save(folder / "i/c0.nii", np.zeros(SHAPE), AFFINE)
        with pytest.raises(InputError, match=f"^--output={output}: {message}"):
            run(folder, output, **options)


def test_a_score_is_that_of_the_spacing_of_the_affine(tmp_path):
    """In single precision 0.7 is 0.699999988: one voxel more than 50 mm3 would not be, if it were taken as it is."""
    reference = np.zeros(SHAPE, np.uint8)
    reference[0, 0, :11] = 1
    files = CaseFiles("c", None, save(tmp_path / "c.nii.gz", reference, AFFINE), None)
    (lesion,) = score(files, metrics.protocol("isles"))["lesion"].lesions
    assert lesion.volume == pytest.approx(11 * 0.7 * 1.3 * 2.5, rel=1e-12)


@pytest.mark.parametrize("edges", [(1, 1, 5), (1, 1, 2.5), (0.5, 0.5, 5)])
def test_a_lesion_at_the_threshold_is_dropped_however_the_grid_is_turned(edges):
    """A turned affine in single precision makes its edges a little longer, and 50 mm3 would be more than 50."""
    voxels = round(50 / np.prod(edges))
    affine = np.eye(4)
    for angles in np.random.default_rng(0).normal(0, 0.5, (300, 3)):
        affine[:3, :3] = (nibabel.eulerangles.euler2mat(*angles) @ np.diag(edges)).astype(np.float32)
        assert metrics.spacing_of(affine) == edges
        assert voxels * np.prod(metrics.spacing_of(affine)) <= 50


@pytest.mark.parametrize("edge", [0.4296875, 0.123456789, 1 / 3, 0.7, 12.5])
def test_a_spacing_of_many_digits_is_kept(edge):
    assert metrics.spacing_of(np.diag([np.float32(edge), 1, 1, 1]))[0] == pytest.approx(edge, rel=1.7e-7)
    assert metrics.spacing_of(np.diag([0.4296875, 1, 1, 1]))[0] == 0.4296875


@pytest.mark.parametrize("option", ["predictions", "references", "images", "output"])
def test_paths_that_cannot_be_looked_at_are_named(option, cohort):
    folder, _ = cohort
    for path, reason in (
        (f"{folder}/{'a' * 300}", "File name too long"),
        ("~nobody-has-this/x", "Could not determine"),
    ):
        options = {"predictions": folder / "p", "references": folder / "r", "output": folder / "out", option: path}
        with pytest.raises(InputError, match=rf"^--{option}=.*: {reason}.*; expected a path that can be read$"):
            evaluate(protocol="atlas", **options)
        if option == "output":
            with pytest.raises(InputError, match=rf"^--output=.*: {reason}"):
                compare(str(folder), output=path)
        else:
            with pytest.raises(InputError, match=rf"^.*: {reason}.*; expected a path that can be read$"):
                compare(path, f"{path}2")


# The command


def command(*arguments):
    words = [sys.executable, "-m", "scripts.evaluate", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_needs_neither_pytorch_nor_statistics():
    code = "import sys, scripts.evaluate; print([name for name in ('torch', 'scipy.stats') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
    for words, told in (
        (["--help"], ["Score label maps against references", "--protocol=PROTOCOL (required)", "compare"]),
        (["compare", "--help"], ["Compare evaluations of the same cases", "[FOLDERS]..."]),
    ):
        ended = command(*words)
        assert ended.returncode == 0
        assert [text for text in told if text not in ended.stdout + ended.stderr] == []


@pytest.mark.parametrize(("ending", "status"), [("INT", -signal.SIGINT), ("TERM", -signal.SIGTERM)])
def test_a_command_that_is_ended_leaves_no_process_no_file_and_no_traceback(ending, status, cohort, tmp_path):
    folder, _ = cohort
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from scripts import evaluate
from scripts.cli import run
def labels_of(files, protocol_name):
    open("{tmp_path}/" + str(os.getpid()), "w").close()
    time.sleep(600 if "{ending}" == "TERM" else 0.3)
evaluate.labels_of = labels_of
sys.argv = ["", "--predictions={folder}/p", "--references={folder}/r", "--protocol=atlas", "--output={folder}/out"]
sys.argv.append("--workers=1")
run({{"compare": evaluate.compare}}, "evaluate", default=evaluate.evaluate)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        workers = wait_for(lambda: [int(file.name) for file in tmp_path.iterdir() if file.name.isdecimal()])
        process.send_signal(getattr(signal, f"SIG{ending}"))
        told = process.stderr.read()
    assert process.returncode == status
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith("interrupted") == (ending == "INT")
    assert wait_for(lambda: not any(is_running(worker) for worker in workers))
    assert not (folder / "out").exists()


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_for(find):
    end = time.monotonic() + 60
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_bad_input_ends_the_command_with_one_line_and_status_2(cohort):
    folder, _ = cohort
    for words, message in (
        (["--predictions=p"], "--references: missing; it has no default"),
        (["compar", "a", "b"], "command compar: expected compare, or options alone"),
        (["compare", "a"], "compare a: 1 folders; expected two at least"),
        (
            [f"--predictions={folder}/r/..", f"--references={folder}/r", "--protocol=atlas", f"--output={folder}/out"],
            f"--predictions={folder}/r/..: no file that ends with .nii.gz or .nii; expected one for each case",
        ),
    ):
        ended = command(*words)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {message}\n")


@pytest.mark.slow
def test_evaluations_are_made_and_compared_with_their_pages(cohort):
    folder, arrays = cohort
    for case, (_, reference) in arrays.items():
        save(folder / f"q/{case}.nii.gz", reference, AFFINE)
    save(folder / "q/c0.nii.gz", 5 * arrays["c0"][1], AFFINE)
    words = [f"--references={folder}/r", "--protocol=isles", f"--images={folder}/r", "--workers=2"]
    ended = command(f"--predictions={folder}/q", f"--output={folder}/perfect", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == f"error: {folder}/q/c0.nii.gz: label 5; expected labels 0, 1"
    assert "Traceback" not in ended.stderr
    save(folder / "q/c0.nii.gz", arrays["c0"][1], AFFINE)
    for name, output in (("p", "ours"), ("q", "perfect")):
        ended = command(f"--predictions={folder}/{name}", f"--output={folder}/{output}", *words)
        assert ended.returncode == 0, ended.stderr
        assert "<html" in (folder / output / "evaluation.html").read_text()
    ended = command("compare", folder / "ours", folder / "perfect", f"--output={folder}/out")
    assert (ended.returncode, ended.stderr) == (0, "")
    (dice,) = [line for line in ended.stdout.splitlines() if line.startswith("lesion  dice ")]
    assert dice.endswith("0 / 0 / 5")
    assert rows(folder / "out/ranking.csv")[0]["system"] == "perfect"
