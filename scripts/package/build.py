"""Build the package of a bundle, verify it, and write its zip and its SHA-256 list.

A package works without the checkout: it contains `common`, JSON twins of the YAML configs, and the project's documents.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from common.configs import BUNDLES, bundles_with
from common.errors import InputError, choice, show
from common.files import atomic_write, valid_json
from common.locks import claimed
from scripts.package.archives import files_of, listing, pack
from scripts.package.check import check_package
from scripts.package.contents import contents
from scripts.package.weights_file import add_safetensors, add_weights, large_files


def build(
    bundle: str,
    output: Path,
    weights: Path | None = None,
    weights_url: str | None = None,
    verify: bool = True,
    format: str = "bundle",
) -> Path:
    """Build a package with the options of `python -m scripts.package`; return its folder.

    Raises an InputError if an output exists already, the bundle or the weights are invalid, or the package breaks a
    rule (see `scripts.package.check`).
    """
    source = BUNDLES / choice("bundle", bundle, {name: name for name in bundles_with("metadata.json")})
    stated = {"type": "object", "required": ["version"], "properties": {"version": {"type": "string"}}}
    version = valid_json(source / "configs/metadata.json", "a bundle's metadata", stated)["version"]
    name = f"{bundle}_v{version}"  # the name that MONAI's downloader requests
    with claimed("output", output):
        for path in (output / bundle, output / f"{name}.zip", output / f"{name}.sha256"):
            if path.exists():
                raise InputError(f"{path}: exists already; move it away")
        for leftover in output.glob(f".{bundle}.{'?' * 8}"):
            shutil.rmtree(leftover, ignore_errors=True)  # of a killed build
        with TemporaryDirectory(prefix=f".{bundle}.", dir=output) as temporary:
            (folder := Path(temporary) / bundle).mkdir()
            settings = add_weights(folder, source, weights, weights_url)
            if format == "huggingface" and settings:
                add_safetensors(folder)
            _write(folder, contents(source, settings, format))
            if verify:
                show(f"{bundle} {version}: testing it without this repository, for a minute or two")
            notes = check_package(folder, verify)
            pack(folder, output / f"{name}.zip")
            with atomic_write(output / f"{name}.sha256") as file:
                file.write_text(listing(folder, leave_out=large_files(folder)))
            folder.rename(output / bundle)
    for note in notes:
        show(f"  {note}")
    files = files_of(output / bundle)
    size = sum((output / bundle / file).stat().st_size for file in files)
    show(f"{output / bundle}: {len(files)} files, {size / 1e6:.1f} MB; {output / name}.zip, {name}.sha256")
    return output / bundle


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        with atomic_write(folder / name) as file:
            file.write_bytes(data)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
