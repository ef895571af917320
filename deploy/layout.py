"""Lay out a packaged bundle as MONAI Deploy's packager expects it: `python -m deploy.layout PACKAGE --output=DIR`."""

import shutil
from pathlib import Path

import yaml

from common import ROOT
from common.errors import InputError, show
from common.files import read_json
from scripts.cli import run

PINS = ("common/requirements.txt", "requirements.txt", "deploy/requirements.txt")
RESOURCES = {"cpu": 2, "gpu": 0, "memory": "8Gi"}


def lay_out(package: str, output: str) -> None:
    """Write OUTPUT/app, the application, OUTPUT/models, the bundle, and a Dockerfile; print the packager's command.

    Args:
        package: folder that `python -m scripts.package` wrote, with weights.
        output: new folder.
    """
    source, target = Path(package), Path(output)
    if not (source / "models/model.pt").is_file():
        raise InputError(f"{source}/models/model.pt", "no such file", "a package with weights")
    metadata = read_json(source / "configs/metadata.json")
    target.mkdir(parents=True)
    shutil.copytree(source, target / "models" / source.name)
    for name in ("deploy", "scripts"):
        shutil.copytree(ROOT / name, target / "app" / name, ignore=shutil.ignore_patterns("__pycache__", "packaged"))
    shutil.copyfile(ROOT / "deploy/packaged/__main__.py", target / "app/__main__.py")
    shutil.copyfile(ROOT / "deploy/packaged/Dockerfile", target / "Dockerfile")
    shutil.copyfile(ROOT / "deploy/requirements.lock", target / "requirements.lock")
    pins = [(ROOT / name).read_text().partition("# make test")[0] for name in PINS]  # without the tests' tools
    (target / "app/requirements.txt").write_text("".join(pins).replace("-r common/requirements.txt\n", ""))
    formats = {"inputFormats": ["file"], "outputFormats": ["file"]}
    application = {"title": metadata["name"], "version": metadata["version"], **formats}
    content = yaml.safe_dump({"application": application, "resources": RESOURCES}, sort_keys=False)
    (target / "app/app.yaml").write_text(content)
    show(
        f"holoscan package {target}/app --config {target}/app/app.yaml --models {target}/models --sdk monai-deploy "
        f"--platform x86_64 --tag {source.name.replace('_', '-')}:{metadata['version']}"
    )


if __name__ == "__main__":
    run(lay_out, "deploy.layout")
