"""Mixing pairs of clips and their targets: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), one draw for a group of clips as in timm's batch mode,
where the group is what one GPU has.

A clip is mixed with the one at the mirrored place of its group, so the result depends on which clips share it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vssl_jax.errors import UserError, at_least, between, check_limits
from vssl_jax.perturb.checks import check_probability


@dataclass(frozen=True)
class NoMix:
    """Clips and targets as they are."""

    def __call__(self, key: jax.Array, clip_BxTxHxWx3: jax.Array, target_BxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        return clip_BxTxHxWx3, target_BxC


@dataclass(frozen=True)
class Mix:
    """Mixup with Beta(mixup, mixup) or CutMix with Beta(cutmix, cutmix), CutMix with probability `switch`; with probability `prob` at all.

    0 for `mixup` or `cutmix` leaves that one out. The box of CutMix is the same in all frames; the target's share is the box's true area
    after clipping. `group` is how many clips in a row share a draw; 0: the whole (micro-)batch.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch: float = 0.5
    group: int = 0

    def __post_init__(self):
        check_probability("mix", self.prob)
        check_limits("mix", mixup=(self.mixup, at_least(0)), cutmix=(self.cutmix, at_least(0)), switch=(self.switch, between(0, 1)))
        if self.mixup == self.cutmix == 0:
            raise UserError("mix.mixup and mix.cutmix are both 0: raise one of them, or leave mix empty for none")

    def __call__(self, key: jax.Array, clip_BxTxHxWx3: jax.Array, target_BxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mixed clips, mixed targets [B,C]). Raises UserError where the clips are no whole number of groups."""
        count = len(clip_BxTxHxWx3)
        group = self.group if self.group else count
        if count % group:
            raise UserError(
                f"mix.group={group} does not divide the {count} clips of a (micro-)batch: choose a divisor, or 0 for all of them"
            )
        keys_G = jax.random.split(key, count // group)
        cut = lambda x: x.reshape(count // group, group, *x.shape[1:])  # noqa: E731
        mixed = jax.vmap(self._mix)(keys_G, cut(clip_BxTxHxWx3), cut(target_BxC))
        return tuple(x.reshape(count, *x.shape[2:]) for x in mixed)

    def _mix(self, key: jax.Array, clip_BxTxHxWx3: jax.Array, target_BxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        on_key, switch_key, mix_key, cut_key, box_key = jax.random.split(key, 5)
        on = jax.random.bernoulli(on_key, self.prob)
        switch = 1.0 if self.mixup == 0 else 0.0 if self.cutmix == 0 else self.switch
        cut = jax.random.bernoulli(switch_key, switch)
        share = jnp.where(on, _beta(mix_key, self.mixup), 1.0)
        inside_HxW, cut_share = self._box(cut_key, box_key, clip_BxTxHxWx3.shape[2:4])
        other, other_target = clip_BxTxHxWx3[::-1], target_BxC[::-1]
        blended = (share * clip_BxTxHxWx3 + (1.0 - share) * other).astype(clip_BxTxHxWx3.dtype)
        pasted = jnp.where((inside_HxW & on)[None, None, :, :, None], other, clip_BxTxHxWx3)
        weight = jnp.where(cut, jnp.where(on, cut_share, 1.0), share)
        return jnp.where(cut, pasted, blended), weight * target_BxC + (1.0 - weight) * other_target

    def _box(self, cut_key: jax.Array, box_key: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """(bool [H,W] inside the box, the share of the picture outside it)."""
        side = jnp.sqrt(1.0 - _beta(cut_key, self.cutmix))
        center_y, center_x = jnp.floor(jax.random.uniform(box_key, (2,)) * jnp.array(size, jnp.float32))

        def inside(center, length):
            position = jnp.arange(length)
            half = jnp.floor(jnp.floor(side * length) / 2)
            return (position >= center - half) & (position < center + half)

        box = inside(center_y, size[0])[:, None] & inside(center_x, size[1])[None, :]
        return box, 1.0 - jnp.mean(box.astype(jnp.float32))


def _beta(key: jax.Array, alpha: float) -> jax.Array:
    """A draw of Beta(alpha, alpha); 1 for alpha 0, which is never used then (and would be NaN)."""
    return jax.random.beta(key, alpha, alpha) if alpha > 0 else jnp.ones(())
