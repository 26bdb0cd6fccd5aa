"""Evaluation on several devices is evaluation on one."""

import jax
import numpy as np
import pytest

from vssl_jax.evals import devices


@pytest.mark.parametrize(("rows", "expected"), [(16, 8), (4, 4), (6, 2), (5, 1)])
def test_rows_are_spread_over_as_many_devices_as_divide_them(rows, expected):
    x = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
    out = devices.spread(lambda weights, batch: batch["x"] @ weights, np.eye(3, dtype=np.float32)[:, :2])({"x": x})
    assert jax.device_count() == 8 and len(out.sharding.device_set) == expected
    np.testing.assert_array_equal(out, x[:, :2])


def test_the_weights_stay_the_callers():
    weights = np.ones(3, np.float32)
    run = devices.spread(lambda weights, batch: batch["x"] * weights, weights)
    for scale in (1.0, 2.0):
        np.testing.assert_array_equal(run({"x": np.full((8, 3), scale, np.float32)}), np.full((8, 3), scale))
    np.testing.assert_array_equal(weights, 1.0)
