"""Each package imports only the packages that `ALLOWED` lists."""

import ast
import re
from pathlib import Path

from tests.support import ROOT

ALLOWED = {  # see docs/explanation/architecture.md; `common` is the lazy `__init__`; a package may always import itself
    package: {name if name in ("common", "common.*", "deploy") else f"common.{name}" for name in names.split()}
    for package, names in {
        "common": "",
        "common.bars": "errors",
        "common.components": "",
        "common.drawing": "",
        "common.errors": "",
        "common.files": "errors schemas",
        "common.schemas": "errors",
        "common.locks": "errors files",
        "common.cli": "environment errors files literals memory",
        "common.environment": "bars common drawing errors memory",
        "common.literals": "",
        "common.values": "common errors literals data",
        "common.memory": "errors",
        "common.options": "environment errors locks memory resolver values ssl metrics data",
        "common.resolver": "errors",
        "common.configs": "common errors files literals options",
        "common.ssl": "common errors",
        "common.baselines": "common errors ssl",
        "common.metrics": "common components errors",
        "common.weights": "common errors files values",
        "common.made": "cli errors files weights",
        "common.data": "common bars components errors files made memory schemas",
        "common.inference": "common configs drawing errors files locks made memory schemas ssl metrics values "
        "weights data",
        "common.prepare": "common bars errors metrics data",
        "common.pages": "common components drawing errors files made metrics data inference",
        "common.training": "common bars drawing errors files made memory options resolver values "
        "ssl metrics weights data",
        "deploy": "common drawing environment errors files literals locks cli configs options values "
        "weights data metrics prepare inference",
        "scripts": "common common.*",
    }.items()
}


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "common":
        return parts[0]
    return "common" if parts[1] == "__init__" else ".".join(parts[:2])


def names_in(path: Path) -> list[str]:
    """Return the modules and names that a file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            module = [*package, node.module] if node.module else package
            names += [".".join([*module, alias.name]) for alias in node.names]
    return names


def imported(path: Path) -> set[str]:
    """Return the packages of the repository that a file imports."""
    packages = set()
    for name in names_in(path):
        top, _, rest = name.partition(".")
        if top in ("scripts", "deploy", "tests"):
            packages.add(top)
        elif top == "common":
            second = rest.split(".")[0]
            is_module = (ROOT / "common" / second).is_dir() or (ROOT / "common" / f"{second}.py").is_file()
            packages.add(f"common.{second}" if second and is_module else "common")
    return packages


def sources() -> list[Path]:
    folders = ("common", "deploy", "scripts")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_a_module_imports_what_its_package_may():
    packages: dict[str, set[str]] = {}
    for path in sources():
        packages.setdefault(package_of(path), set()).update(imported(path))
    for package, names in packages.items():
        assert {name for name in names if f"{name.split('.')[0]}.*" not in ALLOWED[package]} <= (
            ALLOWED[package] | {package}
        ), package


def test_one_module_imports_matplotlib():
    """Otherwise a user's settings would change pictures."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if any(name.split(".")[0] == "matplotlib" for name in names_in(path))
    }
    assert users == {"common/drawing.py"}


def test_the_picture_has_the_allowed_arrows():
    """Arrows to helpers, and arrows that other arrows imply, may be missing."""
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    arrows: dict[str, set[str]] = {}
    for starts, targets in re.findall(r"^  ([\w &]+) --> ([\w &]+)$", page, re.MULTILINE):
        for source in starts.split(" & "):
            arrows.setdefault(source, set()).update(targets.split(" & "))
    helpers = {
        "common",
        "errors",
        "environment",
        "files",
        "schemas",
        "locks",
        "memory",
        "bars",
        "components",
        "drawing",
        "values",
        "cli",
        "literals",
    }
    for package in ALLOWED.keys() - {"scripts"}:  # which may import everything
        name, allowed = package.removeprefix("common."), {other.removeprefix("common.") for other in ALLOWED[package]}
        reached = drawn = arrows.get(name, set())
        while further := {target for source in reached for target in arrows.get(source, ())} - reached:
            reached = reached | further
        assert drawn <= allowed, name
        assert name in helpers or allowed - helpers <= reached, name


def test_tests_do_not_import_one_another_or_private_names():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {alias.name for alias in node.names} - {"__main__"}
                assert not any(name.startswith(("test_", "_")) for name in names), f"{path}: {names}"
                parts = node.module.split(".")
                assert not any(part.startswith("test_") or part == "conftest" for part in parts), f"{path}: {parts}"
