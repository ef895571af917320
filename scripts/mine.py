"""From your scans and label maps to a model and its evaluation: `python -m scripts.mine RAW --output=DIR`."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from common import ROOT
from common.errors import show
from common.files import atomic_write, existing_folder, move_aside
from common.values import AUTO
from scripts import cli


def mine(
    root: str,
    *,
    output: str,
    yes: bool = False,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    regions: str | None = None,
    person: str | None = None,
    hours: float = 8.0,
    device: str = AUTO,
) -> None:
    """Plan the commands from your scans to a model and its scores and, with --yes, run them.

    The plan is a shell script, OUTPUT/plan.sh, with regions.yaml beside it. You may edit both: they stay until you give
    other options, which move them aside. Repeat the command to continue.

    Args:
        root: folder of the scans, each subject with a label map; skull-stripped scans on one grid are used as they are.
        output: folder of the plan and all results.
        yes: run the plan.
        modalities: modalities to take, as for python -m scripts.datalists generic.
        label: last words or pattern of label maps' names, as there.
        regions: YAML file that names each region, as there; by default regions.yaml in `root`, or lesion if all labels
            are 1.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'.
        hours: time for the training; the time of a step on this machine gives the number of steps.
        device: cpu or cuda; by default cuda if there is a GPU.
    """
    scans, folder = existing_folder(root, f"--root={root}", "a folder of scans").resolve(), Path(output).expanduser()
    folder = folder.resolve()
    script, named = folder / "plan.sh", folder / "regions.yaml"
    options = modalities, label, regions, person, hours, device
    title = f"# Plan of scripts.mine for {[str(scans), *options]}; see docs/how-to/one-command.md"
    if not script.is_file() or script.read_text(encoding="utf-8").splitlines()[:1] != [title]:
        from scripts.planning import plan  # late import: slow

        commands, region_labels = plan(scans, folder, *options)
        move_aside(script)
        move_aside(named)
        with atomic_write(named) as file:
            file.write_text(yaml.safe_dump(region_labels, sort_keys=False, default_flow_style=None), encoding="utf-8")
        with atomic_write(script) as file:
            file.write_text("\n".join([title, *lines_of(commands, folder)]), encoding="utf-8")
    show("", *script.read_text(encoding="utf-8").splitlines())
    if yes and (status := subprocess.run(["bash", script], check=False).returncode):
        raise SystemExit(status)


def lines_of(commands: Sequence[Sequence[str]], folder: Path) -> list[str]:
    """Return the lines of a shell script that runs the commands, as words after `python -m`, and stops at a failure.

    Status 1 of a command that leaves out subjects, and has written its datalist, is no failure.
    """
    lines = ["set -e", f"cd {shlex.quote(str(ROOT))}", f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    leaving = {"scripts.prepare": "prepared/datalist.json", "check": "checked.json"}
    for words in commands:
        options = [shlex.quote(word) for word in words if word.startswith("-")]
        line = " \\\n  ".join([shlex.join(["python", "-m", *words[: len(words) - len(options)]]), *options])
        for word, name in leaving.items():
            if word in words[:2]:
                product = shlex.quote(str(folder / name))
                line = f"rm -f {product}\n{line} \\\n  || test -f {product}  # subjects may be left out"
        lines += ["", line]
    return [*lines, ""]


if __name__ == "__main__":
    cli.run(mine, "mine")
