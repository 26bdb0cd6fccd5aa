"""TensorFlow as a reader of files and a thread pool: kept off the accelerators, which belong to JAX, and quiet."""

import functools
import os
from types import ModuleType

from vssl_jax.errors import UserError


@functools.cache
def tensorflow() -> ModuleType:
    """The module, with no GPU or TPU visible to it. Raises UserError where it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            "reading videos needs TensorFlow: pip install 'vssl_jax[data]', or use data.source=synthetic, which reads none"
        ) from error
    for kind in ("GPU", "TPU"):
        if tf.config.get_visible_devices(kind):
            tf.config.set_visible_devices([], kind)
    return tf
