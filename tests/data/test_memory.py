"""Frames kept in memory are the file's own, and they are read once."""

import dataclasses
import gc
import weakref
from collections import Counter

import numpy as np
import pytest

from tests.data.array_source import ArraySource
from tests.data.inputs import SPEC, assert_same, make_input, take
from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.folder import folder_source
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.memory import InMemory, KeptVideo, shared
from vssl_jax.data.pipeline import batches
from vssl_jax.data.recipe import build_input
from vssl_jax.errors import UserError

FILM = 10 * 8 * 8 * 3  # bytes of one video of ArraySource on SPEC's canvas


def kept(source, films: int) -> InMemory:
    return InMemory(source, "rgb", (8, 8), films * FILM)


@pytest.mark.parametrize("layout", ["rgb", "yuv420"])
def test_the_bytes_are_those_of_the_files(tmp_path, layout):
    for seed in range(3):
        write_video(tmp_path / f"{seed}.mp4", shapes_NxHxWx3(30, seed=seed), Clip(gop=10))
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    spec = batch_lib.Spec(4, 2, 3, 32, 48, layout)
    source = folder_source(str(tmp_path))
    want = take(batches(make_input(source, spec)), 5)
    assert_same(take(batches(make_input(InMemory(source, layout, (32, 48), 10**9), spec)), 5), want)


def test_a_film_is_read_once():
    reads = Counter()
    source = kept(ArraySource(3, on_read=lambda i: reads.update([i])), films=3)
    for _ in range(4):
        for i in range(3):
            video = source.open(i)
            assert (video.read([7, 2], "rgb", (8, 8))[0]["video"][:, 0, 0, 0] == [10 * i + 7, 10 * i + 2]).all()
    assert reads == {0: 1, 1: 1, 2: 1}


def test_a_label_costs_no_reading_and_two_that_are_open_read_once():
    reads = Counter()
    source = kept(ArraySource(1, on_read=lambda i: reads.update([i])), films=1)
    first, second = source.open(0), source.open(0)
    assert (first.label, first.span) == (ArraySource(1).open(0).label, None) and not reads
    for video in (first, second):
        assert video.read([3], "rgb", (8, 8))[0]["video"].max() == 3
    assert reads == {0: 1}


def test_what_does_not_fit_is_read_every_time():
    reads = Counter()
    source = kept(ArraySource(3, on_read=lambda i: reads.update([i])), films=2)
    for _ in range(3):
        for i in range(3):
            source.open(i).read([0], "rgb", (8, 8))
    assert reads == {0: 1, 1: 1, 2: 3}


def test_what_is_being_read_counts():
    """Else each of many threads would read as much as there is room for."""
    opened = []

    def meanwhile(i):
        if i == 0:
            opened.append(source.open(1).read([0], "rgb", (8, 8)))

    source = kept(ArraySource(2, on_read=meanwhile), films=1)
    source.open(0).read([0], "rgb", (8, 8))
    assert opened and isinstance(source.open(0), KeptVideo) and not isinstance(source.open(1), KeptVideo)


def test_of_a_part_only_its_frames_are_kept():
    class Parts(ArraySource):
        def open(self, i):
            return dataclasses.replace(super().open(0), span=(i * 0.4, (i + 1) * 0.4))  # two frames of five a second

    source = kept(Parts(5), films=1)
    for _ in range(2):
        for i in range(5):
            assert (source.open(i).read([2 * i + 1, 2 * i], "rgb", (8, 8))[0]["video"][:, 0, 0, 0] == [2 * i + 1, 2 * i]).all()
    assert all(isinstance(source.open(i), KeptVideo) for i in range(5)), "all five together are one film"
    for outside in (3, 6):
        with pytest.raises((ValueError, IndexError)):
            source.open(2).read([4, outside], "rgb", (8, 8))


def test_a_film_with_damage_gives_the_clips_that_miss_it():
    """Read whole it fails, and that must not make the video a broken one."""

    class Damaged(ArraySource):
        def open(self, i):
            video = super().open(i)
            whole = video.read

            def read(wanted, layout, canvas):
                if 9 in wanted:
                    raise BrokenVideo("corrupt", "frame 9")
                return whole(wanted, layout, canvas)

            object.__setattr__(video, "read", read)
            return video

    source = kept(Damaged(1), films=5)
    for _ in range(2):
        assert source.open(0).read([3], "rgb", (8, 8))[0]["video"].max() == 3
        with pytest.raises(BrokenVideo, match="frame 9"):
            source.open(0).read([9], "rgb", (8, 8))
    with pytest.raises(BrokenVideo, match="made so"):
        kept(ArraySource(1, broken={0: "empty"}), films=1).open(0)


def test_a_recipe_asks_for_it(tmp_path):
    write_video(tmp_path / "a.mp4", shapes_NxHxWx3(30, seed=0), Clip(gop=10))
    config = config_lib.data() | {"source": "folder", "path": str(tmp_path), "canvas": (32, 48)}
    assert not isinstance(build_input(config, 2, 0, BrokenRecord(0.0)).source, InMemory)
    assert isinstance(build_input(config | {"memory_gb": 0.5}, 2, 0, BrokenRecord(0.0)).source, InMemory)
    synthetic = build_input(config | {"source": "synthetic", "memory_gb": 0.5}, 2, 0, BrokenRecord(0.0)).source
    assert not isinstance(synthetic, InMemory)  # it has no films


def test_what_training_has_read_is_there_when_evaluation_reads_it(tmp_path):
    """One source for the same videos, whatever is sampled of them; others for other frames, and outside."""
    write_video(tmp_path / "a.mp4", shapes_NxHxWx3(30, seed=0), Clip(gop=10))
    config = config_lib.data() | {"source": "folder", "path": str(tmp_path), "canvas": (32, 48), "memory_gb": 0.5}
    evaluated = config | {"sampler": config["sampler"] | {"name": "views"}, "num_examples": 7, "workers": 1}

    def source(config):
        return build_input(config, 2, 0, BrokenRecord(0.0)).source

    with shared():
        first = source(config)
        assert source(evaluated) is first and source(config | {"canvas": [32, 48]}) is first
        for other in ({"canvas": (16, 24)}, {"layout": "yuv420"}, {"memory_gb": 0.4}, {"path": f"{tmp_path}/"}):
            assert source(config | other) is not first, other
        with pytest.raises(UserError, match="'foldr'"):
            source(config | {"source": "foldr"})
    assert source(config) is not first
    with shared():
        assert source(config) is not first


@pytest.mark.parametrize("times", [1, 2])
def test_what_nothing_else_has_opened_goes_with_its_reader(tmp_path, times):
    write_video(tmp_path / "a.mp4", shapes_NxHxWx3(30, seed=0), Clip(gop=10))
    config = config_lib.data() | {"source": "folder", "path": str(tmp_path), "canvas": (32, 48), "memory_gb": 0.5}
    with shared():
        readers = [build_input(config, 2, 0, BrokenRecord(0.0)) for _ in range(times)]
        source = weakref.ref(readers[0].source)
        del readers
        gc.collect()
        assert (source() is not None) == (times == 2)
    gc.collect()
    assert source() is None


def test_the_sizes_are_those_of_the_batch():
    video = kept(ArraySource(1), films=1).open(0)
    arrays, extent = video.read(np.arange(SPEC.frames), "rgb", (8, 8))
    assert arrays["video"].shape == (3, 8, 8, 3) and extent == (4, 6)
