"""Check that a package meets the Model Zoo's rules, and that it runs without the checkout.

First the files are checked, without executing or unpickling any of them. Then a separate process runs the package, as
the Model Zoo's verifier does.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import yaml

from common import weights
from common.errors import InputError, one_line, show
from common.files import digest, valid_json
from scripts.package.archives import LARGEST, files_of, unpack
from scripts.package.large_files import LARGE, large_files
from scripts.package.sbom import SBOM, bill_of_materials

__all__ = ["SCHEMA", "check_files", "check_package", "newest", "run_package"]

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
TRIAL = Path(__file__).with_name("trial.py")
UNITTEST = Path(__file__).with_name("bundle_unittest.py")
REQUIRED = (
    "LICENSE",
    "common/__init__.py",
    "configs/inference.yaml",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/train.yaml",
    "docs/README.md",
    "docs/data_license.txt",
)
TEXTS = {".conf", ".css", ".j2", ".js", ".json", ".md", ".py", ".txt", ".yaml", ".yml"}
KINDS = {*TEXTS, ".png", ".pt"}
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)  # of a bundle: its unit test is a module
VERSION = re.compile(r"\d+\.\d+\.\d+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SECONDS = 1800  # limit for all steps, which take a minute or two


def check_package(package: Path, run: bool = True, largest: float = LARGEST) -> list[str]:
    """Check a package.

    Args:
        package: a folder or a zip; only a copy of it is run.
        run: whether to execute its code, or to check only its files.
        largest: GiB that a zip may unpack to.

    Returns:
        Remarks on a package that breaks no rule.

    Raises:
        InputError: it is not a package, or it breaks a rule.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as temporary:
        place = Path(temporary) / "package"  # empty, so that no name of a package can clash
        place.mkdir()
        folder = place / package.resolve().name  # of "." too
        if package.is_dir():
            files_of(package)  # refuses symlinks before they are copied
            shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__"))
        elif package.is_file():
            folder = unpack(package, place, largest)
        else:
            raise InputError(f"{package}: no such file or folder; expected a package")
        notes = check_files(folder)
        if run:
            shutil.copy(UNITTEST, folder / f"tests/test_{folder.name}.py")  # our test replaces the package's own
            run_package(folder, Path(temporary))
    return notes


def check_files(folder: Path) -> list[str]:
    """Check the files of a package without running any of them.

    Args:
        folder: has the bundle's name.

    Returns:
        Remarks on files that break no rule.

    Raises:
        InputError: a rule is broken: a required file is missing; there is a symlink, a kind of file that no package
            needs, or a text that is not UTF-8; a file above 25 MB is not in large_files.yml, or differs from its entry;
            weights are no plain state dict, or lack their JSON; metadata does not fit MONAI's schema, or its version
            is not that of its newest change; a JSON file differs from its YAML; metadata.json lacks an imported
            package; a link leads nowhere; the bill of materials is another package's; the name is not valid for a
            bundle.
    """
    name = folder.name
    if not NAME.fullmatch(name):
        raise InputError(f"{name}: expected the name of a bundle: letters, digits and _")
    files = [file.as_posix() for file in files_of(folder)]
    for file in (*REQUIRED, f"tests/test_{name}.py"):
        if file not in files:
            raise InputError(f"{name}: {file} is missing")
    if odd := [file for file in files if file != "LICENSE" and Path(file).suffix not in KINDS]:
        raise InputError(
            f"{name}: {odd[0]} is not a kind of file that a package needs; expected {', '.join(sorted(KINDS))}"
        )
    if (folder / "LICENSE").read_bytes() != (ROOT / "LICENSE").read_bytes():
        raise InputError(f"{name}: LICENSE is not the text of the Apache License 2.0")
    metadata = _check_metadata(folder)
    notes = _check_large_files(folder, files)
    for file in files:
        if Path(file).suffix in TEXTS and not _is_text(folder / file):
            raise InputError(f"{name}: {file} is not text in UTF-8")
        if file.endswith(".pt"):
            _check_weights(folder / file, f"{name}: {file}")
        if file.endswith(".md"):
            _check_links(folder, file, files)
    _check_twins(folder)
    _check_imports(folder, files, metadata)
    if SBOM in files:
        _check_bill(folder, metadata)
    return notes


def _check_weights(file: Path, name: str) -> None:
    checkpoint = weights.read(file)
    if checkpoint.layout.wrapper or checkpoint.layout.beside:
        raise InputError(f"{name}: holds more than tensors by name; expected a plain state dict, as MONAI reads it")
    if checkpoint.missing:
        raise InputError(f"{name}: {checkpoint.missing.name} is missing; expected its SHA-256 and metadata beside it")


