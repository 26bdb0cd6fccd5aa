"""Films of any length: no clip wraps round or repeats a frame, no piece has a seam that its question did not make, and neither which film it is nor how
long tells the answer.
"""

import dataclasses
import functools
from itertools import islice

import jax
import numpy as np
import pytest

from tests.configs.published import PRETEXT
from tests.configs.recipes import recipe
from tests.data.array_source import ArraySource
from tests.objectives.asked import NAMES, asker
from tests.objectives.questions import SPEC
from vssl_jax import batch as batch_lib
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.pipeline import Input, batches
from vssl_jax.data.recipe import build_sampler
from vssl_jax.data.sample import Dense
from vssl_jax.data.source import TimeIndex

LENGTHS = range(29, 1777)  # UCF101's
# Whose pieces are stretches of the film; the others ask about the order of frames.
STRETCHES = ("clip_order", "cubic_puzzle", "jigsaw", "pace", "playback_rate", "rotation", "rotation_drawn", "speediness")
FILMS = (29, 30, 31, 47, 61, 300, 301, 1776)


class Films(ArraySource):
    """Films of those lengths; frame t is red by its low byte, green by its high one."""

    def open(self, i):
        index = TimeIndex(np.arange(FILMS[i]) / self.fps, 16, 16, 2)
        return Film(index, i)


class Film:
    span, label = None, 0

    def __init__(self, index, number):
        self.index, self.number = index, number

    def read(self, wanted, layout, canvas):
        wanted = np.array(wanted)
        assert wanted.min() >= 0 and wanted.max() < FILMS[self.number]
        values = np.stack([wanted % 256, wanted // 256, np.zeros_like(wanted)], axis=1).astype(np.uint8)
        return {"video": np.broadcast_to(values[:, None, None], (len(wanted), *canvas, 3)).copy()}, canvas


@functools.cache
def read():
    """Batches of all films, of 16 pixels a side, as every task takes them."""
    spec = dataclasses.replace(SPEC, batch_size=len(FILMS))
    reader = batches(Input(Films(len(FILMS)), spec, Dense(SPEC.frames, 1, SPEC.clips), BrokenRecord(0.0)))
    found = tuple(islice(reader, 96))
    reader.close()
    return found


@pytest.mark.parametrize("name", sorted(PRETEXT))
def test_a_clip_of_a_film_of_any_length_is_a_stretch_of_it(name):
    """Or it is refused: what is too short is left out, not made longer."""
    settings = recipe(name).data.sampler
    assert not settings.pad
    sampler, span = build_sampler(settings), (settings.frames - 1) * settings.stride + 1
    for length in LENGTHS:
        if length < span:
            with pytest.raises(BrokenVideo, match="too_short"):
                sampler(np.random.default_rng(length), np.arange(length) / 25, None)
            continue
        frames_KxT = sampler(np.random.default_rng(length), np.arange(length) / 25, None)
        assert 0 <= frames_KxT.min() and frames_KxT.max() < length and (np.diff(frames_KxT) == settings.stride).all()


usual = lambda names: [pytest.param(n, marks=pytest.mark.slow) if n == "rotation_drawn" else n for n in names]  # noqa: E731


@pytest.mark.parametrize("name", usual(STRETCHES))
def test_a_seam_counter_counts_none(name):
    """Steps between neighboring frames of a piece are all alike (to one frame, where a speed is no whole number), so a seam cannot mark a class."""
    for step, batch in enumerate(read()[:3]):
        pieces_QxPxTxHxWx3, _ = jax.device_get(asker(name, pieces=True)(batch, jax.random.key(step)))
        bytes_QxPxTx3 = np.rint(pieces_QxPxTxHxWx3.mean(axis=(3, 4)) * 255).astype(int)
        steps = np.diff(bytes_QxPxTx3[..., 0] + 256 * bytes_QxPxTx3[..., 1], axis=-1)
        assert (steps >= 1).all() and (np.ptp(steps, axis=-1) <= (name == "speediness")).all()


@functools.cache
def asked_of(name):
    """(which film, the answers [A]) of some thousand questions."""
    films, answers = [], []
    for step, batch in enumerate(read()):
        found = np.asarray(asker(name, pieces=name in STRETCHES)(batch, jax.random.key(step))[1])
        films.append(np.repeat(batch[batch_lib.INDEX], len(found) // len(FILMS)))
        answers.append(found)
    return np.concatenate(films), np.concatenate(answers)


def by_table(films, answers):
    """(share told right, chance, of how many): each film's commonest answer in the first half, tried on the second half."""
    half, classes = len(films) // 2, answers.max() + 1
    counts = np.stack([np.bincount(answers[:half][films[:half] == film], minlength=classes) for film in range(len(FILMS))])
    right = np.mean(counts.argmax(1)[films[half:]] == answers[half:])
    return right, np.bincount(answers).max() / len(answers), len(films) - half


@pytest.mark.parametrize("name", usual(NAMES))
def test_a_table_of_films_and_their_lengths_tells_nothing(name):
    films, answers = asked_of(name)
    for own in answers.T:
        asked = own >= 0
        right, chance, count = by_table(films[asked], own[asked])
        assert right <= chance + 3 * np.sqrt(chance * (1 - chance) / count), f"{right:.3f} of {count}, chance {chance:.3f}"


def test_the_table_finds_a_leak_where_there_is_one():
    films, answers = asked_of("pace")
    leaky = np.where(np.arange(len(films)) % 4 == 0, films % 3, answers[:, 0])
    right, chance, count = by_table(films, leaky)
    assert right > chance + 3 * np.sqrt(chance * (1 - chance) / count)
