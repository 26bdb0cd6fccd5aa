"""TensorFlow as a reader of files and a thread pool: kept off the accelerators, which belong to JAX, and quiet."""

import contextlib
import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from types import ModuleType

from vssl_jax.errors import UserError


@functools.cache
def tensorflow() -> ModuleType:
    """The module, with no GPU or TPU visible to it and one thread inside an operation (rows are made side by side as it is). Raises
    UserError where it is not installed."""
    # JAX's import sets the level to 1 where nobody has, and at 1 TensorFlow prints every exception of our rows, traceback and all.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # no operation here gains from it, and it announces itself
    try:
        with _without_keras():
            import tensorflow as tf
    except ImportError as error:
        raise UserError(
            "reading videos needs TensorFlow: pip install 'vssl_jax[data]', or use data.source=synthetic, which reads none"
        ) from error
    for kind in ("GPU", "TPU"):
        if tf.config.get_visible_devices(kind):
            tf.config.set_visible_devices([], kind)
    with contextlib.suppress(RuntimeError):  # someone has started TensorFlow in this process before: the threads are theirs to set
        tf.config.threading.set_intra_op_parallelism_threads(1)
    return tf


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """While TensorFlow is imported it takes Keras for the older one, which is not there: it loads neither until somebody asks for it. That is a quarter of
    the import.
    """
    name = "TF_USE_LEGACY_KERAS"
    if name in os.environ or importlib.util.find_spec("tf_keras"):
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)  # another thread may have been in here too


def preload() -> threading.Thread:
    """Imports TensorFlow in a thread, since that takes seconds which the compiler can use. What fails there is said where TensorFlow is used."""
    thread = threading.Thread(target=_import_quietly, name="import tensorflow", daemon=True)
    thread.start()
    return thread


def _import_quietly() -> None:
    with contextlib.suppress(Exception):
        tensorflow()