def _is_text(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as stream:
            return all("\0" not in line for line in stream)
    except UnicodeDecodeError:
        return False


def _check_metadata(folder: Path) -> dict[str, Any]:
    file = folder / "configs/metadata.json"
    schema = json.loads(SCHEMA.read_text())
    metadata = dict(valid_json(file, "a bundle's metadata", schema, f"{folder.name}: configs/metadata.json"))
    if not str(metadata["schema"]).endswith(f"/{SCHEMA.name}"):
        raise InputError(f"{folder.name}: configs/metadata.json: schema {metadata['schema']}; expected {SCHEMA.name}")
    if (last := newest(metadata["changelog"], folder.name)) != metadata["version"]:
        raise InputError(
            f"{folder.name}: configs/metadata.json: version {metadata['version']}; its newest change is of {last}"
        )
    return metadata


def newest(changelog: Mapping[str, str], name: str) -> str:
    """The highest version of a changelog.

    Raises:
        InputError: it is empty, or a version is not three numbers.
    """
    if odd := [version for version in changelog if not VERSION.fullmatch(version)]:
        raise InputError(f"{name}: configs/metadata.json: changelog of version {odd[0]}; expected one such as 0.1.0")
    if not changelog:
        raise InputError(f"{name}: configs/metadata.json: an empty changelog; expected a version and what it changes")
    return max(changelog, key=lambda version: tuple(map(int, version.split("."))))


def _check_large_files(folder: Path, files: list[str]) -> list[str]:
    listed = large_files(folder)
    notes = []
    for file in files:
        size = (folder / file).stat().st_size
        if size > LARGE and file not in listed:
            raise InputError(
                f"{folder.name}: {file} has {size / 1e6:.0f} MB, and the Model Zoo takes {LARGE // 10**6} MB; "
                "expected it in large_files.yml (--weights_url)"
            )
    for path, entry in listed.items():
        if entry["url"] == "":
            notes.append(f"{path}: large_files.yml has no URL yet; a pull request needs one")
        if path not in files:
            notes.append(f"{path}: listed in large_files.yml, not in the package; tested with random weights")
        elif digest(folder / path, entry["hash_type"]) != entry["hash_val"].lower():
            raise InputError(
                f"{folder.name}: {path} is not the file that large_files.yml lists; its {entry['hash_type']} differs"
            )
    if "models/model.pt" not in listed and "models/model.pt" not in files:
        notes.append("no weights: tested with random weights")
    return notes


def _check_twins(folder: Path) -> None:
    """Check that each YAML config has an equal JSON file, which `monai.bundle.load` and federated clients read."""
    from monai.bundle import ConfigParser  # here, as `--help` need not wait for it

    for config in sorted((folder / "configs").glob("*.yaml")):
        twin = config.with_suffix(".json")
        if not twin.is_file():
            raise InputError(
                f"{folder.name}: configs/{twin.name} is missing; expected the content of configs/{config.name}"
            )
        try:
            contents = [ConfigParser.load_config_file(str(file)) for file in (config, twin)]
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{folder.name}: configs/{config.stem}: cannot be read ({_line(str(error))})") from error
        if contents[0] != contents[1]:
            raise InputError(f"{folder.name}: configs/{twin.name} differs from configs/{config.name}")


def _check_imports(folder: Path, files: list[str], metadata: Mapping[str, Any]) -> None:
    """Check that each imported package is MONAI, one of its requirements, or in `required_packages_version`."""
    named = {"monai", "torch", "numpy", *metadata.get("required_packages_version", {})}
    distributions = packages_distributions()
    for file in files:
        if not file.endswith(".py"):
            continue
        try:
            tree = ast.parse((folder / file).read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            raise InputError(f"{folder.name}: {file}: not Python ({_line(str(error))})") from error
        for module in sorted(_imported(tree) - sys.stdlib_module_names - {"common"}):
            if not named & {name.lower() for name in distributions.get(module, [module])}:
                raise InputError(
                    f"{folder.name}: {file} imports {module}, which metadata.json's required_packages_version lacks"
                )


def _imported(tree: ast.AST) -> set[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


def _check_bill(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Check that the bill of materials is of this package: its version, those of its Python packages, its weights."""
    place = f"{folder.name}: {SBOM}"
    bill = valid_json(folder / SBOM, "a CycloneDX file", name=place)
    expected = _hashes(json.loads(bill_of_materials(folder, metadata)))
    try:
        stated = _hashes(bill)
        whose = bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{place}: not what scripts.package writes ({one_line(error)})") from error
    if whose != (folder.name, metadata["version"]):
        raise InputError(f"{place}: of {whose[0]} {whose[1]}; expected that of {folder.name} {metadata['version']}")
    for name in sorted(stated.keys() ^ expected.keys()):
        raise InputError(f"{place}: {name} is {'not in the package' if name in stated else 'missing'}")
    for name, hashes in expected.items():
        if stated[name] != hashes and (folder / name).is_file():  # large_files.yml may have a hash of another type
            raise InputError(f"{place}: {name} has another hash than the file of this package")


def _hashes(bill: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of the weights in a bill of materials, and its Python packages, which have none."""
    return {
        part["bom-ref"]: part.get("hashes")
        for part in bill["components"]
        if part["bom-ref"].startswith("pkg:pypi/") or part["type"] == "machine-learning-model"
    }


def _check_links(folder: Path, file: str, files: list[str]) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        target = link.partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            found = os.path.normpath((Path(file).parent / target).as_posix())
            if found not in files:
                raise InputError(f"{folder.name}: {file} links to {link:.200}, which is not in the package")


def run_package(folder: Path, place: Path) -> None:
    """Run a package in a process that sees nothing else of this repository, and print its steps.

    Args:
        folder: of the package.
        place: an empty folder for the home folder and the log.

    Raises:
        InputError: a step fails.
    """
    home = place / "home"
    home.mkdir()
    shutil.copy(SCHEMA, home)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    environment = kept | {
        "HOME": str(home),
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "OMP_WAIT_POLICY": "PASSIVE",
        "BUNDLE_ROOT": str(folder),
    }
    command = [sys.executable, "-P", str(TRIAL), str(folder), str(home / SCHEMA.name)]
    log = place / "log"
    step = "start"
    with log.open("w") as noise:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=noise, text=True)
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        with process:
            for line in process.stdout or ():
                step = line.rstrip()
                if not step.startswith("FAILED"):
                    show(f"  {step}")
        limit.cancel()
    if process.returncode:
        kept_log = Path(tempfile.mkdtemp(prefix=f"{folder.name}-")) / "log"  # a folder where nobody else plants a link
        shutil.copy(log, kept_log)
        reason = step.removeprefix("FAILED ") if step.startswith("FAILED") else f"ended after {step}"
        raise InputError(f"{folder.name}: {reason} (full log: {kept_log})")


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
