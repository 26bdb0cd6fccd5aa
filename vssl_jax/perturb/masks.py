"""Which tokens an encoder sees: static counts, random ids.

The one idea: a mask is two sorted lists of token ids of fixed length, not a boolean array, so gathers have static shapes and nothing
recompiles. Every mask ranks the tokens of one example by a random score from that example's key, and cuts the ranking at fixed places.
Token ids run over the grid in (t, h, w) order.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vssl_jax.errors import BELOW_1, Limit, UserError, at_least, check_limits

Grid = tuple[int, int, int]  # tokens along (time, height, width)


class MaskIds(NamedTuple):
    """Token ids, int32, ascending in each row. The two lists are disjoint; together they are all tokens, except for MultiBlock."""

    visible_BxV: jax.Array
    masked_BxM: jax.Array


def membership(ids_BxM: jax.Array, tokens: int) -> jax.Array:
    """bool [B, tokens]: which tokens are in the row's list."""
    empty_BxN = jnp.zeros((ids_BxM.shape[0], tokens), bool)
    return jax.vmap(lambda row_N, ids_M: row_N.at[ids_M].set(True))(empty_BxN, ids_BxM)


def _cut(score_N: jax.Array, visible: int, masked: int) -> tuple[jax.Array, jax.Array]:
    """The ids of the `visible` lowest and of the `masked` highest scores, ascending. Equal scores count in token order."""
    order_N = jnp.argsort(score_N).astype(jnp.int32)
    return jnp.sort(order_N[:visible]), jnp.sort(order_N[order_N.shape[0] - masked :])


def _check_ratio(ratio: float) -> None:
    check_limits("objective", mask_ratio=(ratio, BELOW_1))


@dataclass(frozen=True)
class Tube:
    """The same places hidden in every time slot, so a token cannot be copied from the slot before (VideoMAE, section 3.2).

    int(ratio * h * w) tokens of each slot are masked: at 0.9 on (8, 14, 14) 176 of 196, which leaves 160 of 1568; at 0.75, 392.
    """

    ratio: float

    def __post_init__(self):
        _check_ratio(self.ratio)

    def counts(self, grid: Grid) -> tuple[int, int]:
        """(visible, masked) tokens of a clip."""
        slots, places = grid[0], grid[1] * grid[2]
        masked = int(self.ratio * places)
        return slots * (places - masked), slots * masked

    def __call__(self, keys_B: jax.Array, grid: Grid) -> MaskIds:
        slots, places = grid[0], grid[1] * grid[2]
        masked = int(self.ratio * places)
        starts_Tx1 = places * jnp.arange(slots, dtype=jnp.int32)[:, None]

        def one(key):
            visible_v, masked_m = _cut(jax.random.uniform(key, (places,)), places - masked, masked)
            return (starts_Tx1 + visible_v).reshape(-1), (starts_Tx1 + masked_m).reshape(-1)

        return MaskIds(*jax.vmap(one)(keys_B))


@dataclass(frozen=True)
class Random:
    """Tokens hidden anywhere in space and time (MAE as spatiotemporal learners, section 3.1).

    Of N tokens int(N * (1 - ratio)) stay: 156 of 1568 at 0.9.
    """

    ratio: float

    def __post_init__(self):
        _check_ratio(self.ratio)

    def counts(self, grid: Grid) -> tuple[int, int]:
        """(visible, masked) tokens of a clip."""
        tokens = math.prod(grid)
        visible = int(tokens * (1 - self.ratio))
        return visible, tokens - visible

    def __call__(self, keys_B: jax.Array, grid: Grid) -> MaskIds:
        visible, masked = self.counts(grid)
        return MaskIds(*jax.vmap(lambda key: _cut(jax.random.uniform(key, (math.prod(grid),)), visible, masked))(keys_B))


@dataclass(frozen=True)
class RunningCell:
    """VideoMAE V2's decoder mask (section 3.2): a 2x2 cell in which the hidden places run around by one per time slot.

    `visible` are the tokens the decoder does decode. The cell, read row by row, starts as int(4*ratio) hidden places followed by decoded
    ones; the start is one of four, drawn per example. At 0.5 every place is decoded in exactly 2 of any 4 slots in a row, and 784 of 1568
    tokens are decoded.
    """

    ratio: float = 0.5

    def __post_init__(self):
        if not 1 <= int(4 * self.ratio) <= 3:
            raise UserError(
                f"objective.mask_ratio is {self.ratio}: a running cell hides 1, 2 or 3 of 4 places, so it must be from 0.25 to below 1"
            )

    def counts(self, grid: Grid) -> tuple[int, int]:
        """(visible, masked) tokens of a clip. Raises UserError where cells don't tile the grid."""
        if grid[1] % 2 or grid[2] % 2:
            raise UserError(
                f"a running cell mask needs an even number of tokens along height and width, the encoder has {grid[1]}x{grid[2]}: change model.size"
            )
        masked = math.prod(grid) // 4 * int(4 * self.ratio)
        return math.prod(grid) - masked, masked

    def __call__(self, keys_B: jax.Array, grid: Grid) -> MaskIds:
        visible, masked = self.counts(grid)
        t, h, w = jnp.meshgrid(*(jnp.arange(n) for n in grid), indexing="ij")
        place_N = (2 * (h % 2) + w % 2 + t + 1).reshape(-1)  # the first slot has already run by one

        def one(key):
            start = jax.random.bits(key) % 4
            return _cut((place_N + start) % 4 < int(4 * self.ratio), visible, masked)

        return MaskIds(*jax.vmap(one)(keys_B))


