"""A procedural motion world: the embedded dataset, and an instrument to measure what a model knows of motion.

Textured sprites move over textured grounds; each action stands beside its exact time reversal. The reading order: spec (difficulties),
draws, motion, shapes, textures, images, scene, render; then the truths: truth (masks, flow), sound, captions, steps; sample puts them
together; encode, videos, cache and worker make files.
"""

from vssl_jax.data.world.cache import build
from vssl_jax.data.world.sample import Sample, video
from vssl_jax.data.world.spec import DIFFICULTIES, SPLITS, WorldSpec, find, spec_from_json

__all__ = ["DIFFICULTIES", "SPLITS", "Sample", "WorldSpec", "build", "find", "spec_from_json", "video"]
