"""`python -m scripts.evaluate` on NIfTI files: figures against direct calls of the protocols, and every error."""

import csv
import json
import resource
from functools import partial
from io import StringIO

import nibabel
import numpy as np
import pytest

from common import metrics
from common.errors import InputError
from common.inference.results import CaseFiles
from common.pages import evaluation as pages
from scripts import pools
from scripts.evaluate import __main__ as module
from scripts.evaluate.__main__ import compare, evaluate, page, score
from tests.oracles.volumes import dice as dice_of
from tests.scripts.evaluate.evaluations import AFFINE, BLOBS_SHAPE, blobs, label_map, save

SPACING = (0.7, 1.3, 2.5)  # mm, of AFFINE


def figures(path):
    return {(row["case"], row["region"], row["metric"]): float(row["value"]) for row in rows(path)}


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
    evaluate(
        **{"predictions": f"{folder}/bp", "references": f"{folder}/br", "output": f"{folder}/out"},
        **{"protocol": "brats", "tolerance": 1.5, "workers": 1},
        **options,
    )
    assert figures(folder / "out/metrics.csv") == expected
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["challenge"], summary["tolerance_mm"], summary["connectivity"]) == (challenge or "GLI", 1.5, 26)


@pytest.mark.parametrize(
    ("convention", "values", "regions"),
    [
        ("brats2021", (2, 1, 4), {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}),
        ("atlas", (1,), {"lesion": (1,)}),
    ],
)
def test_dice_alone_scores_the_regions_of_any_convention(convention, values, regions, tmp_path, cohort, capsys):
    folder, expected = tmp_path / "dice", {region: [] for region in regions}
    for number, kinds in enumerate((values, values[:1])):  # the second case has no region inside the outermost one
        prediction, reference = blobs(2 * number, values), blobs(2 * number + 1, kinds)
        save(folder / f"p/{number}.nii.gz", prediction, AFFINE)
        save(folder / f"r/{number}.nii.gz", reference, AFFINE)
        for region, inside in regions.items():
            masks = np.isin(prediction, inside), np.isin(reference, inside)
            expected[region].append((dice_of(*masks), masks[1].any()))
    run(folder, folder / "out", protocol="dice", label_convention=convention)
    summary = json.loads((folder / "out/summary.json").read_text())
    assert (summary["protocol"], list(summary["regions"])) == ("dice", list(regions))
    shown = capsys.readouterr().out.splitlines()
    for region, found in expected.items():
        figures, present = summary["regions"][region], [figure for figure, is_present in found if is_present]
        assert (figures["dice"]["mean"], figures["dice"]["n"]) == (pytest.approx(np.mean([d for d, _ in found])), 2)
        assert figures["dice_present"]["mean"] == pytest.approx(np.mean(present))
        assert figures["dice_present"]["n"] == len(present)
        (line,) = [line.split() for line in shown if line.startswith(f"{region:<8}dice_present ")]
        assert line[2:4] == [f"{np.mean(present):.4g}", str(len(present))]


def test_an_absent_prediction_counts_as_empty_on_request(cohort, capsys):
    folder, arrays = cohort
    (folder / "p/c1.nii.gz").unlink()
    with pytest.raises(InputError, match="no prediction for 1 of 5 cases: c1; "):
        run(folder, folder / "out")
    assert not (folder / "out").exists()
    run(folder, folder / "out", missing="worst")
    expected = metrics.atlas(np.zeros(BLOBS_SHAPE), arrays["c1"][1], SPACING).values
    found = figures(folder / "out/metrics.csv")
    assert {metric: value for (case, _, metric), value in found.items() if case == "c1"} == expected
    assert expected["dice"] == expected["lesion_f1"] == 0
    assert json.loads((folder / "out/summary.json").read_text())["missing"] == ["c1"]
    assert capsys.readouterr().out.startswith("5 cases by atlas, 1 without prediction counted as empty\n")


def test_the_references_can_be_the_labels_of_a_datalist(cohort):
    folder, arrays = cohort
    entries = [{"subject": case, "image": [f"r/{case}.nii.gz"], "label": f"r/{case}.nii.gz"} for case in arrays]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": "atlas"}
    (folder / "toy.json").write_text(json.dumps({**head, "testing": entries}))
    run(folder, folder / "out")
    run(folder, folder / "again", references=folder / "toy.json", dataset_dir=folder, workers=3)
    for name in ("metrics.csv", "lesions.csv", "summary.json"):  # whatever the number of processes
        assert (folder / "out" / name).read_bytes() == (folder / "again" / name).read_bytes()


