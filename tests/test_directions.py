"""Each package imports only the packages that `ALLOWED` lists."""

import ast
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
