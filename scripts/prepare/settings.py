"""The settings of a preparation, from the command's options."""

from collections.abc import Sequence
from typing import Any

from common.errors import InputError, check_number, choice
from common.prepare.brain import BRAINS, DEEPBET, check_installed, is_pattern
from common.prepare.subject import Settings, default_reference
from common.prepare.targets import COHORT_SETTINGS, TARGETS
from common.values import flag

PATTERN = "*_brain.nii.gz, say, for masks of your own"


def settings_of(
    like: str | None,
    target: str | None,
    modalities: str | Sequence[str] | None,
    reference: str | None,
    dof: int | None,
    brain: str | None,
    bias_correction: bool,
    spacing: float,
    device: str,
) -> Settings:
    """Check the options of `python -m scripts.prepare` and fill in defaults."""
    cohort = None if like is None else choice("like", like, COHORT_SETTINGS)
    names = _names(modalities, cohort and cohort.modalities)
    space = target if target is not None else cohort and cohort.target
    if space is None:
        raise InputError(
            f"--target: missing; expected one of {', '.join(TARGETS)}, or --like={'|'.join(COHORT_SETTINGS)}"
        )
    choice("target", space, TARGETS)
    chosen_brain = brain if brain is not None else cohort.brain if cohort else DEEPBET
    if not (isinstance(chosen_brain, str) and is_pattern(chosen_brain)):
        choice("brain", chosen_brain, dict.fromkeys((*BRAINS, PATTERN)))
        check_installed(chosen_brain)
    choice("device", device, dict.fromkeys(("cpu", "cuda")))
    chosen = default_reference(names) if reference is None else reference
    choice("reference", chosen, dict.fromkeys(names))
    if dof not in (None, 6, 12):
        raise InputError(f"--dof={dof}: expected 6 or 12")
    check_number("spacing", spacing, float, 1, 4)
    return Settings(
        target=space,
        modalities=names,
        reference=chosen,
        dof=TARGETS[space].dof if dof is None else dof,
        brain=chosen_brain,
        bias_correction=flag("bias_correction", bias_correction),
        spacing=float(spacing),
        device=device,
    )


def _names(modalities: Any, default: tuple[str, ...] | None) -> tuple[str, ...]:
    if modalities is None and default is None:
        raise InputError("--modalities: missing; expected names such as [T1,FLAIR], or --like")
    given = default if modalities is None else modalities
    names = (
        tuple(given.split(",")) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    )
    if not names or not all(isinstance(name, str) and name.isalnum() for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"--modalities={modalities}: expected different names of letters and digits, such as [T1,FLAIR]"
        )
    return names