def test_a_case_without_an_image_is_a_warning(cohort, capsys):
    folder, _ = cohort
    save(folder / "i/c2_0000.nii.gz", np.zeros(BLOBS_SHAPE), AFFINE)
    run(folder, folder / "out", images=folder / "i")
    content = json.loads((folder / "out/cases.json").read_text())
    images = [content["cases"][f"c{number}"]["image"] for number in range(5)]
    assert (content["name"], images) == ("p", [None, None, f"{folder}/i/c2_0000.nii.gz", None, None])
    warning = "warning: 4 of 5 cases have no image; their pictures lack a background: c0, c1, c3, c4"
    assert capsys.readouterr().err.splitlines()[0] == warning


def test_earlier_results_are_replaced_and_a_page_that_fails_leaves_no_older_one(cohort, monkeypatch):
    folder, _ = cohort
    run(folder, folder / "out")
    (folder / "out/other.txt").touch()

    def fail(*_):
        raise InputError("no page")

    monkeypatch.setattr(pages, "page_of", fail)
    with pytest.raises(InputError, match="no page"):
        run(folder, folder / "out", protocol="isles")
    assert json.loads((folder / "out/summary.json").read_text())["protocol"] == "isles"
    assert not (folder / "out/evaluation.html").exists()
    assert (folder / "out/other.txt").exists()


def test_a_full_disk_leaves_the_older_results(cohort, monkeypatch):
    folder, _ = cohort
    monkeypatch.setattr(pools, "tqdm", partial(pools.tqdm, file=StringIO()))  # else its bar fills pytest's own file
    run(folder, folder / "out")
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    for most in (1500, 5000):  # bytes of a file: of lesions.csv, and of the page alone
        monkeypatch.setattr(pages, "page_of", lambda details, linked: "x" * 6000)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit[1]))
        try:
            with pytest.raises(InputError, match=r"File too large; expected a file that can be written$"):
                run(folder, folder / "out", protocol="isles", workers=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_a_page_is_drawn_again_without_scoring(cohort, monkeypatch, capsys):
    folder, _ = cohort
    (folder / "p/c1.nii.gz").unlink()
    run(folder, folder / "out", missing="worst")
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    (folder / "out/evaluation.html").unlink()
    monkeypatch.setattr(module, "map_in_processes", lambda *_: pytest.fail("scored"))
    capsys.readouterr()
    page(folder / "out")
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before
    assert capsys.readouterr().out == f"{folder}/out/evaluation.html\n"


def test_faulty_files_are_named_before_anything_is_scored(cohort, monkeypatch):
    folder, _ = cohort
    save(folder / "p/c1.nii.gz", 3 * label_map([0, 1]), AFFINE)
    save(folder / "p/c2.nii.gz", np.zeros((3, 3, 3)), AFFINE)
    (folder / "r/c4.nii.gz").write_bytes(b"no NIfTI")
    monkeypatch.setattr(module, "score", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError) as error:
        run(folder, folder / "out", workers=2)
    expected = f"{folder}/p/c1.nii.gz: label 3; expected labels 0, 1 (2 more of 5 cases have errors)"
    assert str(error.value) == expected
    assert not (folder / "out").exists()
    save(folder / "r/c0.nii.gz", 3 * blobs(0), AFFINE)
    save(folder / "r/c2.nii.gz", 4 * blobs(0), AFFINE)
    for file in ("p/c1.nii.gz", "p/c2.nii.gz", "r/c4.nii.gz"):
        save(folder / file, blobs(0), AFFINE)
    with pytest.raises(InputError, match=r"r/c2.nii.gz: label 4, while .*r/c0.nii.gz has 3; expected one of them"):
        run(folder, folder / "out", protocol="brats")


def test_a_case_that_kills_its_process_or_runs_out_of_memory_is_named(cohort, monkeypatch):
    folder, _ = cohort
    monkeypatch.setattr(module, "map_in_processes", lambda work, cases, *_: [None for _ in cases])
    with pytest.raises(InputError, match=r"p/c0.nii.gz: reading it killed the process, twice; .* \(4 more of 5 cases"):
        run(folder, folder / "out")

    def hungry(*_, **__):
        raise MemoryError

    monkeypatch.setattr(module, "map_in_processes", lambda work, cases, *_: [work(files) for files in cases])
    monkeypatch.setattr(module, "labels_of", hungry)
    with pytest.raises(InputError, match=r"r/c0.nii.gz: out of memory; expected fewer --workers"):
        run(folder, folder / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "dcie"}, "^protocol=dcie: expected one of brats, atlas, isles, dice$"),
        ({"challenge": "GLI"}, "^challenge=GLI: the protocol atlas has no challenges; only brats has"),
        ({"missing": "best"}, "^--missing=best: expected worst$"),
        ({"workers": -1}, "^workers=-1: expected a whole number from 0 to 1024$"),
        ({"slices": "some"}, "^slices=some: expected one of none, chosen, all$"),
    ],
)
def test_invalid_options_are_named(options, message, cohort):
    folder, _ = cohort
    with pytest.raises(InputError, match=message):
        run(folder, folder / "out", **options)


