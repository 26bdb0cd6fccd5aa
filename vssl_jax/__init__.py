"""vssl_jax: self-supervised pretraining on video, in JAX.

The rooms, in reading order: batch (the contract), data, perturb, models, objectives, train, evals, interop.
"""

__version__ = "0.1.0"
