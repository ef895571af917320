"""Build the package `brainsegfounder_bundles` from `common/`, whose own name many projects use; docs/python.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

NAME = "brainsegfounder_bundles"
COMMON = re.compile(r"\bcommon(?=\.[a-z]| import )")  # `common.ssl`, `from common import`: statements and docstrings


class RenamedBuild(build_py):
    """Write the modules of `common` so that they import each other under their installed name."""

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, bool]:
        file, is_copied = super().build_module(module, module_file, package)
        text = Path(file).read_text(encoding="utf-8")
        Path(file).write_text(COMMON.sub(NAME, text), encoding="utf-8")
        return file, is_copied


setup(
    packages=[NAME, *(f"{NAME}.{package}" for package in find_packages("common"))],
    package_dir={NAME: "common"},
    package_data={"": ["*.json", "*.css", "*.j2", "*.js"]},
    cmdclass={"build_py": RenamedBuild},
)