def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(cohort, monkeypatch):
    folder, _ = cohort
    monkeypatch.setattr(module, "map_in_processes", lambda *_: pytest.fail("read"))
    (folder / "file").touch()
    (folder / "taken/summary.json").mkdir(parents=True)
    save(folder / "i/c0.nii", np.zeros(BLOBS_SHAPE), AFFINE)
    for output, message in (
        (folder / "p/../r", "the folder of --references; expected another one"),
        (folder / "p/../i", "the folder of --images; expected another one"),
        (folder / "file", "expected a folder that metrics.csv, lesions.csv, cases.json, summary.json, evaluation"),
        (folder / "file/below", "expected a folder that metrics.csv"),
        (folder / "taken", "expected a folder that metrics.csv"),
    ):
        with pytest.raises(InputError, match=f"^--output={output}: {message}"):
            run(folder, output, images=folder / "i")


def test_a_score_uses_the_spacing_of_the_affine(tmp_path):
    """In single precision 0.7 is 0.699999988, which would change the volume of 11 voxels in the eighth digit."""
    reference = np.zeros(BLOBS_SHAPE, np.uint8)
    reference[0, 0, :11] = 1
    files = CaseFiles("c", None, save(tmp_path / "c.nii.gz", reference, AFFINE), None)
    (lesion,) = score(files, metrics.protocol("isles"), "atlas")["lesion"].lesions
    assert lesion.volume == pytest.approx(11 * 0.7 * 1.3 * 2.5, rel=1e-12)


@pytest.mark.parametrize("edges", [(1, 1, 5), (1, 1, 2.5), (0.5, 0.5, 5)])
def test_a_lesion_at_the_threshold_is_dropped_on_every_rotated_grid(edges):
    """Rounding a rotated affine to single precision can lengthen its edges: 50 mm3 would be more than 50."""
    affine = np.eye(4)
    for angles in np.random.default_rng(0).normal(0, 0.5, (300, 3)):
        affine[:3, :3] = (nibabel.eulerangles.euler2mat(*angles) @ np.diag(edges)).astype(np.float32)
        assert metrics.spacing_of(affine) == edges


@pytest.mark.parametrize("option", ["predictions", "references", "images", "output"])
@pytest.mark.parametrize(
    ("path", "reason"), [("a" * 300, "File name too long"), ("~nobody-has-this/x", "Could not determine")]
)
def test_paths_that_cannot_be_examined_are_named(option, path, reason, cohort):
    folder, _ = cohort
    options = {"predictions": folder / "p", "references": folder / "r", "output": folder / "out", option: path}
    expected = rf": {reason}.*; expected a path that can be read$"
    with pytest.raises(InputError, match=rf"^--{option}=.*{expected}"):
        evaluate(protocol="atlas", **options)
    for call in (partial(page, path), partial(compare, path, f"{path}2")):
        with pytest.raises(InputError, match=rf"^{path[:5]}.*{expected}"):
            call()
    with pytest.raises(InputError, match=rf"^--output=.*{expected}"):
        compare(str(folder), output=path)
