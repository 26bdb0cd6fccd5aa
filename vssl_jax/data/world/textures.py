"""Surfaces as functions of a point: exact at any scale and angle, so sprites can move by fractions of a pixel.

Only +, -, *, /, sqrt and floor on float32 are used, which IEEE 754 fixes to the bit: numpy's sin and tanh differ in their last bits from
one processor to another, and pixels must not. Hence the polynomial sine, and x / sqrt(1 + x^2) where a tanh would do.
"""

from dataclasses import dataclass

import numpy as np

from vssl_jax.data.world.draws import Draws

# name -> (gratings, how their directions are spread in turns, squash gain)
KINDS: dict[str, tuple[int, float, float]] = {
    "striped": (1, 0.0, 4.0),
    "plaid": (2, 0.25, 2.5),
    "spotted": (3, 1 / 6, 1.5),
    "marbled": (4, 0.37, 1.5),
}


def sine(turns: np.ndarray) -> np.ndarray:
    """sin(2 pi turns) to 0.001, the same on every machine: a parabola and its square."""
    x = turns - np.floor(turns + np.float32(0.5))
    y = 8 * x * (1 - 2 * np.abs(x))
    return y * (np.float32(0.775) + np.float32(0.225) * np.abs(y))


@dataclass(frozen=True)
class Gratings:
    """base + swing * squash(sum of sines): `waves` float32 [N,3] are cycles per unit in u and v, and a phase in turns; base and swing are
    colors [3]."""

    waves: np.ndarray
    gain: float
    base: np.ndarray
    swing: np.ndarray

    def sample(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The color float32 [..., 3] at the points (u, v), float32 [...]."""
        total = 0.0
        for fu, fv, phase in self.waves:
            total = total + sine(fu * u + fv * v + phase)
        total = total * np.float32(self.gain / len(self.waves))
        squashed = total / np.sqrt(1 + total * total)
        return self.base + squashed[..., None] * self.swing


@dataclass(frozen=True)
class Patch:
    """A piece of a picture, float32 [h,w,3], repeated by mirroring so that it has no seam: period 2h in v and 2w in u, in pixels."""

    pixels_HxWx3: np.ndarray

    def mean_color(self) -> np.ndarray:
        """float64 [3]."""
        return self.pixels_HxWx3.mean((0, 1), dtype=np.float64)

    def sample(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The color float32 [..., 3] at the points (u, v), bilinear."""
        r0, r1, r = _fold(v, self.pixels_HxWx3.shape[0])
        c0, c1, c = _fold(u, self.pixels_HxWx3.shape[1])
        top = self.pixels_HxWx3[r0, c0] * (1 - c) + self.pixels_HxWx3[r0, c1] * c
        bottom = self.pixels_HxWx3[r1, c0] * (1 - c) + self.pixels_HxWx3[r1, c1] * c
        return top * (1 - r) + bottom * r


def _fold(points: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirrors coordinates into a row of n pixels: the pixel below, the one above, and the weight of the latter [..., 1]."""
    m = points - np.floor(points / (2 * n)).astype(np.float32) * (2 * n)
    x = np.clip(np.minimum(m, 2 * n - m) - np.float32(0.5), 0, n - 1)
    low = np.minimum(x.astype(np.int32), n - 1)
    return low, np.minimum(low + 1, n - 1), (x - low)[..., None].astype(np.float32)


def draw_sprite_surface(draws: Draws, kind: str, color: np.ndarray) -> Gratings:
    """A texture of the kind (a key of KINDS) around a color; u and v in pixels, wavelengths 5 to 9 pixels."""
    count, spread, gain = KINDS[kind]
    turn = draws.uniform()
    waves = []
    for j in range(count):
        frequency = 1 / draws.uniform(5.0, 9.0)
        fu, fv = sine(np.array([turn + j * spread + 0.25, turn + j * spread], np.float32)) * np.float32(frequency)
        waves.append((fu, fv, draws.uniform()))
    swing = np.array([draws.uniform(0.15, 0.3) for _ in range(3)], np.float32) * draws.choice((-1, 1))
    return Gratings(np.array(waves, np.float32), gain, color.astype(np.float32), swing)


def draw_background(draws: Draws, color: np.ndarray, size: int) -> Gratings:
    """A faint texture around a color with whole numbers of waves on the torus; u and v in pixels."""
    waves = []
    while len(waves) < 4:
        wave = (draws.integer(-5, 5), draws.integer(-5, 5))
        if wave != (0, 0):
            waves.append((wave[0] / size, wave[1] / size, draws.uniform()))
    swing = np.array([draws.uniform(0.06, 0.14) * draws.choice((-1, 1)) for _ in range(3)], np.float32)
    return Gratings(np.array(waves, np.float32), 2.0, color.astype(np.float32), swing)


def draw_patch(draws: Draws, pictures: list[np.ndarray], side: int) -> Patch:
    """A square of side x side pixels from one of the pictures (float32 [h,w,3])."""
    picture = draws.choice(pictures)
    top, left = (draws.integer(0, picture.shape[axis] - side) for axis in (0, 1))
    return Patch(np.ascontiguousarray(picture[top : top + side, left : left + side]))
