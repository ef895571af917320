"""Versions of bundles and their releases, which are immutable: releases/BUNDLE_vVERSION.sha256 fixes the content."""

import re
import subprocess
from pathlib import Path

from common.errors import InputError, show
from common.files import atomic_write, valid_json
from scripts.package.check import newest

__all__ = ["check_releasable", "check_released", "folder_of", "record", "version_of"]

ROOT = Path(__file__).resolve().parents[2]


def folder_of(bundle: str) -> Path:
    """The folder of a bundle of this repository.

    Raises:
        InputError: there is no such bundle.
    """
    known = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs/metadata.json").is_file())
    if bundle not in known:
        raise InputError(f"bundle {bundle}: expected one of {', '.join(known)}")
    return ROOT / "bundles" / bundle


def version_of(source: Path) -> str:
    """The version of a bundle.

    Raises:
        InputError: metadata.json, its changelog and CHANGELOG.md disagree, or metadata.json cannot be read.
    """
    metadata = valid_json(
        source / "configs/metadata.json", "a bundle's metadata", name=f"{source.name}: configs/metadata.json"
    )
    last = re.findall(r"\[(.+?)\]", "".join(_headings()))[:1]
    versions = {"metadata.json's version": metadata.get("version"), "CHANGELOG.md": last[0] if last else "nothing"}
    versions["metadata.json's changelog"] = newest(metadata.get("changelog", {}), source.name)
    if len(set(versions.values())) > 1:
        raise InputError(
            f"{source.name}: versions differ: " + ", ".join(f"{where} {what}" for where, what in versions.items())
        )
    return metadata["version"]


def _headings() -> list[str]:
    """The headings of versions in CHANGELOG.md, the newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"## \[\d", line)]


def check_releasable(bundle: str) -> None:
    """Check that a bundle can be released.

    Raises:
        InputError: its version has no date in CHANGELOG.md, or a source has uncommitted changes.
    """
    version = version_of(folder_of(bundle))
    heading = next(line for line in _headings() if version in line)
    if not re.search(r"\d{4}-\d{2}-\d{2}", heading):
        raise InputError(
            f"CHANGELOG.md: {heading.strip()}; expected the day of the release, such as [{version}] - 2026-01-31"
        )
    if changed := _uncommitted(bundle):
        raise InputError(f"{changed[0]}: not committed; expected committed files, from which releases are built")


def _uncommitted(bundle: str) -> list[str]:
    """Sources of a package with uncommitted changes; none outside a git checkout."""
    if not (ROOT / ".git").exists():
        return []
    places = [f"bundles/{bundle}", "common", "docs", "scripts", "LICENSE", "CHANGELOG.md"]
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *places]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in shown.splitlines()]


def check_released(name: str, manifest: str) -> None:
    """Check that a package of a released version has the content of the release.

    Args:
        name: BUNDLE_vVERSION.
        manifest: SHA-256 and name of each file.

    Raises:
        InputError: the content differs.
    """
    record = ROOT / "releases" / f"{name}.sha256"
    if not record.is_file():
        return
    released, now = set(record.read_text().splitlines()), set(manifest.splitlines())
    if released != now:
        differing = sorted({line.split(maxsplit=1)[1] for line in released ^ now})
        raise InputError(
            f"{name}: released with other content (releases/{record.name}): {len(differing)} files differ, "
            f"first {differing[0]}; expected a new version in metadata.json and CHANGELOG.md, or that release's weights"
        )


def record(bundle: str, manifest: Path) -> None:
    """Fix the content of a version in releases/.

    Args:
        bundle: name of the bundle.
        manifest: BUNDLE_vVERSION.sha256 of the package.
    """
    file = ROOT / "releases" / manifest.name
    with atomic_write(file) as temporary:
        temporary.write_text(manifest.read_text())
    version = version_of(folder_of(bundle))
    show(f"{file.relative_to(ROOT)}: commit it; from now on {bundle} {version} is immutable")
