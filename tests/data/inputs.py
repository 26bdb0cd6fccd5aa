"""Inputs of a few drawn videos, and what they give."""

from itertools import islice

import numpy as np

from tests.data.array_source import ArraySource
from vssl_jax import batch as batch_lib
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.pipeline import Input
from vssl_jax.data.sample import Dense

SPEC = batch_lib.Spec(batch_size=4, clips=2, frames=3, height=8, width=8)


def make_input(source=None, spec=SPEC, **kwargs) -> Input:
    source = ArraySource(10) if source is None else source
    kwargs = {"sampler": Dense(spec.frames, 2, spec.clips), "broken": BrokenRecord(1.0), **kwargs}
    return Input(source, spec, **kwargs)


def take(iterator, n: int) -> list[dict]:
    found = [{key: np.asarray(value) for key, value in batch.items()} for batch in islice(iterator, n)]
    iterator.close()
    return found


def assert_same(got: list[dict], want: list[dict]) -> None:
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert set(g) == set(w)
        for key in w:
            assert g[key].dtype == w[key].dtype and g[key].tobytes() == w[key].tobytes(), key
