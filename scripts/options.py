"""The options of a bundle: `python -m scripts.options BUNDLE`."""

import json
import re
from pathlib import Path
from typing import Any

from common.errors import aligned, choice, show
from common.values import OPTIONS
from scripts import cli
from scripts.configs import BUNDLES
from scripts.run import bundles_with
from scripts.yaml_files import read_yaml

WORKFLOWS = ("train", "evaluate", "inference")


def options(bundle: str, workflow: str | None = None) -> None:
    """Print the options of a bundle: name, default, accepted values, and meaning.

    Args:
        bundle: name of a bundle, such as brats_finetune.
        workflow: train, evaluate or inference; by default all workflows of the bundle.
    """
    folder = BUNDLES / choice("bundle", bundle, bundles_with("train.yaml")) / "configs"
    files = {name: folder / f"{name}.yaml" for name in WORKFLOWS if (folder / f"{name}.yaml").is_file()}
    for file in files.values() if workflow is None else [choice("workflow", workflow, files)]:
        rows = aligned(options_of(file))
        show(f"{bundle}/configs/{file.name}: --OPTION=VALUE", *(f"  {row}" for row in rows), "")


def options_of(config: Path) -> list[tuple[str, str, str, str]]:
    """Return name, default, values and meaning (the comment) of a config's options, in its order."""
    meanings = dict(re.findall(r"^(\w+):.*\s# (.*)", config.read_text(encoding="utf-8"), re.MULTILINE))
    return [
        (name, _default(value), OPTIONS[name].values, meanings.get(name, ""))
        for name, value in read_yaml(config).items()
        if name in OPTIONS and name != "bundle_root"
    ]


def _default(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if match := re.fullmatch(r"\$@trained\.get\('\w+', (.+)\)", value):
        return f"the checkpoint's, else {match[1]}"
    if match := re.fullmatch(r"\$@bundle_root \+ '/(.*)'", value):
        return match[1]
    return "computed" if value.startswith(("$", "@")) else value


if __name__ == "__main__":
    cli.run(options, "options")
