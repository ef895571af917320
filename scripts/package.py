"""A bundle as others get it: `python -m scripts.package BUNDLE`, and what came from others: `... verify PACKAGE`.

A package is complete without the checkout: `common` is a folder, each YAML config has a JSON twin, and the documents
that it links to are inside. docs/publishing.md says what becomes of it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from common import weights as checkpoints
from common.files import reading_json, whole
from common.preflight import InputError, flag, optional
from scripts import cli
from scripts.archives import digest, files_of, listing, pack
from scripts.package_check import LARGE, LINK, UNITTEST, check_files, check_package, large_files, newest

__all__ = ["build", "package", "release", "verify"]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "LICENSE",
    "configs/*.yaml",
    "configs/metadata.json",
    "configs/logging.conf",
    "docs/*",
    "common/*.py",
    "common/*.json",
)
WEIGHTS = "models/model.pt"
OF_THE_WEIGHTS = ("model_size", "patch_size", "label_convention")  # options that a config takes over from its weights
TAKING = ("train.yaml", "evaluate.yaml", "inference.yaml")
PRIVATE = {"datalist"}  # of a checkpoint's metadata: a path on the machine that trained
SHA256 = re.compile(r"[0-9a-f]{64}")


def package(
    bundle: str,
    output: str = "dist",
    weights: str | None = None,
    weights_url: str | None = None,
    weights_hash: str | None = None,
    verify: bool = True,
) -> None:
    """Build OUTPUT/BUNDLE, the zip of it and its list of SHA-256, and verify them; all are there then, or none.

    Two other commands: `verify PACKAGE` checks a folder or zip of any origin, `release BUNDLE` binds a version to its
    content.

    Args:
        bundle: name of a folder in bundles/.
        output: folder that gets BUNDLE/, BUNDLE-VERSION.zip and BUNDLE-VERSION.sha256; a package of the same name that
            is there, as it was built, is replaced.
        weights: a checkpoint of the bundle's network, which becomes models/model.pt. The package's configs take over
            its model_size, patch_size and label_convention.
        weights_url: where models/model.pt can be downloaded, for large_files.yml, which the Model Zoo wants for files
            above 25 MB; none where such a file stays here. Without --weights the file is not read, and has to fit the
            configs as they are.
        weights_hash: SHA-256 of models/model.pt; needed where only the URL is given.
        verify: whether the package is run: a minute or two.
    """
    place = checkpoints.path_of("--output=", output)
    build(bundle, place, weights, weights_url, weights_hash, flag("verify", verify))


def release(
    bundle: str,
    output: str = "dist",
    weights: str | None = None,
    weights_url: str | None = None,
    weights_hash: str | None = None,
) -> None:
    """Build and verify a package, and bind its version to its content: releases/BUNDLE-VERSION.sha256, to be committed.

    From then on that version is built with this content or not at all. Options are those of the package.

    Args:
        bundle: name of a folder in bundles/, without changes that are not committed.
        output: folder that gets the package.
        weights: a checkpoint of the bundle's network.
        weights_url: where it can be downloaded.
        weights_hash: its SHA-256.
    """
    version = _version(_folder_of(bundle))
    heading = next(line for line in _headings() if version in line)
    if not re.search(r"\d{4}-\d{2}-\d{2}", heading):
        raise InputError(
            f"CHANGELOG.md: {heading.strip()}; expected the day of the release, such as [{version}] - 2026-01-31"
        )
    if changed := _uncommitted(bundle):
        raise InputError(f"{changed[0]}: not committed; a release is built from what is")
    manifest = build(bundle, checkpoints.path_of("--output=", output), weights, weights_url, weights_hash)
    record = ROOT / "releases" / manifest.name
    with whole(record) as file:
        file.write_text(manifest.read_text())
    print(f"{record.relative_to(ROOT)}: commit it; {bundle} {version} stays as it is from now on")


def verify(package: str, run: bool = True) -> None:
    """Check a package, whoever made it: its files first, then, in a process of its own, what it does.

    Args:
        package: a folder or a zip.
        run: false looks at the files only. Running a package executes its code, as every bundle's configs are code:
            of a stranger's, do it where you would run a stranger's program.
    """
    place = checkpoints.path_of("package ", package)
    for note in check_package(place, flag("run", run)):
        print(f"  {note}")
    print(f"{place}: verified" if flag("run", run) else f"{place}: its files are as they should be; nothing was run")


def build(
    bundle: str,
    output: Path,
    weights: str | None = None,
    weights_url: str | None = None,
    weights_hash: str | None = None,
    verify: bool = True,
) -> Path:
    """Build a package; see `package`. The list of its files' SHA-256, as `sha256sum` checks them.

    Raises:
        InputError: there is no such bundle; its versions disagree; the weights are not the bundle's, or are too large
            for the Model Zoo and have no URL; the version is released with other content; the package breaks a rule
            (see `scripts.package_check`); OUTPUT has something else of that name.
    """
    source = _folder_of(bundle)
    version = _version(source)
    name = f"{bundle}-{version}"
    with _in_progress(output, bundle) as folder:
        _write(folder, _content(source, _take(folder, source, weights, weights_url, weights_hash)))
        notes = check_files(folder)
        manifest = listing(folder, leave_out=large_files(folder))
        _hold_to_release(name, manifest)
        if verify:
            print(f"{bundle} {version}: tried where nothing but the package is", flush=True)
            check_package(folder)
        _replace(folder, output / bundle)
        pack(output / bundle, output / f"{name}.zip")
        with whole(output / f"{name}.sha256") as file:
            file.write_text(manifest)
    for note in notes:
        print(f"  {note}")
    files = files_of(output / bundle)
    size = sum((output / bundle / file).stat().st_size for file in files)
    print(f"{output / bundle}: {len(files)} files, {size / 1e6:.1f} MB; {output / name}.zip, {name}.sha256")
    return output / f"{name}.sha256"


def _folder_of(bundle: str) -> Path:
    known = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs/metadata.json").is_file())
    if bundle not in known:
        raise InputError(f"bundle {bundle}: expected one of {', '.join(known)}")
    return ROOT / "bundles" / bundle


def _headings() -> list[str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"## \[\d", line)]


def _version(source: Path) -> str:
    """The version of a bundle; its metadata, their changelog and CHANGELOG.md have to say the same."""
    with reading_json(f"{source.name}: configs/metadata.json", "a bundle's metadata"):
        metadata = json.loads((source / "configs/metadata.json").read_text(encoding="utf-8"))
    last = re.findall(r"\[(.+?)\]", "".join(_headings()))[:1]
    said = {"metadata.json's version": metadata.get("version"), "CHANGELOG.md": last[0] if last else "nothing"}
    said["metadata.json's changelog"] = newest(metadata.get("changelog", {}), source.name)
    if len(set(said.values())) > 1:
        raise InputError(
            f"{source.name}: versions differ: " + ", ".join(f"{where} {what}" for where, what in said.items())
        )
    return metadata["version"]


@contextmanager
def _in_progress(output: Path, bundle: str) -> Iterator[Path]:
    """A folder to build in, beside the place of the package; it is gone afterwards, whatever happens."""
    place = output / f".{bundle}.{os.getpid()}"
    try:
        try:
            (place / bundle).mkdir(parents=True)
        except OSError as error:
            raise InputError(f"--output={output}: {error.strerror}; expected a folder that can be written") from error
        yield place / bundle
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _content(source: Path, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a package but for its weights, by name."""
    paths = [path for pattern in SOURCES for path in sorted(source.glob(pattern)) if path.is_file()]
    content = {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}
    taken = {option: settings[option] for option in OF_THE_WEIGHTS if settings.get(option) is not None}
    for file in TAKING:
        if f"configs/{file}" in content:
            content[f"configs/{file}"] = _with_options(content[f"configs/{file}"], taken)
    if patch := taken.get("patch_size"):
        metadata = content["configs/metadata.json"]
        shape = json.dumps(json.loads(metadata)["network_data_format"]["inputs"]["image"]["spatial_shape"])
        new = f'"spatial_shape": {json.dumps(list(patch))}'
        content["configs/metadata.json"] = metadata.replace(f'"spatial_shape": {shape}'.encode(), new.encode())
    for file in [file for file in content if file.endswith(".yaml")]:
        twin = json.dumps(yaml.safe_load(content[file]), indent=2) + "\n"
        content[file.removesuffix(".yaml") + ".json"] = twin.encode()
    content[f"tests/test_{source.name}.py"] = UNITTEST.read_bytes()
    return _with_documents(content, source)


