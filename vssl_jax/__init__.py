"""vssl_jax: self-supervised pretraining on video, in JAX.

The rooms, in reading order: batch (the contract), data, perturb, models, objectives, train, evals, interop; compiled reads what a program costs. The modules
beside them put rooms together: main, evaluate, convert and the other commands, with cli and config, which all of them read.
"""

__version__ = "0.1.0"
