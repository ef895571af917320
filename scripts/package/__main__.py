"""Package a bundle: `python -m scripts.package BUNDLE`; check a package: `python -m scripts.package verify PACKAGE`.

docs/how-to/publish.md describes packages.
"""

import sys

from common import cli
from common import weights as checkpoints
from common.configs import warn_of_program
from common.errors import InputError, choice, show
from common.values import flag
from scripts.package.build import build
from scripts.package.check import check_package


def package(
    bundle: str,
    output: str = "dist",
    weights: str | None = None,
    weights_url: str | None = None,
    verify: bool = True,
    format: str = "bundle",
) -> None:
    """Build and verify the package OUTPUT/BUNDLE, its zip and its SHA-256 list; after a failure, nothing is left.

    The command `verify PACKAGE` checks a folder or zip of any origin.

    Args:
        bundle: name of a folder in bundles/.
        output: folder for BUNDLE/, which must not exist yet, BUNDLE_vVERSION.zip and BUNDLE_vVERSION.sha256.
        weights: a checkpoint of the bundle's network, which becomes models/model.pt. The package's configs take its
            model_size, patch_size, modalities and label_convention.
        weights_url: download address of models/model.pt for large_files.yml, which the Model Zoo requires for files
            above 25 MB.
        verify: whether to test the package by running it, which takes a minute or two.
        format: bundle, or huggingface, which adds a model card (README.md) and models/model.safetensors.
    """
    choice("format", format, dict.fromkeys(("bundle", "huggingface")))
    trained = None if weights is None else checkpoints.check_file(weights)
    build(bundle, checkpoints.path_of("output", output), trained, weights_url, flag("verify", verify), format)


def verify(package: str, run: bool = True) -> None:
    """Check a package from any source: first its files, then, in a separate process, its workflows.

    Args:
        package: a folder or a zip.
        run: false checks only the files. Running a package executes its code, and every bundle's configs are code, so
            treat a package like any program from the same source.
    """
    folder, runs = checkpoints.path_of("package", package), flag("run", run)
    if not folder.exists():
        raise InputError(folder, "no such file or folder", "a package")
    if runs:
        warn_of_program(folder, "code and expressions")
    for note in check_package(folder, runs):
        show(f"  {note}")
    show(f"{folder}: verified" if runs else f"{folder}: its files are valid; nothing was run")


if __name__ == "__main__":
    cli.run({"verify": verify} if sys.argv[1:2] == ["verify"] else package, "package")