def _with_options(config: bytes, options: Mapping[str, Any]) -> bytes:
    """A YAML config with other values of options at its top; comments stay."""
    text = config.decode()
    for option, value in options.items():
        shown = json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
        text = re.sub(rf"^{option}: (\[[^\]]*\]|\S+)", f"{option}: {shown}", text, count=1, flags=re.MULTILINE)
    return text.encode()


def _with_documents(content: dict[str, bytes], source: Path) -> dict[str, bytes]:
    """Add the documents of the project that those of the bundle link to; a link that leads elsewhere becomes text."""
    left = [(name, source / name) for name in content if name.endswith(".md")]
    while left:
        name, origin = left.pop()
        text = content[name].decode()
        for link in dict.fromkeys(LINK.findall(text)):
            target = (origin.parent / link.partition("#")[0]).resolve()
            if "://" in link or link.startswith("#") or target.is_relative_to(source.resolve()):
                continue
            if not target.is_relative_to(ROOT / "docs") or not target.is_file():
                text = re.sub(rf"\[([^\]]*)\]\({re.escape(link)}\)", r"\1", text)
                continue
            inside = target.relative_to(ROOT).as_posix()  # docs/..., where the bundle's own documents are too
            anchor = link[len(link.partition("#")[0]) :]
            text = text.replace(f"]({link})", f"]({os.path.relpath(inside, Path(name).parent)}{anchor})")
            if inside not in content:
                content[inside] = target.read_bytes()
                if inside.endswith(".md"):
                    left.append((inside, target))
        content[name] = text.encode()
    return content


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _take(
    folder: Path, source: Path, weights: str | None, weights_url: str | None, weights_hash: str | None
) -> Mapping[str, Any]:
    """Put weights, and large_files.yml, into a package; what they were trained with."""
    file = folder / WEIGHTS
    settings: Mapping[str, Any] = {}
    if weights is not None:
        settings = _copy_weights(weights, file, source)
    elif weights_url is None:
        if weights_hash is not None:
            raise InputError(
                f"--weights_hash={weights_hash}: of which file? expected --weights or --weights_url besides"
            )
        return settings
    value = digest(file) if file.exists() else str(weights_hash)
    if not SHA256.fullmatch(value) or (weights_hash is not None and value != str(weights_hash)):
        meant = f"that of {WEIGHTS}, {value}" if file.exists() else "a SHA-256, of 64 hexadecimal digits"
        raise InputError(f"--weights_hash={weights_hash}: expected {meant}")
    if weights_url is None:
        if (size := file.stat().st_size) > LARGE:
            raise InputError(
                f"--weights={weights}: {size / 1e6:.0f} MB; the Model Zoo takes {LARGE // 10**6} MB at most: expected "
                "--weights_url of a download, or --weights_url=none for a package that stays here"
            )
        return settings
    url = optional(weights_url) or ""
    if not re.match(r"https://\S+$", url) and (url or not file.exists()):
        raise InputError(f"--weights_url={weights_url}: expected one that begins with https://")
    entry = {"path": WEIGHTS, "url": url, "hash_val": value, "hash_type": "sha256"}
    lines = [f"    {name}: {json.dumps(text)}\n" for name, text in entry.items()]
    (folder / "large_files.yml").write_text("large_files:\n" + "".join(lines).replace("    ", "  - ", 1))
    return settings