@dataclass(frozen=True)
class Cuboids:
    """How blocks of tokens are drawn, (low, high) of each: shares of the plane's area and of the time axis, and the aspect (height / width, log-uniform)."""

    area: tuple[float, float] = (0.15, 0.15)
    aspect: tuple[float, float] = (0.75, 1.5)
    time: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self):
        share = Limit("(low, high) with 0 < low <= high <= 1", lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1)
        aspect = Limit("(low, high) with 0 < low <= high", lambda value: len(value) == 2 and 0 < value[0] <= value[1])
        check_limits("objective.mask.shape", area=(self.area, share), aspect=(self.aspect, aspect), time=(self.time, share))

    def draw(self, key: jax.Array, grid: Grid, shape: tuple[int, ...]) -> jax.Array:
        """bool [*shape, N]: the tokens of independent blocks, clamped to the grid, at least one token long on each axis.

        All blocks come from one draw: a split per block and number would multiply the compile time.
        """
        area, aspect, time, *places = jnp.moveaxis(jax.random.uniform(key, (*shape, 6)), -1, 0)
        area = grid[1] * grid[2] * (self.area[0] + area * (self.area[1] - self.area[0]))
        aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** aspect
        time = grid[0] * (self.time[0] + time * (self.time[1] - self.time[0]))
        inside = []
        for side, place, limit in zip((time, jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)), places, grid, strict=True):
            side = jnp.clip(jnp.round(side), 1, limit)
            start = jnp.floor(place * (limit - side + 1))
            at = jnp.arange(limit)
            inside.append((at >= start[..., None]) & (at < (start + side)[..., None]))
        block = inside[0][..., :, None, None] & inside[1][..., None, :, None] & inside[2][..., None, None, :]
        return block.reshape(*shape, math.prod(grid))


@dataclass(frozen=True)
class Block:
    """Blocks laid down one after another until exactly round(ratio * N) tokens are hidden (MaskFeat's cubes; BEVT's tubes, of all the time).

    The block that would go past the count is hidden in part, at random; where `blocks` of them cover too little, the rest is hidden at
    random.
    """

    ratio: float
    blocks: int = 32
    shape: Cuboids = Cuboids(area=(0.1, 0.4), aspect=(0.3, 1 / 0.3), time=(0.1, 1.0))

    def __post_init__(self):
        _check_ratio(self.ratio)
        check_limits("objective.mask", blocks=(self.blocks, at_least(1)))

    def counts(self, grid: Grid) -> tuple[int, int]:
        """(visible, masked) tokens of a clip."""
        masked = round(self.ratio * math.prod(grid))
        return math.prod(grid) - masked, masked

    def __call__(self, keys_B: jax.Array, grid: Grid) -> MaskIds:
        visible, masked = self.counts(grid)

        def one(key):
            noise_key, block_key = jax.random.split(key)
            covered_LxN = self.shape.draw(block_key, grid, (self.blocks,))
            first_N = jnp.where(covered_LxN.any(0), covered_LxN.argmax(0), self.blocks)  # the block that hides a token first
            return _cut(jax.random.uniform(noise_key, first_N.shape) - first_N, visible, masked)

        return MaskIds(*jax.vmap(one)(keys_B))


@dataclass(frozen=True)
class MultiBlock:
    """V-JEPA's masks (section 3.2) with fixed lengths: the union of some blocks is hidden, and predicted from tokens outside it.

    The union's size varies, the lengths can't: surplus tokens on either side are dropped at random and belong to neither list. The first of
    `attempts` drawn unions that has room for both lengths is used; where none has, the last one is, and the lists are filled up at random
    across the union's border. On (8, 14, 14): visible=360, masked=760 for 8 blocks of 0.15; visible=104, masked=1120 for 2 blocks of 0.7.
    """

    visible: int
    masked: int
    blocks: int = 8
    shape: Cuboids = Cuboids()
    attempts: int = 8

    def __post_init__(self):
        check_limits("objective.mask", blocks=(self.blocks, at_least(1)), attempts=(self.attempts, at_least(1)))

    def counts(self, grid: Grid) -> tuple[int, int]:
        """(visible, masked) tokens of a clip. Raises UserError where the grid has fewer."""
        if min(self.visible, self.masked) < 1 or self.visible + self.masked > math.prod(grid):
            wanted = f"{self.visible} visible and {self.masked} masked tokens"
            raise UserError(
                f"a multi-block mask of {wanted} does not fit a grid of {math.prod(grid)} tokens: set objective.mask.visible and masked, 1 or more of each"
            )
        return self.visible, self.masked

    def __call__(self, keys_B: jax.Array, grid: Grid) -> MaskIds:
        visible, masked = self.counts(grid)

        def one(key):
            noise_key, union_key = jax.random.split(key)
            union_AxN = self.shape.draw(union_key, grid, (self.attempts, self.blocks)).any(1)
            size_A = union_AxN.sum(1)
            fits_A = ((size_A >= masked) & (union_AxN.shape[1] - size_A >= visible)).at[-1].set(True)
            union_N = union_AxN[fits_A.argmax()]
            return _cut(jax.random.uniform(noise_key, union_N.shape) + union_N, visible, masked)

        return MaskIds(*jax.vmap(one)(keys_B))


Mask = Tube | Random | RunningCell | Block | MultiBlock
MASKS: dict[str, type[Mask]] = {"tube": Tube, "random": Random, "running_cell": RunningCell, "block": Block, "multi_block": MultiBlock}
