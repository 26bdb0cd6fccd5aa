"""Outlines of sprites in polar form: radius(angle) = 1 + sum of a_m cos(m angle - phase_m).

The angle itself is never computed: cos(m angle) and sin(m angle) are powers of the unit vector, so the outline is exact arithmetic like the
textures.
"""

from dataclasses import dataclass

import numpy as np

from vssl_jax.data.world.draws import Draws
from vssl_jax.data.world.textures import sine

# name -> ((m, amplitude), ...); blob is drawn anew for each sprite
KINDS: dict[str, tuple[tuple[int, float], ...]] = {
    "disc": (),
    "oval": ((2, 0.22),),
    "triangle": ((3, 0.18),),
    "square": ((4, 0.10),),
    "star": ((5, 0.25),),
    "blob": ((2, 0.12), (3, 0.12), (5, 0.08)),
}


@dataclass(frozen=True)
class Outline:
    """`harmonics` is ((m, a_m cos phase_m, a_m sin phase_m), ...) in units of the sprite's radius."""

    harmonics: tuple[tuple[int, float, float], ...]

    @property
    def reach(self) -> float:
        """No point of the outline is farther out than this."""
        return 1 + sum((a * a + b * b) ** 0.5 for _, a, b in self.harmonics)

    def radius(self, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        """The outline's radius in the directions (cos, sin), any shape, float32."""
        out = np.ones_like(cos)
        power_cos, power_sin, power = np.ones_like(cos), np.zeros_like(cos), 0
        for m, a, b in self.harmonics:  # m rises
            for _ in range(m - power):
                power_cos, power_sin = power_cos * cos - power_sin * sin, power_cos * sin + power_sin * cos
            power = m
            out = out + np.float32(a) * power_cos + np.float32(b) * power_sin
        return out


def draw_outline(draws: Draws, kind: str) -> Outline:
    """An outline of the kind (a key of KINDS) at a random angle."""
    turn = draws.uniform()  # of the whole shape; the lobes of a blob turn freely
    harmonics = []
    for m, amplitude in KINDS[kind]:
        phase = draws.uniform() if kind == "blob" else m * turn
        cos, sin = sine(np.array([phase + 0.25, phase], np.float32))
        harmonics.append((m, amplitude * float(cos), amplitude * float(sin)))
    return Outline(tuple(harmonics))
