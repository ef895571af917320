"""Length of a training run, from options in iterations or epochs."""

from fractions import Fraction
from math import ceil, isqrt, log
from typing import NamedTuple

from ..errors import ArgumentError
from ..options import Options


class Length(NamedTuple):
    """Length of a training run in optimiser steps (`iterations`, a multiple of `val_interval`) and in epochs.

    In an epoch, each training case is read once on average.
    """

    iterations: int
    val_interval: int
    warmup_iterations: int
    epochs: float


def steps_in(length: int | str, cases: int, cases_per_step: int) -> int:
    """Return a length in iterations, or in epochs such as "5 epochs", as optimiser steps, rounded up.

    `cases` and `cases_per_step` are totals over all processes.
    """
    return length if isinstance(length, int) else ceil(Fraction(length.split()[0]) * cases / cases_per_step)


def length(options: Options, cases: int, cases_per_step: int) -> Length:
    """Return the length of a training run from its options; raise `ArgumentError` if they are inconsistent.

    With `iterations` in steps, `val_interval` becomes the divisor of `iterations` with the closest ratio to it. In
    epochs, `iterations` is rounded up to whole steps, then to whole intervals. `cases` and `cases_per_step` are totals
    over all processes.

    Example:
        >>> length(Options(iterations="600 epochs", val_interval="5 epochs", warmup_iterations=500), 555, 4)
        Length(iterations=83280, val_interval=694, warmup_iterations=500, epochs=600.22)
        >>> length(Options(iterations=80, val_interval=120, warmup_iterations=10), 12, 1)[:2]
        (80, 80)
    """
    names = ("iterations", "val_interval", "warmup_iterations")
    iterations, interval, warmup = (steps_in(getattr(options, name), cases, cases_per_step) for name in names)
    if options.iterations == iterations:
        low = [number for number in range(1, isqrt(iterations) + 1) if iterations % number == 0]
        divisors = [*low, *(iterations // number for number in low)]
        interval = min(divisors, key=lambda divisor: abs(log(divisor / interval)))
    else:
        if iterations < interval:
            expected = f"at least val_interval={options.val_interval}"
            raise ArgumentError("iterations", options.iterations, expected=expected)
        iterations = ceil(iterations / interval) * interval
    if warmup > iterations:
        expected = f"at most iterations={options.iterations}"
        raise ArgumentError("warmup_iterations", options.warmup_iterations, expected=expected)
    return Length(iterations, interval, warmup, round(iterations * cases_per_step / cases, 2))
