"""The whole suite runs on 8 simulated CPU devices, so that "8 devices = 1 device" is a test like any other."""

import atexit
import gc
import os
import shutil
import tempfile

from tests import fast_compilation

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # The devices take turns on a few busy cores: XLA ends the process where one of them comes 40 s late to a collective.
        "--xla_cpu_collective_call_terminate_timeout_seconds=280",
        fast_compilation.FLAGS,
    )
).strip()
# Threads of XLA's pool, by the name that it reads: a collective holds one until its other devices come, and a program on a mesh of several axes waits
# in several at once. With one thread for each of eight devices all may wait for what has none left to run on.
os.environ["NPROC"] = "64"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# numpy's and scikit-learn's threads: every core has a worker of the suite already, and those that wait for each other spin.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
# A program that is compiled for one test is read for the next, by the other workers and in processes that a test starts too.
os.environ["JAX_COMPILATION_CACHE_DIR"] = (
    os.environ["JAX_COMPILATION_CACHE_DIR"] if "PYTEST_XDIST_WORKER" in os.environ else tempfile.mkdtemp(prefix="vssl_jax-tests-xla-")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
import pytest

if "PYTEST_XDIST_WORKER" not in os.environ:
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


# Minutes each, in few tests: begun first, so that no worker is left alone with one.
LONGEST = ("test_main.py", "test_resume.py", "test_joint.py", "test_pretext.py")


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))  # stable


def pytest_collection_finish():
    """Tracing makes millions of small objects, and each full collection goes through all that JAX and TensorFlow are made of: 4 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_kept():
    """Programs and traces of a file's tests go with it: a worker would end with 6 GB of them."""
    yield
    jax.clear_caches()


@pytest.fixture
def rng():
    return jax.random.key(0)
