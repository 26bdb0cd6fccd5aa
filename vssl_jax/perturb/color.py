"""Color operations on one clip, the same for all its frames, but for `EachFrame`.

An operation is a frozen dataclass called with (key, rgb_TxHxWx3), values in [0, 1], and gives the same back, clipped to [0, 1]. Where it has a
`prob`, it is applied to a clip with that probability. Factors are torchvision's (brightness and contrast multiply; most published recipes state them
so), solarize is dm-pix's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np

from vssl_jax.errors import UserError, at_least, between, check_limits
from vssl_jax.perturb.checks import check_probability, check_range

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # BT.601 luma


def maybe(key: jax.Array, prob: float, changed: jax.Array, rgb: jax.Array) -> jax.Array:
    """`changed` with the given probability, else `rgb`."""
    return jnp.where(jax.random.bernoulli(key, float(prob)), changed, rgb)


def luma(rgb: jax.Array) -> jax.Array:
    """[..., 1]: the gray value of RGB [..., 3]."""
    return sum(weight * rgb[..., c : c + 1] for c, weight in enumerate(GRAY_WEIGHTS))


def adjust_brightness(rgb: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales all values."""
    return jnp.clip(rgb * factor, 0, 1)


def adjust_contrast(rgb: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the distance from the clip's mean gray: one mean for all frames, so that the frames of a clip all change alike."""
    mean = luma(rgb).mean()
    return jnp.clip(mean + (rgb - mean) * factor, 0, 1)


def adjust_saturation(rgb: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the distance from each pixel's own gray: 0 gives gray, 1 the input."""
    gray = luma(rgb)
    return jnp.clip(gray + (rgb - gray) * factor, 0, 1)


def adjust_hue(rgb: jax.Array, turn: jax.Array) -> jax.Array:
    """Turns the color wheel (HSV) by `turn` of a full circle.

    Not dm-pix's, which asks whether a channel equals the maximum: compilers recompute the one with other rounding than the other, and the
    wrong branch then gives a wrong color. Here the branches meet where the comparisons change sides, so rounding does no harm. It is also
    no slower.
    """
    red, green, blue = rgb[..., :1], rgb[..., 1:2], rgb[..., 2:]
    low = jnp.minimum(jnp.minimum(red, green), blue)
    chroma = jnp.maximum(jnp.maximum(red, green), blue) - low
    is_red, is_green = (red >= green) & (red >= blue), green >= blue
    offset = jnp.where(is_red, 0.0, jnp.where(is_green, 2.0, 4.0))
    slope = jnp.where(is_red, green - blue, jnp.where(is_green, blue - red, red - green))
    hue = offset + slope / jnp.maximum(chroma, 1e-12) + 6 * turn  # in sixths of the circle
    hue = hue - 6 * jnp.floor(hue / 6)
    ramps = jnp.concatenate([jnp.abs(hue - 3) - 1, 2 - jnp.abs(hue - 2), 2 - jnp.abs(hue - 4)], axis=-1)
    return jnp.clip(low + chroma * jnp.clip(ramps, 0, 1), 0, 1)


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation (a factor from [max(0, 1 - x), 1 + x] each) and hue (a turn from [-hue, hue]).

    In this order; with `shuffle` in an order drawn per clip, which computes every operation at each of the four places.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    prob: float = 1.0
    shuffle: bool = False

    def __post_init__(self):
        check_probability("color jitter", self.prob)
        strengths = {name: (getattr(self, name), at_least(0)) for name in ("brightness", "contrast", "saturation")}
        check_limits("jitter", **strengths, hue=(self.hue, between(0, 0.5)))

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        amount_key, order_key, prob_key = jax.random.split(key, 3)
        strengths = (self.brightness, self.contrast, self.saturation)
        low = jnp.array([max(0.0, 1 - x) for x in strengths] + [-self.hue])
        high = jnp.array([1 + x for x in strengths] + [self.hue])
        amount_4 = jax.random.uniform(amount_key, (4,), minval=low, maxval=high)
        functions = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
        used = [i for i, strength in enumerate((*strengths, self.hue)) if strength > 0]
        changed = rgb
        if self.shuffle:
            branches = [lambda x, a, f=functions[i], i=i: f(x, a[i]) for i in used]
            order = jax.random.permutation(order_key, len(used))
            for place in range(len(used)):
                changed = jax.lax.switch(order[place], branches, changed, amount_4)
        else:
            for i in used:
                changed = functions[i](changed, amount_4[i])
        return maybe(prob_key, self.prob, changed, rgb)


@dataclass(frozen=True)
class Gray:
    """All three channels set to the luma."""

    prob: float = 0.2

    def __post_init__(self):
        check_probability("gray", self.prob)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        return maybe(key, self.prob, jnp.broadcast_to(luma(rgb), rgb.shape), rgb)


@dataclass(frozen=True)
class Solarize:
    """Inverts the values that are at or above the threshold."""

    prob: float = 0.2
    threshold: float = 0.5

    def __post_init__(self):
        check_probability("solarize", self.prob)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        return maybe(key, self.prob, pix.solarize(rgb, self.threshold), rgb)


@dataclass(frozen=True)
class Gamma:
    """Every value to a power that is uniform in `power`: above 1 darkens, below brightens."""

    power: tuple[float, float] = (0.75, 1.25)
    prob: float = 1.0

    def __post_init__(self):
        check_probability("gamma", self.prob)
        check_range("gamma's power", self.power, 0.0)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        power_key, prob_key = jax.random.split(key)
        changed = jnp.maximum(rgb, 0) ** jax.random.uniform(power_key, minval=self.power[0], maxval=self.power[1])
        return maybe(prob_key, self.prob, changed, rgb)


@dataclass(frozen=True)
class DropChannel:
    """One of the three channels, drawn per clip, becomes zero."""

    prob: float = 1.0

    def __post_init__(self):
        check_probability("drop channel", self.prob)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        which_key, prob_key = jax.random.split(key)
        return maybe(prob_key, self.prob, rgb * (jnp.arange(3) != jax.random.randint(which_key, (), 0, 3)), rgb)


Chain = tuple[Callable[[jax.Array, jax.Array], jax.Array], ...]


def _one_by_one(chain: Chain, key: jax.Array, rgb: jax.Array) -> jax.Array:
    for i, op in enumerate(chain):
        rgb = op(jax.random.fold_in(key, i), rgb)
    return rgb


@dataclass(frozen=True)
class EachFrame:
    """A chain of operations, drawn for every frame anew."""

    chain: Chain = ()

    def __post_init__(self):
        if not self.chain:
            raise UserError("each_frame has no chain of operations")

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        return jax.vmap(lambda k, frame: _one_by_one(self.chain, k, frame[None])[0])(jax.random.split(key, len(rgb)), rgb)


@dataclass(frozen=True)
class OneOf:
    """At most one of several chains of operations: the i-th with probability `probs[i]`, and with what is left of 1 none. Each chain is computed."""

    chains: tuple[Chain, ...] = ()
    probs: tuple[float, ...] = ()

    def __post_init__(self):
        right = isinstance(self.probs, tuple) and all(isinstance(prob, int | float) and prob >= 0 for prob in self.probs)
        if not (right and 0 < len(self.chains) == len(self.probs) and sum(self.probs) <= 1 + 1e-6):
            raise UserError(
                f"one_of has {len(self.chains)} chains and probs={self.probs}: it must be a probability of each, in all at most 1"
            )

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        which_key, key = jax.random.split(key)
        uniform, out = jax.random.uniform(which_key), rgb
        for chain, low, high in zip(self.chains, np.cumsum([0, *self.probs]), np.cumsum(self.probs), strict=False):
            out = jnp.where((uniform >= low) & (uniform < high), _one_by_one(chain, key, rgb), out)
        return out


@dataclass(frozen=True)
class OneChannel:
    """One of the three channels, drawn per clip, in place of all of them (Lee et al. 2017, section 3.2): no color and no chromatic aberration
    tells which frame is near which.
    """

    prob: float = 1.0

    def __post_init__(self):
        check_probability("one channel", self.prob)

    def __call__(self, key: jax.Array, rgb: jax.Array) -> jax.Array:
        which_key, prob_key = jax.random.split(key)
        channel = jnp.take(rgb, jax.random.randint(which_key, (), 0, 3), axis=-1)[..., None]
        return maybe(prob_key, self.prob, jnp.broadcast_to(channel, rgb.shape), rgb)
