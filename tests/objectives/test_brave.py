"""BraVe by itself: what its loss is of, what no gradient reaches, and two networks that see clips of two sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.joint_methods import METHODS, SPEC
from tests.train import tiny
from vssl_jax.errors import UserError
from vssl_jax.models import flops as flops_lib
from vssl_jax.models.cnn import CNN
from vssl_jax.models.projection import MLP
from vssl_jax.objectives.protocol import Turn
from vssl_jax.perturb.clip_view import ClipView
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.view import EvalView, RandomView

KEY = jax.random.key(0)
VIEW = RandomView(size=16, crop=WholePicture(), flip=0.0)  # as it is: little to compile
NARROW, BROAD = ClipView(VIEW, 2, first=2), ClipView(VIEW, 2, stride=5)
BRAVE = dataclasses.replace(METHODS["brave"], views=(NARROW, BROAD))


@functools.cache
def started():
    return jax.jit(lambda key: BRAVE.init(key, None))(KEY)


def batch():
    return tiny.batches(1, SPEC)[0]


@functools.cache
def made():
    """(z, h) of either view, and ((loss, (memory, metrics)), gradient) of both directions and of the narrow view's alone."""
    params, memory = started()
    alone = dataclasses.replace(BRAVE, both=False)

    def run(params, method):
        return method.loss(params, memory, batch(), KEY, method.turns[0])

    def all_of(params):
        grads = [jax.value_and_grad(run, has_aux=True)(params, method) for method in (BRAVE, alone)]
        return BRAVE.foretell(params, memory, batch(), KEY, True)[:2], *grads

    return jax.device_get(jax.jit(all_of)(params))


def largest(tree):
    return max(float(np.max(np.abs(x))) for x in jax.tree.leaves(tree))


def test_the_loss_is_the_mean_over_both_directions():
    (z, h), ((loss, (_, metrics)), _), ((alone, _), _) = made()
    for x in (*z, *h):
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    from_narrow, from_broad = np.mean(1 - np.sum(h[0] * z[1], axis=1)), np.mean(1 - np.sum(h[1] * z[0], axis=1))
    assert abs(from_narrow - from_broad) > 1e-3
    assert loss == pytest.approx((from_narrow + from_broad) / 2, rel=1e-5) and alone == pytest.approx(from_narrow, rel=1e-5)
    assert [float(metrics[f"{name}/loss"]) for name in ("narrow", "broad")] == pytest.approx([from_narrow, from_broad], rel=1e-5)


def test_no_gradient_passes_a_target():
    """Where the narrow view alone foretells, the broad one's network is only a target; with both, either network learns."""
    _, (_, both), (_, alone) = made()
    assert largest(alone["broad_encoder"]) == 0
    for part in ("encoder", "head", "predictor"):
        assert largest(alone[part]) > 1e-4, part
    assert min(largest(tree) for tree in both.values()) > 1e-4
    # The narrow network learns from its own direction alone: half of the mean.
    assert tiny.largest_difference(jax.tree.map(lambda g: g / 2, alone["encoder"]), both["encoder"]) < 1e-6


def test_either_network_starts_by_itself_and_the_narrow_one_is_what_is_evaluated():
    params, memory = started()
    kernels = [params[part]["color"]["kernel"] for part in ("encoder", "broad_encoder")]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1 and set(params) == {"encoder", "broad_encoder", "head", "predictor"}
    of = jax.jit(jax.grad(lambda p: jnp.sum(BRAVE.embed(p, memory, batch())["video"])))(params)
    assert largest(of["encoder"]) > 0 and largest([of[part] for part in of if part != "encoder"]) == 0
    assert BRAVE.backbone(params, memory) == (params["encoder"], memory["stats"])


def test_each_network_has_statistics_of_its_own():
    _, memory = started()
    (_, (after, _)), _ = made()[1]
    assert (int(after["stats"]["calls"]), int(after["broad_stats"]["calls"])) == (1, 1)
    assert set(after) == set(memory) == {"stats", "broad_stats", "head_stats", "predictor_stats"}
    assert min(tiny.largest_difference(after[part], memory[part]) for part in ("head_stats", "predictor_stats")) > 1e-4


SMALL_BROAD = ClipView(RandomView(size=8, crop=WholePicture(), flip=0.0), 6)
SIZES = dataclasses.replace(
    BRAVE, encoder=CNN(width=4, frames=4, size=16), frames=4, views=(ClipView(VIEW, 4), SMALL_BROAD), eval_view=EvalView(size=16), chunk=4
)


def test_views_of_two_sizes_go_through_their_networks_in_chunks():
    shapes = jax.eval_shape(lambda: SIZES.init(KEY, None))
    loss, (memory, _) = jax.eval_shape(lambda p, m: SIZES.loss(p, m, batch(), KEY, SIZES.turns[0]), *shapes)
    assert loss.shape == () and jax.tree.map(jnp.shape, memory) == jax.tree.map(jnp.shape, shapes[1])
    assert [x.shape for x in jax.eval_shape(lambda: SIZES.see(batch(), KEY))] == [(8, 4, 16, 16, 3), (8, 6, 8, 8, 3)]


def test_the_work_is_that_of_either_size():
    narrow, broad = (flops_lib.backbone(CNN(width=4, frames=frames, size=size)) for frames, size in ((4, 16), (6, 8)))
    assert SIZES.flops(8) == 8 * 3 * (narrow + broad) and narrow != broad
    assert dataclasses.replace(SIZES, both=False).flops(8) == 8 * (3 * narrow + broad)
    oblong = dataclasses.replace(SMALL_BROAD, view=RandomView(size=(8, 16)))
    assert dataclasses.replace(SIZES, views=(NARROW, oblong)).flops(8) is None and BRAVE.flops(8) is None


def test_other_than_two_views_are_refused():
    with pytest.raises(UserError, match=r"objective.views has 3"):
        dataclasses.replace(BRAVE, views=(NARROW, BROAD, BROAD), predictor=MLP((8,), 6))


def test_a_network_that_is_only_a_target_is_in_no_turn():
    """Weight decay alone would end in zeros."""
    (turn,) = dataclasses.replace(BRAVE, both=False).turns
    assert set(turn.trains) == {"encoder", "head", "predictor"} and BRAVE.turns == (Turn(),)
