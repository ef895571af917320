"""From your scans and label maps to a model and its evaluation: `python -m scripts.mine RAW --output=DIR`."""

import os
import shlex
import sys
from collections.abc import Sequence

from common.cli import run
from common.errors import ArgumentError, InputError, check_number, show
from common.files import existing_folder, expand_home, move_aside
from common.values import AUTO, DEVICE, flag, or_auto
from scripts.mine.data import find
from scripts.mine.plan import carry_out, read_plan, screen, write_plan

HOURS = 8.0  # longest training time


def mine(
    root: str | None = None,
    *,
    output: str,
    yes: bool = False,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    regions: str | None = None,
    person: str | None = None,
    hours: float | None = None,
    device: str | None = None,
) -> None:
    """Plan the steps from your scans to a model and its scores, show the plan, and run it.

    The plan is OUTPUT/plan.yaml, and its steps are commands that you can run yourself: prepare, datalists, train and
    evaluate. Without --yes the command ends after the plan or, in a terminal, asks whether to run it. You may edit the
    file and repeat the command: an existing plan is used as it is, unless an option has a new value, and finished steps
    are skipped unless their command or input has changed. Stale datalists, models and scores are moved aside; results
    of an earlier version are kept and named. See docs/how-to/one-command.md.

    Args:
        root: folder of the scans, each subject with a label map, in any layout that python -m scripts.datalists generic
            reads. Skull-stripped scans whose modalities share a grid are used as they are; others are prepared.
        output: folder of the plan and all results.
        yes: run the plan without asking.
        modalities: modalities to use, in channel order, such as T1,FLAIR; words of file names may follow, as in python
            -m scripts.datalists generic. By default the modalities of every subject with a label map.
        label: words at the end of label maps' names, or a pattern of the names; by default seg, label, mask and so on.
        regions: YAML file that names each region, outermost first; by default one region for each label value.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'.
        hours: longest training time, by default 8; the time of a step on this machine gives the number of steps.
        device: cpu or cuda; by default cuda if there is a GPU.
    """
    folder = expand_home(output, f"--output={output}").resolve()
    is_agreed = flag("yes", yes)
    here = folder / "plan.yaml"
    names = modalities if modalities is None or isinstance(modalities, str) else ",".join(modalities)
    options = {"modalities": names, "label": label, "regions": regions, "person": person}
    asked = options | {"hours": hours, "device": device}
    stated = {name: value for name, value in asked.items() if value is not None}
    made = read_plan(here) if here.exists() else {}
    if made and root is not None and str(expand_home(root, root).resolve()) != made["root"]:
        problem = f"the plan {here} is for {made['root']}"
        raise InputError(f"--root={root}", problem, "that folder, or a different --output")
    earlier = made.get("options", {})
    chosen = dict.fromkeys(options) | {"hours": HOURS, "device": AUTO} | earlier
    changes = [f"--{name}={value}" for name, value in stated.items() if value != chosen[name]]
    if changes or not made:
        chosen |= stated
        check_number("hours", chosen["hours"], float, 0.01, 10_000)
        processor = or_auto(DEVICE).parse("device", chosen["device"])
        if (place := root or made.get("root")) is None:
            raise ArgumentError("root", problem="missing", expected="the folder of your scans")
        data = find(existing_folder(place, f"--root={place}", "a folder of scans"), chosen)
        from scripts.mine.planning import make_plan  # late import: slow

        made = make_plan(data, chosen["person"], chosen["hours"], processor) | {"options": earlier | stated}
    lines = screen(made, folder)
    if here.exists() and changes:
        move_aside(here)
        show(f"planned anew for {' '.join(changes)}; the earlier plan, with your edits: {folder}/plan-*.yaml")
    write_plan(made, here)
    show(*lines)
    again = shlex.join(["python", "-m", "scripts.mine", f"--output={output}", "--yes"])
    if is_agreed or agrees():
        carry_out(made, folder)
    else:
        show("", f"you may edit {here}; to run the plan: {again}")


def agrees() -> bool:
    """Ask on the terminal whether to run the plan; return False without a terminal, and in a notebook."""
    is_in_notebook = "JPY_PARENT_PID" in os.environ  # whose terminal takes no input
    if is_in_notebook or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("\nRun this plan? [y/N] ").strip().lower() in ("y", "yes")


if __name__ == "__main__":
    run(mine, "mine")
