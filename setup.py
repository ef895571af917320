"""The wheel's packages: those of common/, by the name that pyproject.toml gives it."""

from setuptools import find_packages, setup

FOUND = find_packages(include=["common", "common.*"])
setup(packages=["brainsegfounder_bundles" + name.removeprefix("common") for name in FOUND])
