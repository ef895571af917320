"""Check that a package meets the Model Zoo's rules and runs without the checkout.

The files are checked first, without executing or unpickling any. Then a separate process runs the package's unit tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from common import weights
from common.errors import InputError, is_disk_full, show
from common.files import digest, valid_json, valid_yaml
from scripts.package.archives import files_of, unpack
from scripts.package.weights_file import CONFIGS, SAFETENSORS, TAKEN_OPTIONS, WEIGHTS, check_safetensors, large_files

METADATA_SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
UNITTEST = Path(__file__).with_name("bundle_unittest.py")
REQUIRED = (
    "LICENSE",
    "configs/inference.yaml",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/train.yaml",
    "docs/README.md",
    "docs/data_license.txt",
)
KINDS = "conf css j2 js json md png pt py safetensors txt yaml yml"  # of files, by suffix
PASSED = re.compile(r"^(Ran [1-9]\d* tests? in .+)\n\nOK", re.MULTILINE)  # the end of unittest's report
FAILED_TEST = re.compile(r"^(?:ERROR|FAIL): (\w+)", re.MULTILINE)
LARGE = 25_000_000  # bytes; limit of the Model Zoo
SECONDS = 1800  # limit for all tests, which take a minute or two


def check_package(package: Path, run: bool = True) -> list[str]:
    """Check a package folder or zip; run this repository's `bundle_unittest.py` on a copy, not the package's own test.

    `run=False` executes no code. Return remarks, possibly none. Raise an InputError if the package breaks a rule or
    fails a test.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as temporary:
        parent = Path(temporary) / "package"  # empty, so no package name clashes
        parent.mkdir()
        folder = parent / package.resolve().name  # resolves "."
        try:
            if package.is_dir():
                _copy(package, folder)
            else:
                folder = unpack(package, parent)
        except OSError as error:
            expected = "expected space for a copy of the package"
            raise InputError(f"TMPDIR={tempfile.gettempdir()}: {error.strerror}; {expected}") from error
        try:
            notes = check_files(folder)
        except InputError as error:  # the copy is deleted
            archive = f"{package}: " if package.is_file() else ""
            raise InputError(archive + str(error).replace(f"{parent}/", "")) from error
        if run:
            shutil.copy(UNITTEST, folder / f"tests/test_{folder.name}.py")  # our test replaces the package's own
            run_package(folder, Path(temporary))
    return notes


def _copy(package: Path, folder: Path) -> None:
    """Copy the files of a package, but not their permissions."""
    for name in files_of(package):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(package / name, folder / name)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise InputError(f"{package / name}: {error.strerror}; expected a file that can be read") from error


def check_files(folder: Path) -> list[str]:
    """Check the files of a package without running any; return remarks, possibly none.

    Raises an InputError for a missing or unneeded file, a symlink, a file that does not match large_files.yml, weights
    that are not a plain state dict with their JSON, or invalid metadata.
    """
    name = folder.name
    files = [file.as_posix() for file in files_of(folder)]
    for file in (*REQUIRED, f"tests/test_{name}.py", f"{name}_common/__init__.py"):
        if file not in files:
            tested = [match[1] for path in files if (match := re.fullmatch(r"tests/test_(\w+)\.py", path))]
            hint = f"; the package has tests for {tested[0]}; expected a folder of that name" if tested else ""
            raise InputError(f"{name}: {file} is missing{hint if file.startswith('tests/') else ''}")
    if odd := [file for file in files if file != "LICENSE" and Path(file).suffix[1:] not in KINDS.split()]:
        hint = "delete __pycache__, which Python makes again" if "__pycache__" in odd[0] else f"expected {KINDS}"
        raise InputError(f"{name}: unexpected kind of file {odd[0]}; {hint}")
    schema = json.loads(METADATA_SCHEMA.read_text())  # MONAI's verify_metadata would download it
    valid_json(folder / "configs/metadata.json", "a bundle's metadata", schema, f"{name}: configs/metadata.json")
    configs = {}
    for file in files:
        if file.startswith("configs/") and file.endswith((".json", ".yaml")):
            read = valid_json if file.endswith(".json") else valid_yaml
            configs[file] = read(folder / file, "a config", {"type": "object"}, f"{name}: {file}")
    for file, content in configs.items():
        if configs.get(file.replace(".yaml", ".json"), content) != content:
            raise InputError(f"{name}: {file} differs from its JSON; expected equal content")
    notes = _check_large_files(folder, files)
    for file in files:
        if file.endswith(".pt"):
            _check_weights(folder / file, f"{name}: {file}", configs)
    if SAFETENSORS in files:
        check_safetensors(folder, name)
    return notes


def _check_weights(file: Path, name: str, configs: Mapping[str, Mapping[str, Any]]) -> None:
    checkpoint = weights.read(file)
    if checkpoint.layout.wrapper or checkpoint.layout.beside:
        raise InputError(f"{name}: contains more than named tensors; MONAI reads only a plain state dict")
    if not (record := file.with_suffix(".json")).is_file():
        raise InputError(f"{name}: no {record.name} beside it; expected the SHA-256 and metadata of {file.name} there")
    for config, option in product(CONFIGS, TAKEN_OPTIONS):
        stated, configured = checkpoint.metadata.get(option), configs.get(config, {}).get(option)
        if None not in (stated, configured) and configured != stated and not str(configured).startswith(("$", "@")):
            raise InputError(f"{name}: {record.name} states {option}={stated}; {config} has {configured}")


def _check_large_files(folder: Path, files: list[str]) -> list[str]:
    listed = large_files(folder)
    notes = []
    for file in files:
        if (size := (folder / file).stat().st_size) > LARGE and file not in listed:
            notes.append(f"{file}: {size / 1e6:.0f} MB; above 25 MB the Model Zoo requires --weights_url")
    for path, entry in listed.items():
        if path not in files:
            notes.append(f"{path}: listed in large_files.yml, not in the package; tested with random weights")
        elif digest(folder / path) != entry["hash_val"]:
            raise InputError(
                f"{folder.name}: {path} differs from the file in large_files.yml; expected SHA-256 {entry['hash_val']}"
            )
    if WEIGHTS not in listed and WEIGHTS not in files:
        notes.append("no weights: tested with random weights")
    return notes


def run_package(folder: Path, work: Path) -> None:
    """Run a package's unit tests in a process without access to this repository.

    `work` is an empty folder for the home folder and the log. Raises an InputError if a test fails.
    """
    (home := work / "home").mkdir()
    host = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    environment = host | {"HOME": str(home), "USER": "test", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE", "BUNDLE_ROOT": str(folder)}
    command = [sys.executable, "-P", str(folder / f"tests/test_{folder.name}.py"), "--verbose"]
    log, status, reason = work / "log", None, f"not finished after {SECONDS} s"
    with log.open("wb") as noise, suppress(subprocess.TimeoutExpired):
        status = subprocess.run(
            command, cwd=home, env=environment, stdout=noise, stderr=noise, timeout=SECONDS, check=False
        ).returncode
        reason = f"ended with status {status} before its tests had passed"
    text = log.read_text(errors="replace")
    if status == 0 and (passed := PASSED.search(text)):
        show(f"  {passed[1]}")
        return
    kept_log = Path(tempfile.mkdtemp(prefix=f"{folder.name}-")) / "log"  # private folder: no planted links
    shutil.copy(log, kept_log)
    if failed := FAILED_TEST.findall(text):
        reason = f"{', '.join(failed)} failed"
    raise InputError(f"{folder.name}: {reason} (full log: {kept_log})")
