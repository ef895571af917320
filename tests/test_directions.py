"""What a package may import: nothing above it; losses, metrics and networks know no options, files or trainings."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

ABOVE = {"scripts", "deploy", "studies", "tests"}
PURE = ABOVE | {f"common.{name}" for name in ("options", "training", "inference", "data")}
FORBIDDEN = {"common": ABOVE, "scripts": {"tests", "deploy"}, "deploy": {"tests"}}
FORBIDDEN |= dict.fromkeys(("common/ssl", "common/networks", "common/metrics"), PURE)
FORBIDDEN |= dict.fromkeys(("common/weights", "common/data"), ABOVE | {"common.training", "common.inference"})


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports from this repository, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_package_imports_nothing_above_it(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            assert not FORBIDDEN[folder] & {parts[0], ".".join(parts[:2])}, f"{path} imports {name}"
