"""Check that a package meets the Model Zoo's rules and runs without the checkout.

The files are checked first, without executing or unpickling any. Then a separate process runs the package's unit tests,
which include the checks of the Model Zoo's verifier.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from common import weights
from common.errors import InputError, show
from common.files import digest, valid_json
from scripts.package.archives import LARGEST_PACKAGE, files_of, unpack
from scripts.package.weights_file import LARGE, WEIGHTS, large_files

METADATA_SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
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
SUFFIXES = {".conf", ".css", ".j2", ".js", ".json", ".md", ".png", ".pt", ".py", ".txt", ".yaml", ".yml"}
BUNDLE_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)  # a bundle's unit test is a module
FAILED_TEST = re.compile(r"^={70}\n(?:ERROR|FAIL): (\w+).*?\n-{70}\n(.*?)\n(?:={70}|-{70})", re.MULTILINE | re.DOTALL)
SECONDS = 1800  # limit for all tests, which take a minute or two


def check_package(package: Path, run: bool = True, largest: float = LARGEST_PACKAGE) -> list[str]:
    """Check a folder or zip, of which only a copy is run; return remarks on a package that breaks no rule.

    `run=False` executes no code; `largest` is the limit in GiB of an unpacked zip. Raises an InputError if the package
    breaks a rule.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as temporary:
        place = Path(temporary) / "package"  # empty: no package name can clash
        place.mkdir()
        folder = place / package.resolve().name  # resolves "."
        if package.is_dir():
            files_of(package)  # rejects symlinks before copying
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
    """Check the files of a package without running any; return remarks on files that break no rule.

    Raises an InputError for a missing or unneeded file, a symlink, a file above 25 MB that does not match
    large_files.yml, weights that are not a plain state dict with their JSON, invalid metadata, a JSON file that differs
    from its YAML, or an invalid bundle name.
    """
    name = folder.name
    if not BUNDLE_NAME.fullmatch(name):
        raise InputError(f"{name}: expected the name of a bundle: letters, digits and _")
    files = [file.as_posix() for file in files_of(folder)]
    for file in (*REQUIRED, f"tests/test_{name}.py"):
        if file not in files:
            raise InputError(f"{name}: {file} is missing")
    if odd := [file for file in files if file != "LICENSE" and Path(file).suffix not in SUFFIXES]:
        raise InputError(
            f"{name}: {odd[0]} is not a kind of file that a package needs; expected {', '.join(sorted(SUFFIXES))}"
        )
    _check_metadata(folder)
    notes = _check_large_files(folder, files)
    for file in files:
        if file.endswith(".pt"):
            _check_weights(folder / file, f"{name}: {file}")
    for config in sorted((folder / "configs").glob("*.yaml")):
        _check_twin(config, name)
    return notes


def _check_metadata(folder: Path) -> None:
    """Check metadata.json against MONAI's schema, without the network and logs of MONAI's `verify_metadata`."""
    place = f"{folder.name}: configs/metadata.json"
    schema = json.loads(METADATA_SCHEMA.read_text())
    metadata = valid_json(folder / "configs/metadata.json", "a bundle's metadata", schema, place)
    if not str(metadata["schema"]).endswith(f"/{METADATA_SCHEMA.name}"):
        raise InputError(f"{place}: schema {metadata['schema']}; expected {METADATA_SCHEMA.name}")


def _check_weights(file: Path, name: str) -> None:
    checkpoint = weights.read(file)
    if checkpoint.layout.wrapper or checkpoint.layout.beside:
        raise InputError(f"{name}: holds more than tensors by name; expected a plain state dict, as MONAI reads it")
    if not (record := file.with_suffix(".json")).is_file():
        raise InputError(f"{name}: {record.name} is missing; expected its SHA-256 and metadata beside it")


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
    if WEIGHTS not in listed and WEIGHTS not in files:
        notes.append("no weights: tested with random weights")
    return notes


def _check_twin(config: Path, name: str) -> None:
    """Check that a YAML config has an equal JSON file, which `monai.bundle.load` and federated clients read."""
    twin = config.with_suffix(".json")
    if not twin.is_file():
        raise InputError(f"{name}: configs/{twin.name} is missing; expected the content of configs/{config.name}")
    try:
        contents: list[Any] = [yaml.safe_load(config.read_text("utf-8")), json.loads(twin.read_text("utf-8"))]
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{name}: configs/{config.stem}: cannot be read ({_line(str(error))})") from error
    if contents[0] != contents[1]:
        raise InputError(f"{name}: configs/{twin.name} differs from configs/{config.name}")


def run_package(folder: Path, place: Path) -> None:
    """Run a package's unit tests in a process that sees nothing else of this repository.

    `place` is an empty folder for the home folder and the log. Raises an InputError if a test fails.
    """
    (home := place / "home").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE", "BUNDLE_ROOT": str(folder)}
    command = [sys.executable, "-P", str(folder / f"tests/test_{folder.name}.py"), "--verbose"]
    log, reason = place / "log", f"not finished after {SECONDS} s"
    with log.open("wb") as noise:
        try:
            ended = subprocess.run(
                command, cwd=home, env=environment, stdout=noise, stderr=noise, timeout=SECONDS, check=False
            )
            reason = f"ended with status {ended.returncode}" if ended.returncode else ""
        except subprocess.TimeoutExpired:
            pass
    text = log.read_text(errors="replace")
    if reason:
        kept_log = Path(tempfile.mkdtemp(prefix=f"{folder.name}-")) / "log"  # private folder: no planted links
        shutil.copy(log, kept_log)
        if failed := FAILED_TEST.search(text):
            reason = f"{failed[1]}: {_cause(failed[2])}"
        raise InputError(f"{folder.name}: {reason} (full log: {kept_log})")
    for line in re.findall(r"^Ran \d+ tests? in .+$", text, re.MULTILINE):
        show(f"  {line}")


def _cause(trace: str) -> str:
    """The root cause in the text of an exception, without the text of the config's section that MONAI adds."""
    first = re.split(r"\n\n(?:The above exception|During handling)", trace)[0]
    return _line(next(line for line in first.splitlines() if not line.startswith(("Traceback", " "))))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
