"""The wheel: `common` as brainsegfounder_bundles, and the command `brainsegfounder` with a copy of the checkout."""

from setuptools import find_namespace_packages, setup

CHECKOUT = "brainsegfounder.checkout."
CODE = find_namespace_packages(include=["common*"])
CONFIGS = find_namespace_packages(include=["bundles.*.configs"])  # but not the models and results of a bundle
BUNDLES = [name.removesuffix(".configs") + folder for name in CONFIGS for folder in ("", ".configs", ".docs")]
COPIED = [*CODE, *find_namespace_packages(include=["scripts*", "studies*"]), "bundles", *BUNDLES]
setup(
    packages=[
        *("brainsegfounder_bundles" + name.removeprefix("common") for name in CODE),
        *("brainsegfounder", *(CHECKOUT + name for name in COPIED)),
    ],
    package_dir={"brainsegfounder_bundles": "common", "brainsegfounder": "wheel"}
    | {CHECKOUT + name: name for name in ("common", "scripts", "bundles", "studies")},
)
