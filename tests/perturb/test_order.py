import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.keys import VIEW, example_keys
from vssl_jax.perturb.order import ORDER_FREE, OrderFree
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(6, 2, 5, 8, 8)
VIEW_ = RandomView(8, WholePicture(), flip=0.0)


@pytest.fixture(scope="module")
def batch():
    return batch_lib.fake(SPEC, jax.random.key(1))


@pytest.mark.parametrize("how", sorted(ORDER_FREE))
def test_what_is_left_does_not_depend_on_the_order(how, batch, rng):
    """Reversing time changes the output's frames as a set by nothing (mean: to rounding)."""
    reversed_ = batch | {batch_lib.VIDEO: batch[batch_lib.VIDEO][:, :, ::-1]}
    keys = example_keys(rng, batch, VIEW)
    plain, back = (np.asarray(VIEW_(keys, b)) for b in (batch, reversed_))
    assert np.array_equal(plain[:, :, ::-1], back)
    out = np.asarray(OrderFree(VIEW_, how)(keys, batch))
    if how == "shuffled":
        assert np.array_equal(np.sort(out, axis=2), np.sort(plain, axis=2))
        assert not np.array_equal(out, plain)
    else:
        assert (out == out[:, :, :1]).all()
    if how == "single":
        assert all((out[b, k, 0] == plain[b, k]).all(axis=(1, 2, 3)).sum() == 1 for b in range(6) for k in range(2))
    if how == "mean":
        np.testing.assert_allclose(out[:, :, 0], plain.mean(axis=2), atol=1e-5)


def test_shuffles_are_uniform_over_places():
    """Frame 0 lands on each of 5 places equally often: 2000 draws, within 5 standard deviations."""
    clip = jnp.arange(5.0)[:, None, None, None]
    keys = jax.random.split(jax.random.key(3), 2000)
    first = np.asarray(jax.vmap(lambda k: jnp.argmin(ORDER_FREE["shuffled"](k, clip)[:, 0, 0, 0]))(keys))
    counts = np.bincount(first, minlength=5)
    assert np.abs(counts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


def test_evaluation_draws_nothing_anew(batch):
    view = OrderFree(EvalView(8), "shuffled")
    assert np.array_equal(view(batch), view(batch))
    alone = {k: v[2:3] for k, v in batch.items()}
    assert np.array_equal(view(batch)[2:3], view(alone))


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match="shuffled"):
        OrderFree(VIEW_, "shufled")
