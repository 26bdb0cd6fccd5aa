"""The index counts what a player shows, in display order, and says of every kind of broken file what is wrong with it."""

import contextlib
import os
import pickle

import av
import numpy as np
import pytest

from tests.data.video_files import Clip, remux, rewrite, shapes_NxHxWx3, write_sound, write_video
from vssl_jax.batch import YUV_SPACES
from vssl_jax.data.index import CAUSES, BrokenVideo, index_video

pytestmark = pytest.mark.timeout(60)
FRAMES = shapes_NxHxWx3(40)


def shown(path: str) -> list[int]:
    """Times of the frames that a plain decode gives."""
    with av.open(path) as container:
        return [frame.pts for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("index")


@pytest.fixture(scope="module")
def good(folder):
    return write_video(folder / "good.mp4", FRAMES, Clip(muxer={"movflags": "faststart"}))


def test_times_are_those_of_a_plain_decode(folder, good):
    index = index_video(good)
    assert index.num_frames == 40 and list(index.times) == shown(good)
    np.testing.assert_allclose(index.seconds, np.arange(40) / 25)
    assert (index.height, index.width, index.rotation, index.mirrored) == (48, 64, 0, False)
    assert len(index.keyframes) == 4  # GOP 12


def test_variable_frame_rate(folder):
    times = np.cumsum([0] + [40 if n % 3 else 95 for n in range(39)])
    path = write_video(folder / "vfr.mp4", FRAMES, Clip(times=times.tolist()))
    np.testing.assert_allclose(index_video(path).seconds, times / 1000, atol=1e-4)


def test_the_pre_roll_of_an_edit_list_is_not_counted(folder, good):
    path = remux(good, folder / "cut.mp4", cut=True)
    index = index_video(path)
    assert index.keyframes[0, 0] < 0 and index.times[0] == 0 and index.num_frames == 40 - 40 // 3
    assert list(index.times) == shown(path)


@pytest.mark.parametrize("name", ["mid.mp4", "mid.ts", "mid.mkv"])
def test_packets_before_the_first_keyframe_are_not_counted(folder, good, name):
    path = remux(good, folder / name, first_packet=5)
    assert list(index_video(path).times) == shown(path)[-28:] and index_video(path).num_frames == 28


def test_sound_does_not_count(folder):
    index = index_video(write_video(folder / "sound.mp4", FRAMES, Clip(audio=True)))
    assert index.num_frames == 40


def test_the_content_serves_as_the_file(good):
    with open(good, "rb") as file:
        content = index_video(file.read())
    assert list(content.times) == list(index_video(good).times)


def test_a_colon_in_the_name_is_no_protocol(folder):
    assert index_video(write_video(f"file:{folder}/a:b.mp4", FRAMES[:3])[5:]).num_frames == 3


def test_hidden_frames_of_vp8_are_not_counted(folder):
    path = write_video(folder / "vp8.webm", FRAMES, Clip(codec="libvpx"))
    hidden = rewrite(path, folder / "hidden.webm", lambda n, data: bytes([data[0] & ~16]) + data[1:] if n in (5, 9) else data)  # show_frame
    assert len(shown(hidden)) == 38 and list(index_video(hidden).times) == shown(hidden)


def test_what_may_be_skipped(folder, good):
    assert index_video(good).skippable
    assert not index_video(write_video(folder / "vp9.webm", FRAMES[:4], Clip(codec="vp9"))).skippable
    assert index_video(write_video(folder / "one.mp4", FRAMES, Clip(codec="hevc"))).skippable
    layers = {"x265-params": "log-level=none:pools=1:frame-threads=1:temporal-layers=3:bframes=3:b-adapt=0:keyint=12"}
    assert not index_video(write_video(folder / "layers.mp4", FRAMES, Clip(codec="hevc", options=layers))).skippable


@pytest.mark.parametrize(
    ("clip", "height", "space"),
    [
        (Clip(), 48, ("bt601", False)),
        (Clip(), 720, ("bt709", False)),
        (Clip(matrix=6), 720, ("bt601", False)),
        (Clip(matrix=1), 48, ("bt709", False)),
        (Clip(matrix=1, full_range=True), 48, ("bt709", True)),
        (Clip(full_range=True), 48, ("bt601", True)),
        (Clip(matrix=9), 48, ("bt709", False)),
    ],
)
def test_yuv_space(folder, clip, height, space):
    path = write_video(folder / "space.mp4", np.full((2, height, 64, 3), 90, np.uint8), clip)
    assert YUV_SPACES[index_video(path).yuv_space] == space


def broken(file) -> BrokenVideo:
    with pytest.raises(BrokenVideo) as caught:
        index_video(file)
    assert "\n" not in str(caught.value)
    return caught.value


def part_of(path: str, target, fraction: float):
    with open(path, "rb") as file:
        content = file.read()
    target.write_bytes(content[: int(len(content) * fraction)])
    return target


def test_missing_file(folder):
    assert broken(folder / "none.mp4").cause == "missing"


def test_empty_file(folder):
    (folder / "empty.mp4").touch()
    assert broken(folder / "empty.mp4").cause == "empty"
    assert broken(b"").cause == "empty"


@pytest.mark.parametrize("ending", ["mp4", "txt", "avi", "mkv", "mpg", "ts"])
def test_text(folder, ending):
    path = folder / f"text.{ending}"
    path.write_text("This is a text and no film.\n" * 200)
    assert broken(path).cause == "not_a_video"


def test_noise(folder):
    assert broken(np.random.default_rng(0).bytes(20000)).cause == "not_a_video"


def test_folder_and_device(folder):
    assert broken(folder).cause == "unreadable"
    assert broken("/dev/zero").cause == "unreadable"


@contextlib.contextmanager
def nobody():
    """Root may read everything: it is somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_forbidden_file(folder, good):
    path = part_of(good, folder / "forbidden.mp4", 1)
    path.chmod(0)
    with nobody():
        assert broken(path).cause == "unreadable"


def test_sound_only(folder):
    assert broken(write_sound(folder / "sound.m4a")).cause == "no_video_stream"


def test_mp4_without_its_index(folder):
    late = write_video(folder / "late.mp4", FRAMES)  # not faststart: the index stands at the end
    assert broken(part_of(late, folder / "no_moov.mp4", 0.9)).cause == "truncated"


def test_header_that_promises_more_than_there_is(folder, good):
    error = broken(part_of(good, folder / "half.mp4", 0.5))
    assert error.cause == "truncated" and "40 frames" in error.detail
    avi = write_video(folder / "whole.avi", FRAMES, Clip(codec="mpeg4"))
    assert broken(part_of(avi, folder / "half.avi", 0.5)).cause == "truncated"


def test_a_file_that_lacks_its_last_bytes_is_used_as_far_as_it_goes(folder, good):
    path = part_of(good, folder / "almost.mp4", 0.99)
    assert index_video(path).num_frames == 39


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_a_format_that_promises_nothing_is_used_as_far_as_it_goes(folder, ending):
    whole = write_video(folder / f"whole.{ending}", FRAMES)
    assert 5 < index_video(part_of(whole, folder / f"half.{ending}", 0.5)).num_frames < 35


def test_nothing_decodes(folder, good):
    with open(good, "rb") as file:
        content = file.read()
    start = content.index(b"mdat") + 4
    error = broken(content[:start] + bytes(len(content) - start))
    assert error.cause == "corrupt"


def test_error_is_one_of_the_causes_and_travels_between_processes():
    error = BrokenVideo("corrupt", "two\nlines")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.cause, copy.detail, str(copy)) == ("corrupt", "two lines", "corrupt: two lines")
    assert set(CAUSES) > {"too_short"}
    with pytest.raises(ValueError):
        BrokenVideo("tired", "")
