"""Optimizers, as a function of the step.

The one idea: the learning rate and the weight decay are functions of the state's step, given to the update, not of a count inside the
optimizer. A step that the guard refuses then leaves the optimizer's state untouched and the schedule still moves on.

Weight decay and layer-wise rates go by path, because scanned layers stack biases to two dimensions and "one-dimensional" no longer names
them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vssl_jax.errors import UserError, unknown_name
from vssl_jax.train.sharding import path_name

Schedule = Callable[[jax.Array], jax.Array]

# First match wins; a parameter that none matches is an error. Biases, norms and learned tokens are not decayed (VideoMAE, MAE_ST, V-JEPA
# alike).
DECAY_RULES = (
    (r"(^|/)\w*bias$", False),
    (r"/scale$", False),
    (r"(^|/)\w*(token|tokens|pos_embed|query)$", False),
    (r"/(kernel|embedding)$", True),
)


class Optimizer(NamedTuple):
    """init(params) -> state; update(grads, norm, state, params, step) -> (updates, state), `norm` the `global_norm` of the gradients; scalars(step) -> what
    the log shows of the schedules; `named`: the parts that have a factor on their rate; `frozen`: patterns of the parameters that do not move.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, jax.Array, Any, Any, jax.Array], tuple[Any, Any]]
    scalars: Callable[[jax.Array], dict[str, jax.Array]]
    named: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from `start` at step 0 to `peak` at step `warmup`, then half a cosine to `final` at step `total` - 1; constant at `peak`
    with decay='none'; with decay='steps' a tenth of what it was after each of the shares `drops` of `total`. With decay='whole_cosine' the half cosine
    begins at step 0, and the warm-up rises to where it is by then (PySlowFast's).
    """

    peak: float
    total: int
    warmup: int = 0
    start: float = 0.0
    final: float = 0.0
    decay: str = "cosine"
    drops: tuple[float, ...] = ()

    def __post_init__(self):
        kinds = ("cosine", "whole_cosine", "linear", "none", "steps")
        if self.decay not in kinds:
            raise unknown_name("schedule", self.decay, kinds)
        if bool(self.drops) != (self.decay == "steps") or not all(0 < share < 1 for share in self.drops):
            raise UserError(f"optimizer.drops is {self.drops}: it is for schedule='steps', shares of train.steps between 0 and 1")
        if self.warmup > self.total:
            raise UserError(
                f"optimizer.warmup_steps={self.warmup} is more than the {self.total} steps of the training (with optimizer.by_turn: of a turn): lower "
                "it, or train longer"
            )

    def __call__(self, step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        top = self._down(jnp.float32(self.warmup)) if self.decay == "whole_cosine" else self.peak
        up = self.start + (top - self.start) * step / max(self.warmup, 1)
        return jnp.where(step < self.warmup, up, self._down(step))

    def _down(self, step: jax.Array) -> jax.Array:
        """The rate without a warm-up."""
        if self.decay == "none":
            return jnp.float32(self.peak)
        if self.decay == "steps":
            return self.peak * 0.1 ** sum((step >= share * self.total).astype(jnp.float32) for share in self.drops)
        begin = 0 if self.decay == "whole_cosine" else self.warmup
        t = jnp.clip((step - begin) / max(self.total - 1 - begin, 1), 0.0, 1.0)
        fall = 1.0 - t if self.decay == "linear" else 0.5 * (1.0 + jnp.cos(jnp.pi * t))
        return self.final + (self.peak - self.final) * fall


def global_norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all leaves together, float32."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)))


def decay_mask(params: Any, rules=DECAY_RULES) -> Any:
    """True where weight decay applies. Raises ValueError for a parameter that no rule names."""

    def one(path, _):
        name = path_name(path)
        for pattern, decayed in rules:
            if re.search(pattern, name):
                return decayed
        raise ValueError(f"no weight-decay rule names the parameter {name!r}: add one to train.optimizer.DECAY_RULES")

    return jax.tree_util.tree_map_with_path(one, params)


def decayed(params: Any, config: Any) -> Any:
    """What the update decays by `config`: True or False for each parameter."""
    return jax.tree.map(
        lambda rule: max(config.weight_decay, config.weight_decay_final) > 0 and (rule or config.decay_all), decay_mask(params)
    )


def frozen(params: Any, patterns: Sequence[str]) -> Any:
    """True for each parameter whose name one of the patterns is found in."""
    return jax.tree_util.tree_map_with_path(lambda path, _: any(re.search(pattern, path_name(path)) for pattern in patterns), params)


def layer_scales(params: Any, decay: float) -> Any:
    """Layer-wise learning-rate factors decay^(depth + 1 - id) (BEiT, section 4; VideoMAE fine-tuning).

    In the part "encoder", the patch embedding and learned tokens have id 0, block i of the stacked `blocks` id i + 1; all else is the
    head, id depth + 1, a second stack over time with its own token and positions (ViViT) too. Leaves are Python floats, or for stacked blocks arrays
    [L, 1, ...] that broadcast against the parameter.
    """
    named = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    second = any(name.startswith("encoder/time_blocks/") for name in named)
    depths = {leaf.shape[0] for name, leaf in named.items() if name.startswith("encoder/blocks/")}
    if len(depths) != 1:
        raise UserError("optimizer.layer_decay needs a backbone with one stack of blocks (a video transformer): set it to 1")
    depth = depths.pop()

    def one(path, leaf):
        name = path_name(path)
        if not name.startswith("encoder/"):
            return 1.0
        if name.startswith("encoder/blocks/"):
            ids = jnp.arange(1, depth + 1, dtype=jnp.float32)
            return (decay ** (depth + 1 - ids)).reshape((depth,) + (1,) * (leaf.ndim - 1))
        if second and name.startswith("encoder/time_"):
            return 1.0
        if re.search(r"patch_embed|(token|pos_embed)$", name):
            return decay ** (depth + 1)
        return 1.0

    return jax.tree_util.tree_map_with_path(one, params)


def _lars_trust(coefficient: float) -> optax.GradientTransformation:
    """LARS scaling (You et al. 2017) of the decayed parameters; biases and norms keep plain SGD. Each of a stack of blocks is a layer by itself."""
    whole = optax.scale_by_trust_ratio(trust_coefficient=coefficient)

    def one(path, update, param):
        layer = lambda u, p: whole.update(u, whole.init(p), p)[0]  # noqa: E731
        return (jax.vmap(layer) if re.search(r"/(time_)?blocks/", path_name(path)) else layer)(update, param)

    scaled = optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(one, updates, params))
    return optax.masked(scaled, decay_mask)


# name -> (config -> (transform before weight decay, transform after it)); decoupled decay comes after the adaptive scaling (AdamW),
# coupled before it (Adam, SGD, LARS).
def _adamw(c):
    return optax.scale_by_adam(b1=c.b1, b2=c.b2, eps=c.eps), optax.identity()


def _adam(c):
    return _adamw(c)[::-1]


def _sgd(c):
    return optax.identity(), optax.trace(decay=c.momentum, nesterov=c.nesterov)


def _lars(c):
    return optax.identity(), optax.chain(_lars_trust(c.trust_coefficient), optax.trace(decay=c.momentum, nesterov=c.nesterov))


OPTIMIZERS = {"adamw": _adamw, "adam": _adam, "sgd": _sgd, "lars": _lars}


def build(config: Mapping[str, Any], steps: int, batch_size: int, clock: Schedule = lambda step: step) -> Optimizer:
    """The optimizer of one turn from `config.optimizer`. The schedules are functions of `clock(step)`, from 0 to `steps`.

    The peak rate is `learning_rate` x batch_size / `lr_batch` (the linear rule of Goyal et al. 2017), `final_learning_rate` likewise;
    lr_batch 0 means absolute rates. `rates`, {part: factor}, multiplies the rate of whole parts: the update itself, since LARS and Adam would
    divide a factor of the gradient out again. `clip_norm` 0 means no clipping. `weight_decay_final` below 0 means a constant decay, else a
    cosine to it (V-JEPA). `decay_all` decays biases, normalization and tokens too, as PyTorch's optimizers do where nothing is said
    (LARS scales none of them, decayed or not). Parameters whose names a pattern of `frozen` is found in neither move nor decay; their gradients count
    in the norm.
    """
    if config.name not in OPTIMIZERS:
        raise unknown_name("optimizer", config.name, OPTIMIZERS)
    for pattern in config.frozen:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"optimizer.frozen has {pattern!r}, which is no regular expression: {error}") from error
    scale = batch_size / config.lr_batch if config.lr_batch else 1.0
    rate = WarmupCosine(
        peak=config.learning_rate * scale, total=steps, warmup=config.warmup_steps, start=config.start_learning_rate * scale,
        final=config.final_learning_rate * scale, decay=config.schedule, drops=tuple(config.drops),
    )  # fmt: skip
    final_decay = config.weight_decay_final if config.weight_decay_final >= 0 else config.weight_decay
    weight_decay = WarmupCosine(peak=config.weight_decay, total=steps, final=final_decay)
    before, after = OPTIMIZERS[config.name](config)

    def init(params):
        decay_mask(params)  # a gap in the rules is an error at the start, not at step 1
        return {"scale": before.init(params), "momentum": after.init(params)}

    def scalars(step):
        return {"learning_rate": rate(clock(step)), "weight_decay": weight_decay(clock(step))}

    def update(grads, norm, state, params, step):
        now = scalars(step)
        lr, wd = now["learning_rate"], now["weight_decay"]
        if config.clip_norm > 0:
            grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, config.clip_norm / (norm + 1e-6)).astype(g.dtype), grads)
        updates, first = before.update(grads, state["scale"], params)
        updates = jax.tree.map(lambda u, p, decays: u + wd * p if decays else u, updates, params, decayed(params, config))
        updates, second = after.update(updates, state["momentum"], params)
        factors = layer_scales(params, config.layer_decay) if config.layer_decay != 1.0 else jax.tree.map(lambda _: 1.0, params)
        for part in set(config.rates) & set(params):
            factors[part] = jax.tree.map(lambda f, rate=config.rates[part]: f * rate, factors[part])
        updates = jax.tree.map(
            lambda u, f, still: jnp.zeros_like(u) if still else -lr * f * u, updates, factors, frozen(params, config.frozen)
        )
        return updates, {"scale": first, "momentum": second}

    return Optimizer(init, update, scalars, tuple(config.rates), tuple(config.frozen))
