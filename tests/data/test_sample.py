"""Frames are chosen inside the video, evenly where it is said, and never by wrapping or padding."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from vssl_jax.data.index import BrokenVideo, VideoIndex
from vssl_jax.data.sample import SAMPLERS, Dense, Interval, Segments, Views, drawing, window
from vssl_jax.errors import UserError

FPS = 25.0


def seconds(frames: int, fps: float = FPS) -> np.ndarray:
    return np.arange(frames) / fps


def draw(sampler, frames: int, seed: int = 0, part=None) -> np.ndarray:
    return sampler(np.random.default_rng(seed), seconds(frames), part)


def test_dense_keeps_the_stride_and_reaches_every_start():
    sampler, starts = Dense(frames=4, stride=3, clips=2), set()
    assert sampler.span == 10
    for seed in range(200):
        frames_KxT = draw(sampler, 13, seed)
        assert frames_KxT.shape == (2, 4) and (np.diff(frames_KxT) == 3).all()
        starts |= set(frames_KxT[:, 0].tolist())
    assert starts == {0, 1, 2, 3}


def test_a_clip_as_long_as_the_video_is_the_video():
    assert draw(Dense(4, 3), 10).tolist() == [[0, 3, 6, 9]]
    assert draw(Views(4, 3, clips=2), 10).tolist() == [[0, 3, 6, 9]] * 2


@pytest.mark.parametrize("sampler", [Dense(4, 3), Interval(4, 3), Views(4, 3, 3), Segments(10), Segments(10, random=False)])
def test_one_frame_too_few_is_too_short(sampler):
    assert sampler.span == 10
    assert draw(sampler, 10).max() == 9
    with pytest.raises(BrokenVideo) as caught:
        draw(sampler, 9)
    assert caught.value.cause == "too_short"


@pytest.mark.parametrize(
    "sampler", [Dense(3, 2, 4), Interval(3, 2), Views(3, 2, 4), Segments(5, 4), Dense(3, 2, 4, target_fps=10.0), Views(3, 2, 4, 10.0)]
)
def test_only_frames_of_the_part_are_taken(sampler):
    low, high = 40, 60  # frames 40..59: [1.6 s, 2.4 s)
    found = np.concatenate([draw(sampler, 100, seed, (low / FPS, high / FPS)).ravel() for seed in range(60)])
    assert found.min() >= low and found.max() < high
    with pytest.raises(BrokenVideo):
        draw(sampler, 100, part=(low / FPS, (low + 2) / FPS))
    with pytest.raises(BrokenVideo):
        draw(sampler, 100, part=(1000.0, 2000.0))


@pytest.mark.parametrize("fps", [24, 25, 30])
def test_parts_that_follow_each_other_share_no_frame_and_leave_none_out(fps):
    """By the times of a file, whose ticks no fraction of two is, and by lists that round."""
    seconds = VideoIndex(range(0, 3000 * 512, 512), Fraction(1, 512 * fps), np.zeros((0, 2), np.int64), 8, 8, 0, 0).seconds
    assert seconds.tolist() == [k / fps for k in range(3000)]
    for border in range(1, 3000):
        for at in (border / fps, round(border / fps, 6)):
            assert window(seconds, (0.0, at), 1)[1] == border == window(seconds, (at, 1000.0), 1)[0]


def test_views_are_evenly_spaced_from_the_first_start_to_the_last():
    assert draw(Views(4, 2, clips=5), 27)[:, 0].tolist() == [0, 5, 10, 15, 20]
    assert draw(Views(4, 2, clips=1), 27)[:, 0].tolist() == [10]


def test_segments_take_one_frame_of_each_and_cover_them():
    sampler, seen = Segments(frames=4), [set() for _ in range(4)]
    for seed in range(200):
        for t, frame in enumerate(draw(sampler, 14, seed)[0]):
            seen[t].add(int(frame))
    assert seen == [{0, 1, 2}, {3, 4, 5, 6}, {7, 8, 9}, {10, 11, 12, 13}]


def test_evaluation_segments_are_the_middles_and_do_not_depend_on_the_generator():
    sampler = Segments(frames=4, random=False)
    assert draw(sampler, 20, 0).tolist() == draw(sampler, 20, 1).tolist() == [[2, 7, 12, 17]]
    assert draw(Segments(frames=2, clips=2, random=False), 8).tolist() == [[1, 5], [3, 7]]


@pytest.mark.parametrize(
    ("fixed", "drawn"),
    [
        (Views(4, 2, 3, pad=True), Dense(4, 2, 3, pad=True)),
        (Views(4, 2, 1, 12.5), Dense(4, 2, 1, 12.5)),
        (Segments(4, 2, random=False, pad=True), Segments(4, 2, pad=True)),
    ],
)
def test_for_clips_at_fixed_places_there_are_such_clips_at_any(fixed, drawn):
    """As many, of as many frames, as far apart; what draws already stays as it is."""
    assert drawing(fixed) == drawn and drawing(drawn) is drawn and drawing(interval := Interval(4)) is interval
    assert len({str(draw(fixed, 90, seed)) for seed in range(9)}) == 1 < len({str(draw(drawing(fixed), 90, seed)) for seed in range(9)})


@pytest.mark.parametrize("sampler", [Dense(4, 2, 3), Segments(4, 3), Dense(4, 2, 3, target_fps=12.5)])
def test_draws_are_a_function_of_the_generator(sampler):
    assert draw(sampler, 300, 7).tolist() == draw(sampler, 300, 7).tolist()
    assert draw(sampler, 300, 7).tolist() != draw(sampler, 300, 8).tolist()


def test_target_fps_is_a_stride_in_time():
    assert (np.diff(draw(Dense(8, 2, target_fps=FPS / 3), 200)) == 6).all()
    slow_T = draw(Dense(9, target_fps=2 * FPS), 20)[0]  # every frame is shown twice
    assert set(np.diff(slow_T).tolist()) == {0, 1} and slow_T[-1] - slow_T[0] == 4
    with pytest.raises(BrokenVideo):
        Dense(8, target_fps=1.0)(np.random.default_rng(0), seconds(100))


def test_target_fps_follows_the_times_of_a_variable_rate():
    times = np.concatenate([np.arange(10) / 50, 0.2 + np.arange(10) / 10])  # 50 frames/s, then 10
    frames_T = Views(12, clips=1, target_fps=10.0)(None, times)[0]
    assert np.abs(times[frames_T] - times[frames_T[0]] - np.arange(12) / 10).max() <= 0.05 + 1e-9


@pytest.mark.parametrize(
    "settings", [{"frames": 0}, {"frames": 4, "stride": 0}, {"frames": 4, "clips": 0}, {"frames": 4, "target_fps": -1.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match=r"data\.sampler\.\w+ is (0|-1)"):
        Dense(**settings)


def test_the_registry_has_the_evaluation_form_of_segments():
    assert SAMPLERS["segment_views"](frames=4, clips=2) == Segments(4, 2, random=False)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Dense(4, 3, pad=True), [[0, 3, 5, 5]]),
        (Views(4, 3, clips=2, pad=True), [[0, 3, 5, 5]] * 2),
        (Views(4, 3, target_fps=FPS, pad=True), [[0, 3, 5, 5]]),
        (Segments(9, random=False, pad=True), [[0, 0, 1, 2, 2, 3, 4, 4, 5]]),
    ],
)
def test_where_it_is_asked_for_a_short_video_keeps_its_last_frame(sampler, expected):
    """Six frames. Longer videos give what they would without `pad`."""
    assert draw(sampler, 6).tolist() == expected
    plain = dataclasses.replace(sampler, pad=False)
    np.testing.assert_array_equal(draw(sampler, 30), draw(plain, 30))
    with pytest.raises(BrokenVideo):
        draw(plain, 6)
    with pytest.raises(BrokenVideo):
        draw(sampler, 6, part=(1000.0, 2000.0))


def test_random_segments_of_a_short_video_stay_in_order():
    for seed in range(20):
        frames = draw(Segments(9, clips=2, pad=True), 5, seed)
        assert frames.min() >= 0 and frames.max() == 4 and (np.diff(frames) >= 0).all()


def test_intervals_fall_off_linearly():
    """CVRL's law: the mean distance is a third of the longest, and the distances follow F(d) = 2 d / D - (d / D)^2."""
    sampler = Interval(frames=4, stride=2)
    starts = np.array([draw(sampler, 307, seed)[:, 0] for seed in range(3000)])
    distances, longest = np.abs(starts[:, 0] - starts[:, 1]), 300
    assert distances.mean() == pytest.approx(longest / 3, rel=0.03)
    cumulated = lambda d: 2 * d / longest - (d / longest) ** 2  # noqa: E731
    assert max(abs(np.mean(distances <= d) - cumulated(d + 0.5)) for d in range(0, longest, 10)) < 1.63 / np.sqrt(3000)
    assert 0.45 < np.mean(starts[:, 0] < starts[:, 1]) < 0.55  # either comes first
    assert starts.min() >= 0 and starts.max() + sampler.span <= 307


def test_an_interval_is_of_two_clips_by_frames():
    with pytest.raises(UserError, match="draws 2 clips"):
        Interval(frames=4, clips=3)
    with pytest.raises(UserError, match="draws 2 clips"):
        Interval(frames=4, target_fps=10.0)
