import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.noise import noisy, normal
from vssl_jax.models.mae_decoder import MAEDecoder

DECODER = MAEDecoder(width=16, depth=2, heads=2, out=24)
GRID = (2, 2, 3)
VISIBLE = np.array([[0, 4, 11], [2, 3, 7]], np.int32)
MASKED = np.array([[i for i in range(12) if i not in row] for row in VISIBLE], np.int32)


def setup(rng):
    tokens = normal(2, 3, 8)
    return tokens, noisy(jax.jit(DECODER.init, static_argnums=4)(rng, tokens, VISIBLE, MASKED, GRID)["params"])


run = jax.jit(DECODER.apply, static_argnums=4)


def test_predictions_follow_the_order_of_the_masked_ids(rng):
    tokens, params = setup(rng)
    out = run({"params": params}, tokens, VISIBLE, MASKED, GRID)
    assert out.shape == (2, 9, 24)
    flipped = run({"params": params}, tokens, VISIBLE, MASKED[:, ::-1], GRID)
    np.testing.assert_allclose(out, flipped[:, ::-1], atol=1e-5)


def test_visible_tokens_are_a_set_with_positions(rng):
    """The order of the visible tokens means nothing; which position each has does."""
    tokens, params = setup(rng)
    out = run({"params": params}, tokens, VISIBLE, MASKED, GRID)
    both = run({"params": params}, tokens[:, ::-1], VISIBLE[:, ::-1], MASKED, GRID)
    np.testing.assert_allclose(out, both, atol=1e-5)
    moved = run({"params": params}, tokens, VISIBLE[:, ::-1], MASKED, GRID)
    assert not np.allclose(out, moved, atol=1e-3)


def test_parts_and_their_initialization(rng):
    decoder = MAEDecoder(width=512, depth=1, heads=8, out=24)
    params = decoder.lazy_init(rng, jax.ShapeDtypeStruct((1, 3, 8), jnp.float32), VISIBLE[:1], MASKED[:1], GRID)["params"]
    assert set(params) == {"encoder_to_decoder", "mask_token", "blocks", "norm", "head"}
    assert set(params["encoder_to_decoder"]) == {"kernel"}  # no bias
    kernel, limit = np.abs(params["encoder_to_decoder"]["kernel"]), 8**-0.5
    assert 0.99 * limit < kernel.max() <= limit and kernel.mean() == pytest.approx(limit / 2, rel=0.05)
    token = np.asarray(params["mask_token"])
    # A normal of deviation .02 cut at +-.02 has deviation .02 * .5396.
    assert 0.018 < np.abs(token).max() <= 0.02 and abs(token.std() / 0.02 - 0.5396) < 0.03
