"""The directions between packages: what each may import of the repository, and nothing else."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

ALLOWED = {  # see docs/architecture.md; a package may always import itself
    "common": {"common.memory"},  # the lazy `__init__`
    "common.errors": set(),
    "common.files": {"common.errors"},
    "common.locks": {"common.errors"},
    "common.cli": {"common.errors"},
    "common.values": {"common", "common.errors", "common.data"},
    "common.configs": {"common.cli", "common.errors"},
    "common.memory": {"common.errors"},
    "common.options": {
        *{"common.configs", "common.errors", "common.locks", "common.memory", "common.values", "common.data"},
    },
    "common.ssl": {"common", "common.errors"},
    "common.baselines": {"common", "common.errors", "common.ssl"},
    "common.metrics": {"common", "common.errors"},
    "common.weights": {"common", "common.errors", "common.files"},
    "common.data": {"common", "common.errors", "common.files"},
    "common.inference": {
        *{"common", "common.errors", "common.files", "common.locks"},
        *{"common.ssl", "common.metrics", "common.weights", "common.data"},
    },
    "common.prepare": {"common", "common.errors", "common.metrics", "common.data"},
    "common.pages": {
        *{"common", "common.errors", "common.files"},
        *{"common.metrics", "common.data", "common.inference"},
    },
    "common.training": {
        *{"common", "common.errors", "common.files", "common.cli", "common.memory", "common.options", "common.values"},
        *{"common.ssl", "common.metrics", "common.weights", "common.data"},
    },
    "deploy": {
        "common",
        "common.errors",
        "common.files",
        "common.locks",
        "common.cli",
        "common.options",
        "common.values",
        "common.weights",
        "common.data",
        "common.metrics",
        "common.prepare",
    },
    "scripts": {"common", "common.*", "deploy"},
}


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "common":
        return parts[0]
    return "common" if parts[1] == "__init__" else ".".join(parts[:2])


def imported(path: Path) -> set[str]:
    """The packages of the repository that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        for name in names:
            top, _, rest = name.partition(".")
            if top in ("scripts", "deploy", "tests"):
                found.add(top)
            elif top == "common":
                second = rest.split(".")[0]
                is_module = (ROOT / "common" / second).is_dir() or (ROOT / "common" / f"{second}.py").is_file()
                found.add(f"common.{second}" if second and is_module else "common")
    return found


def sources() -> list[Path]:
    folders = ("common", "deploy", "scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_what_its_package_may(path):
    package = package_of(path)
    allowed = ALLOWED[package] | {package}
    wrong = {
        name
        for name in imported(path)
        if name not in allowed and not ("common.*" in allowed and name.startswith("common."))
    }
    assert wrong == set(), f"{package} may import {', '.join(sorted(allowed))}"


def test_the_rules_name_every_package_once():
    assert ALLOWED.keys() == {package_of(path) for path in sources()}


def test_no_rule_is_wider_than_the_code():
    """A direction that no module uses is taken away, so that nobody begins to use it unnoticed."""
    used = {}
    for path in sources():
        used.setdefault(package_of(path), set()).update(imported(path))
    unused = {package: sorted(allowed - used[package] - {"common", "common.*"}) for package, allowed in ALLOWED.items()}
    assert {package: names for package, names in unused.items() if names} == {}


def test_directions_have_no_circle():
    seen: list[str] = []
    left = {package: {name for name in allowed if name in ALLOWED} for package, allowed in ALLOWED.items()}
    while left:
        free = [package for package, needs in left.items() if needs <= set(seen) | {package}]
        assert free, f"a circle among {', '.join(left)}"
        seen += free
        left = {package: needs for package, needs in left.items() if package not in free}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT / "tests"))
)
def test_tests_do_not_import_one_another_or_private_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            module, names = node.module, [alias.name for alias in node.names]
            assert not any(part.startswith("test_") or part == "conftest" for part in module.split(".")), module
            assert not any(name.startswith(("test_", "_")) and name != "__main__" for name in names), names
