"""Cohorts, models and the command of the application."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.micro_models import INFERENCE_OPTIONS, write_checkpoint
from tests.support import ROOT, Result, execute


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory) -> Callable[..., Path]:
    """Makes the folder of a cohort of one subject, in a layout, with or without skull."""
    folder = tmp_path_factory.mktemp("cohorts")

    def make(layout: str, skull_stripped: bool | None = None) -> Path:
        cohort = folder / f"{layout}-{skull_stripped}"
        if not cohort.exists():
            options = [f"--layout={layout}", "--subjects=1", "--spacing=4", f"--output={cohort}", "--workers=1"]
            options += [] if skull_stripped is None else [f"--skull_stripped={skull_stripped}"]
            result = execute([sys.executable, "-m", "scripts.phantoms", "make", *options])
            assert result.returncode == 0, result.stderr
        return cohort

    return make


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Callable[[str], Path]:
    """Makes a checkpoint for the bundle of a layout."""
    folder = tmp_path_factory.mktemp("models")

    def make(layout: str) -> Path:
        path = folder / f"{layout}.pt"
        write_checkpoint(layout, path)
        return path

    return make


@pytest.fixture(scope="session")
def packages(tmp_path_factory, models) -> Callable[[str], Path]:
    """Makes the package of a layout's bundle with weights, by `python -m scripts.package`."""
    folder = tmp_path_factory.mktemp("dist")

    def make(layout: str) -> Path:
        package = folder / f"{layout}_finetune"
        if not package.exists():
            weights_options = [f"--weights={models(layout)}", "--weights_url=none"]
            options = [package.name, f"--output={folder}", *weights_options, "--verify=false"]
            result = execute([sys.executable, "-m", "scripts.package", *options])
            assert result.returncode == 0, result.stderr
        return package

    return make


@pytest.fixture
def application(models, packages) -> Callable[..., Result]:
    """Runs the READMEs' command of the application, or of another module, with a layout's bundle or its package."""

    def run(
        layout: str, study: Path, output: Path, *options: str, module: str = "deploy.app", package: bool = False
    ) -> Result:
        bundle = packages(layout) if package else ROOT / "bundles" / f"{layout}_finetune"
        command = _documented_command(module, input=str(study), bundle=str(bundle), output=str(output))
        checkpoint = [] if package else [f"--checkpoint={models(layout)}"]
        return execute([*command, *checkpoint, f"--bundle_options={' '.join(INFERENCE_OPTIONS)}", *options])

    return run


def _documented_command(module: str, **values: str) -> list[str]:
    """The command in README.md and deploy/README.md that starts a module, with these values of its options."""
    texts = [(ROOT / file).read_text() for file in ("README.md", "deploy/README.md")]
    lines = [re.findall(rf"\.venv-deploy/bin/python (-m {re.escape(module)} [^`\n]+)", text) for text in texts]
    (options,) = {tuple(re.findall(r"--(\w+)=", line)) for (line,) in lines}  # both files have one, with equal options
    return [sys.executable, "-m", module, *(f"--{option}={values[option]}" for option in options)]