def _copy_weights(weights: str, file: Path, source: Path) -> Mapping[str, Any]:
    """Write a checkpoint again, without what it says of the machine that trained; return its metadata."""
    checkpoint = checkpoints.read(weights)
    config = ConfigParser.load_config_file(str(source / "configs/train.yaml"))
    said = checkpoint.metadata
    expected = {"bundle": source.name, "network": config["settings"]["network"], "modalities": config["modalities"]}
    for what, value in expected.items():
        if said.get(what, value if what == "bundle" else None) != value:  # a converted file does not say the bundle
            raise InputError(f"--weights={weights}: {what} {_text(said.get(what))}; expected {_text(value)}")
    metadata = {name: value for name, value in said.items() if name not in PRIVATE}
    file.parent.mkdir(parents=True)
    with file.open("wb") as target:
        torch.save({"network": checkpoint.state, "metadata": metadata}, target)
    return metadata


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "unknown")


def _hold_to_release(name: str, manifest: str) -> None:
    """Refuse other content under a version that was released."""
    record = ROOT / "releases" / f"{name}.sha256"
    if not record.is_file():
        return
    released, now = set(record.read_text().splitlines()), set(manifest.splitlines())
    if released != now:
        differing = sorted({line.split(maxsplit=1)[1] for line in released ^ now})
        raise InputError(
            f"{name}: released with other content (releases/{record.name}): {len(differing)} files differ, "
            f"first {differing[0]}; expected a new version in metadata.json and CHANGELOG.md, or the weights of then"
        )


def _uncommitted(bundle: str) -> list[str]:
    """Files that a package is made of and git does not have as they are; none outside of a git checkout."""
    if not (ROOT / ".git").exists():
        return []
    places = [f"bundles/{bundle}", "common", "docs", "scripts", "LICENSE", "CHANGELOG.md"]
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *places]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in shown.splitlines()]


def _replace(folder: Path, place: Path) -> None:
    """Give a package its place; one that is there goes, but only as it was built, so that nothing of others is lost."""
    if place.exists() or place.is_symlink():
        if not _is_as_built(place):
            raise InputError(f"{place}: not as it was built, or no package; expected nothing there that would be lost")
        place.rename(folder.with_name("before"))  # gone with the folder that this one was built in
    folder.rename(place)


def _is_as_built(place: Path) -> bool:
    """Whether a folder is a package of which the list of files beside it says all."""
    lists = [file.read_text() for file in place.parent.glob(f"{place.name}-*.sha256")]
    try:
        return not place.is_symlink() and place.is_dir() and listing(place, leave_out=large_files(place)) in lists
    except InputError:  # what no package has, such as a symlink
        return False


COMMANDS: dict[str, Callable[..., None]] = {"verify": verify, "release": release}

if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    cli.run(COMMANDS if chosen in COMMANDS else package, "package")
