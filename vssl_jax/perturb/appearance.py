"""A clip's colors and noise changed by levels that a method asks about.

Every level goes through the same arithmetic, level 0 too, whose amounts change nothing: no rounding tells it from the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.perturb import color as color_lib

# name -> (the change by an amount, the amount that changes nothing)
ADJUSTMENTS: dict[str, tuple[Callable[[jax.Array, jax.Array], jax.Array], float]] = {
    "brightness": (color_lib.adjust_brightness, 1.0),
    "contrast": (color_lib.adjust_contrast, 1.0),
    "saturation": (color_lib.adjust_saturation, 1.0),
    "hue": (color_lib.adjust_hue, 0.0),
}


@dataclass(frozen=True)
class AppearanceLevels:
    """Draws a level of color and, independently, a level of noise for a clip, each as likely.

    Attributes:
        adjust: which property of the colors, a key of ADJUSTMENTS; the levels are amounts as in perturb/color.py (factors, or turns of the color wheel).
        color_levels: level 0 changes nothing (1, of hue 0).
        noise_levels: standard deviations of normal noise in a range of 1; level 0 is 0. It is added after the color is changed, drawn for
            every pixel, channel and frame, and what leaves [0, 1] is cut off: in black and white areas half of it is.
    """

    adjust: str = "saturation"
    color_levels: tuple[float, ...] = (1.0, 0.6, 0.3, 0.0)
    noise_levels: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)

    def __post_init__(self):
        if self.adjust not in ADJUSTMENTS:
            raise unknown_name("adjustment", self.adjust, ADJUSTMENTS)
        for name, levels, nothing in (
            ("color_levels", self.color_levels, ADJUSTMENTS[self.adjust][1]),
            ("noise_levels", self.noise_levels, 0.0),
        ):
            if len(set(levels)) != len(levels) or len(levels) < 2 or levels[0] != nothing or min(levels) < 0:
                raise UserError(
                    f"objective.{name} is {levels}: it must be two or more different amounts of 0 or more, the first {nothing:g}, which changes nothing"
                )
        if self.adjust == "hue" and max(self.color_levels) >= 1:
            raise UserError(
                f"objective.color_levels is {self.color_levels}: hues are turns of the color wheel, of which 1 is 0 again: give some below 1"
            )

    def __call__(self, key: jax.Array, rgb_TxHxWx3: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(the clip changed, in [0, 1]; its levels of color and of noise, int32 [2])."""
        color_key, noise_key, pixel_key = jax.random.split(key, 3)
        color = jax.random.randint(color_key, (), 0, len(self.color_levels), jnp.int32)
        noise = jax.random.randint(noise_key, (), 0, len(self.noise_levels), jnp.int32)
        change, _ = ADJUSTMENTS[self.adjust]
        changed = change(rgb_TxHxWx3, jnp.asarray(self.color_levels, jnp.float32)[color])
        deviation = jnp.asarray(self.noise_levels, jnp.float32)[noise]
        changed = jnp.clip(changed + deviation * jax.random.normal(pixel_key, changed.shape), 0, 1)
        return changed, jnp.stack([color, noise])
