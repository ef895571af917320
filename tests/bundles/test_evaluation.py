"""Training, evaluation and the command line measure with the same functions: their scores and pages agree."""

import csv
import itertools
import json
import shutil
import sys

import nibabel
import numpy as np
import pytest

from tests.support import execute

pytestmark = pytest.mark.slow
CODES = [(1, 0), (0, 1), (4, 2)]  # qform and sform: odd ones, such as converters write


def with_codes(cohort, datalist, folder):
    """A copy of a cohort whose validation scans have odd form codes; returns the codes by subject."""
    shutil.copytree(cohort, folder)
    entries = json.loads(datalist.read_text())["validation"]
    codes = {entry["subject"]: pair for entry, pair in zip(entries, itertools.cycle(CODES), strict=False)}
    for entry in entries:
        for name in entry["image"]:
            scan = nibabel.load(folder / name)
            voxels, affine = np.asarray(scan.dataobj), scan.affine
            qform, sform = codes[entry["subject"]]
            scan.set_sform(affine, sform, update_affine=False)
            scan.set_qform(affine, qform, update_affine=False)
            nibabel.save(nibabel.Nifti1Image(voxels, None, scan.header), folder / name)
    return codes


def codes_of(path):
    header = nibabel.load(path).header
    return int(header["qform_code"]), int(header["sform_code"])


@pytest.mark.parametrize(("bundle", "protocol"), [("brats_finetune", "brats"), ("atlas_finetune", "atlas")])
def test_training_evaluation_and_command_line_agree(run_bundle, cohorts, trained, tmp_path, bundle, protocol):
    validation = json.loads((trained(bundle) / "run.json").read_text())["validation"]["metrics"]
    by_bundle, by_command, cohort = tmp_path / bundle, tmp_path / "command", bundle.split("_")[0]
    codes = with_codes(cohorts / cohort, cohorts / f"{cohort}.json", tmp_path / "scans")
    options = [f"--checkpoint={trained(bundle) / 'models/model.pt'}", f"--dataset_dir={tmp_path / 'scans'}"]
    options += ["--num_workers=0", "--split=validation"]
    evaluated = run_bundle(bundle, *options, config="configs/evaluate.yaml")
    assert evaluated.returncode == 0, evaluated.stderr
    assert {name: codes_of(by_bundle / f"predictions/{name}.nii.gz") for name in codes} == codes
    data = [f"--references={cohorts / cohort}.json", f"--dataset_dir={cohorts / cohort}", "--split=validation"]
    places = [f"--predictions={by_bundle / 'predictions'}", f"--output={by_command}", f"--protocol={protocol}"]
    scored = execute([sys.executable, "-m", "scripts.evaluate", *places, *data])
    assert scored.returncode == 0, scored.stderr
    for name in ("metrics.csv", "lesions.csv", "summary.json"):
        assert (by_bundle / name).read_bytes() == (by_command / name).read_bytes()
    with (by_command / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    summary = json.loads((by_command / "summary.json").read_text())["regions"]
    for region in {row["region"] for row in rows}:
        values = [float(row["value"]) for row in rows if row["region"] == region]
        assert 0 < np.mean(values) < 1
        assert validation[region] == [pytest.approx(np.mean(values), rel=1e-12)]
        present = summary[region]["dice_present"]
        assert validation[f"{region}_dice_present"] == [pytest.approx(present["mean"], rel=1e-12)]
        assert validation[f"{region}_n_present"] == [present["n"]]
    means = {region: pytest.approx(figures["dice_present"]["mean"], rel=1e-12) for region, figures in summary.items()}
    assert json.loads((by_bundle / "run.json").read_text())["scores"]["mean_present"] == means
    printed = evaluated.stdout.splitlines()
    assert f"{len(codes)} cases by {protocol}" in printed
    assert f"page         {by_bundle.resolve()}/evaluation.html" in printed
    slices = [sorted((folder / "slices").iterdir()) for folder in (by_bundle, by_command)]
    assert slices[0]
    for first, second in zip(*slices, strict=True):
        assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    pages = [(folder / "evaluation.html").read_text() for folder in (by_bundle, by_command)]
    assert f"<h1>Evaluation of {bundle}</h1>" in pages[0]
    assert pages[0].replace(f"Evaluation of {bundle}", "Evaluation of predictions") == pages[1]
