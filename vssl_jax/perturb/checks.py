"""What settings of views have in common: each mistake is one line that says what the setting must be."""

import math
from typing import Any

from vssl_jax.errors import UserError


def check_probability(name: str, prob: float) -> None:
    if not 0 <= prob <= 1:
        raise UserError(f"{name} has prob={prob}: a probability is from 0 to 1")


def check_range(name: str, values: Any, least: float, most: float = math.inf, whole: bool = False) -> None:
    """Raises UserError unless the values are (low, high), least <= low <= high <= most, and whole numbers where so asked."""
    kind = int if whole else (int, float)
    right = isinstance(values, tuple) and len(values) == 2 and all(isinstance(x, kind) for x in values)
    if not (right and least <= values[0] <= values[1] <= most):
        limits = f"from {least:g}" + (f" to {most:g}" if most < math.inf else "")
        raise UserError(f"{name} is {values}: it must be (low, high), {'whole numbers ' if whole else ''}{limits}")
