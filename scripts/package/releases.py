"""Versions of bundles and their immutable releases: releases/BUNDLE_vVERSION.sha256 fixes the content."""

import re
import subprocess
from pathlib import Path

from common.errors import InputError, show
from common.files import atomic_write, valid_json

ROOT = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"^## \[(\d[^]]*)\](.*)", re.MULTILINE)  # of a version in CHANGELOG.md, the newest first


def folder_of(bundle: str) -> Path:
    """The folder of a bundle of this repository."""
    known = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs/metadata.json").is_file())
    if bundle not in known:
        raise InputError(f"bundle {bundle}: expected one of {', '.join(known)}")
    return ROOT / "bundles" / bundle


def version_of(source: Path) -> str:
    """The version of a bundle.

    Raises an InputError if it is not the newest in CHANGELOG.md and in the bundle's changelog.
    """
    place = f"{source.name}: configs/metadata.json"
    metadata = valid_json(source / "configs/metadata.json", "a bundle's metadata", name=place)
    version, (newest, _) = metadata.get("version"), _newest()
    if version != newest or version not in metadata.get("changelog", {}):
        raise InputError(
            f"{source.name}: metadata.json's version is {version}; expected {newest}, the newest of CHANGELOG.md, with "
            "an entry in metadata.json's changelog"
        )
    return version


def _newest() -> tuple[str, str]:
    """The newest version in CHANGELOG.md, and the rest of its heading."""
    found = HEADING.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    return (found[1], found[2]) if found else ("nothing", "")


def check_releasable(bundle: str) -> None:
    """Check that the version has a date in CHANGELOG.md and that no source has uncommitted changes."""
    version, day = version_of(folder_of(bundle)), _newest()[1]
    if not re.search(r"\d{4}-\d{2}-\d{2}", day):
        raise InputError(
            f"CHANGELOG.md: [{version}]{day}; expected the day of the release, such as [{version}] - 2026-01-31"
        )
    places = [f"bundles/{bundle}", "common", "docs", "scripts", "LICENSE", "CHANGELOG.md"]
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *places]
    for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
        raise InputError(f"{line[3:]}: not committed; expected committed files, from which releases are built")


def check_released(name: str, manifest: str) -> None:
    """Check that BUNDLE_vVERSION, if released, has the content of its release."""
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


def record(manifest: Path) -> None:
    """Fix the content of a version: copy its BUNDLE_vVERSION.sha256 to releases/."""
    file = ROOT / "releases" / manifest.name
    with atomic_write(file) as temporary:
        temporary.write_text(manifest.read_text())
    show(f"{file.relative_to(ROOT)}: commit it; from now on this version is immutable")
