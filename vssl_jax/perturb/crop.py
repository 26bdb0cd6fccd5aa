"""Where to cut: boxes drawn inside the picture, never touching the canvas around it.

A crop is a frozen dataclass with `draw(key, extent_2, size) -> box_4`, for one clip, traceable, with a fixed number of draws (no loop that
ends when it is lucky). A box is float32 (top, left, height, width) in pixels; drawn boxes have whole numbers. `size` is the (rows, columns)
of the output.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import UserError
from vssl_jax.perturb.checks import check_range


def _place(uniform_2: jax.Array, extent_2: jax.Array, sides_2: jax.Array) -> jax.Array:
    """A box of whole-numbered sides at a whole-numbered place: every place is equally likely for uniform_2 in [0, 1)."""
    return jnp.concatenate([jnp.floor(uniform_2 * (extent_2 - sides_2 + 1)), sides_2])


def centered(extent_2: jax.Array, size: tuple[int, int], fraction: float = 1.0, position: float = 0.5) -> jax.Array:
    """The middle box of the output's aspect that fills `fraction` of the largest such box.

    `position` from 0 to 1 moves it from end to end of the picture's longer side. For size s this is "resize the short side to s / fraction,
    then crop s": a fractional box, float32 [4].
    """
    extent_2 = extent_2.astype(jnp.float32)
    sides_2 = jnp.array(size, jnp.float32)
    sides_2 = sides_2 * (fraction * (extent_2 / sides_2).min())
    along_2 = jnp.where(extent_2[0] > extent_2[1], jnp.array([position, 0.5]), jnp.array([0.5, position]))
    return jnp.concatenate([(extent_2 - sides_2) * along_2, sides_2])


@dataclass(frozen=True)
class CenterCrop:
    """The largest middle box of the output's aspect, shrunk to `fraction` (224 / 256 is the customary "resize 256, crop 224").

    Draws nothing.
    """

    fraction: float = 1.0

    def __post_init__(self):
        if not 0 < self.fraction <= 1:
            raise UserError(f"center crop fraction is {self.fraction}: it must be above 0 and at most 1")

    def draw(self, key: jax.Array, extent_2: jax.Array, size: tuple[int, int]) -> jax.Array:
        del key
        return centered(extent_2, size, self.fraction)


@dataclass(frozen=True)
class WholePicture:
    """All of the picture, whatever its aspect. Draws nothing."""

    def draw(self, key: jax.Array, extent_2: jax.Array, size: tuple[int, int]) -> jax.Array:
        del key, size
        return jnp.concatenate([jnp.zeros(2), extent_2]).astype(jnp.float32)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Inception's crop (Szegedy et al. 2015, section 6).

    A uniform share of the picture's area and a log-uniform aspect (width / height), at a uniform place.
    `attempts` boxes are drawn at once and the first that fits is used. Where none fits: the whole picture, or where its aspect is outside
    `aspect` the middle box of the nearest allowed aspect.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    attempts: int = 10

    def __post_init__(self):
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"crop area is {self.area}: it must be (low, high) with 0 < low <= high <= 1")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"crop aspect is {self.aspect}: it must be (low, high) with 0 < low <= high")

    def draw(self, key: jax.Array, extent_2: jax.Array, size: tuple[int, int]) -> jax.Array:
        del size
        height, width = extent_2.astype(jnp.float32)
        uniform = jax.random.uniform(key, (2 * self.attempts + 2,))
        area_A = height * width * (self.area[0] + uniform[: self.attempts] * (self.area[1] - self.area[0]))
        aspect_A = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** uniform[self.attempts : -2]
        sides_Ax2 = jnp.round(jnp.stack([jnp.sqrt(area_A / aspect_A), jnp.sqrt(area_A * aspect_A)], -1))
        fits_A = ((sides_Ax2 >= 1) & (sides_Ax2 <= extent_2)).all(-1)
        box_4 = _place(uniform[-2:], extent_2, jnp.where(fits_A.any(), sides_Ax2[fits_A.argmax()], 1.0))

        sides_2 = jnp.stack(
            [jnp.minimum(height, jnp.round(width / self.aspect[0])), jnp.minimum(width, jnp.round(height * self.aspect[1]))]
        )
        fallback_4 = jnp.concatenate([jnp.floor((extent_2 - sides_2) / 2), sides_2])
        return jnp.where(fits_A.any(), box_4, fallback_4)


# The places of VideoMAE's crops, in quarters of the free room (down, right): the corners and the middle; then the middles of the sides and
# of the quadrants.
_FIVE_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
_THIRTEEN_PLACES = (*_FIVE_PLACES, (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


@dataclass(frozen=True)
class MultiScaleCrop:
    """TSN's multi-scale crop, which VideoMAE pretrains with (Wang et al. 2016, section 3.2).

    Each side is a scale of the picture's shorter side, rounded down; the two scales are at most `distort` apart in the list; a side within
    2 pixels of the output's is the output's (but never larger than the picture). All such pairs are equally likely, and so are all
    `places`: 13, or 5, on a grid of whole quarters of the free room; or 0 for a uniform place.
    """

    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    distort: int = 1
    places: int = 13

    def __post_init__(self):
        if not self.scales or not all(0 < s <= 1 for s in self.scales):
            raise UserError(f"multi-scale crop scales are {self.scales}: each must be above 0 and at most 1")
        if self.places not in (0, 5, 13):
            raise UserError(f"multi-scale crop has places={self.places}: it must be 13 or 5 (fixed places) or 0 (anywhere)")

    def draw(self, key: jax.Array, extent_2: jax.Array, size: tuple[int, int]) -> jax.Array:
        pair, *place = jax.random.uniform(key, (3,))
        steps = range(len(self.scales))
        pairs = np.array([(i, j) for i in steps for j in steps if abs(i - j) <= self.distort])
        pair_2 = jnp.asarray(pairs)[jnp.floor(pair * len(pairs)).astype(jnp.int32)]
        sides_2 = jnp.floor(extent_2.min() * jnp.array(self.scales, jnp.float32))[pair_2]
        size_2 = jnp.array(size, jnp.float32)
        sides_2 = jnp.where(jnp.abs(sides_2 - size_2) < 3, jnp.minimum(size_2, extent_2), sides_2)
        sides_2 = jnp.maximum(sides_2, 1)
        if self.places == 0:
            return _place(jnp.stack(place), extent_2, sides_2)
        places = jnp.array(_THIRTEEN_PLACES if self.places == 13 else _FIVE_PLACES)
        place_2 = places[jnp.floor(place[0] * self.places).astype(jnp.int32)]
        quarter_2 = jnp.floor((extent_2 - sides_2) / 4)
        return jnp.concatenate([place_2 * quarter_2, sides_2])


@dataclass(frozen=True)
class SquareCrop:
    """A square whose side is a uniform share, of `side`, of the picture's shorter side, rounded down; at a uniform place (Dave et al. 2022)."""

    side: tuple[float, float] = (0.6, 1.0)

    def __post_init__(self):
        check_range("square crop's side", self.side, 0, 1)

    def draw(self, key: jax.Array, extent_2: jax.Array, size: tuple[int, int]) -> jax.Array:
        del size
        share, *place = jax.random.uniform(key, (3,))
        side = jnp.maximum(jnp.floor(extent_2.min() * (self.side[0] + share * (self.side[1] - self.side[0]))), 1)
        return _place(jnp.stack(place), extent_2, jnp.stack([side, side]))
