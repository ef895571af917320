"""Build the package `brainsegfounder_bundles` from `common/`, whose own name many projects use; docs/python.md."""

from setuptools import find_packages, setup

NAME = "brainsegfounder_bundles"

setup(
    packages=[NAME, *(f"{NAME}.{package}" for package in find_packages("common"))],
    package_dir={NAME: "common"},
    package_data={"": ["*.json", "*.css", "*.j2", "*.js"]},
)
