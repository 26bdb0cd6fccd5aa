"""The whole suite runs on 8 simulated CPU devices, so that "8 devices = 1 device" is a test like any other."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
import pytest


@pytest.fixture
def rng():
    return jax.random.key(0)
