"""The whole suite runs on 8 simulated CPU devices, so that "8 devices = 1 device" is a test like any other."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# 8 devices take turns on a few busy cores: XLA ends the process where one of them comes 40 s late to a collective.
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", "--xla_cpu_collective_call_terminate_timeout_seconds=280")
).strip()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
import pytest


@pytest.fixture
def rng():
    return jax.random.key(0)
