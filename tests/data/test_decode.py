"""Whatever is asked for, the frames are bit by bit those of a full decode, or the file is called broken."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import av
import numpy as np
import pytest

from tests.data.fields import write_fields
from tests.data.video_files import Clip, pack_b_frames, remux, shapes_NxHxWx3, write_video
from vssl_jax.data import decode
from vssl_jax.data.decode import decode_only, read_frames
from vssl_jax.data.index import BrokenVideo, index_video

pytestmark = pytest.mark.timeout(60)
FRAMES = shapes_NxHxWx3(40)
CANVAS = 48, 64
# Containers with no or wrong display times, or whose packets are no frames.
COUNTED = ["h264.avi", "raw.h264", "raw.hevc", "fields.h264", "fields.ts", "fields_apart.ts", "packed.avi"]
VFR = np.cumsum([0] + [40 if n % 3 else 95 for n in range(39)]).tolist()
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}
HEVC_OPEN = {"x265-params": "log-level=none:pools=1:frame-threads=1:open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"}
HEVC_LAYERS = {"x265-params": "log-level=none:pools=1:frame-threads=1:temporal-layers=3:bframes=3:b-adapt=0:keyint=12"}
ALT_REF = {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16", "crf": "35", "b": "0"}

FILES = {
    "h264.mp4": Clip(),
    "h264_gop40.mp4": Clip(gop=40, b_frames=3),
    "h264_gop1.mp4": Clip(gop=1),
    "h264_gop3.mp4": Clip(gop=3, b_frames=2),
    "h264_no_b.mp4": Clip(b_frames=0),
    "h264_open_gop.mp4": Clip(options=OPEN_GOP, b_frames=3),
    "h264_open_gop.mkv": Clip(options=OPEN_GOP, b_frames=3),
    "h264_intra_refresh.mp4": Clip(options={"x264-params": "intra-refresh=1"}, b_frames=0),
    "h264.ts": Clip(),
    "h264.avi": Clip(),
    "raw.h264": Clip(),
    "raw.hevc": Clip(codec="hevc"),
    "h264.flv": Clip(),
    "h264_vfr.mp4": Clip(times=VFR),
    "h264_audio.mp4": Clip(audio=True),
    "h264_fragments.mp4": Clip(muxer={"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": Clip(codec="hevc"),
    "hevc_open_gop.mp4": Clip(codec="hevc", options=HEVC_OPEN),
    "hevc_layers.mp4": Clip(codec="hevc", options=HEVC_LAYERS),
    "vp9.webm": Clip(codec="vp9"),
    "vp9_alt_ref.mp4": Clip(codec="vp9", options=ALT_REF),
    "av1.mp4": Clip(codec="av1"),
    "av1_vfr.mkv": Clip(codec="av1", times=VFR),
    "mpeg2.mpg": Clip(codec="mpeg2"),
    "mpeg2.ts": Clip(codec="mpeg2", audio=True),
    "mpeg4.avi": Clip(codec="mpeg4"),
    "mpeg4_no_b.avi": Clip(codec="mpeg4", b_frames=0),
    "mpeg4.mp4": Clip(codec="mpeg4"),
    "mjpeg.avi": Clip(codec="mjpeg", pix_fmt="yuvj420p", full_range=True),
}
MADE_FROM = {
    "fields.h264": ("h264.mp4", lambda _, path: write_fields(path, FRAMES)),
    "fields.ts": ("h264.mp4", lambda _, path: write_fields(path, FRAMES)),
    "fields_apart.ts": ("h264.mp4", lambda _, path: write_fields(path, FRAMES, by_field=True)),
    "fields.mkv": ("h264.mp4", lambda _, path: write_fields(path, FRAMES)),
    "drops.avi": ("mpeg4_no_b.avi", lambda _, path: write_video(path, FRAMES, Clip(codec="mpeg4", b_frames=0, drops=8))),
    "cut.mp4": ("h264.mp4", lambda source, path: remux(source, path, cut=True)),
    "cut_open_gop.mp4": ("h264_open_gop.mp4", lambda source, path: remux(source, path, cut=True)),
    "mid_gop.ts": ("h264.ts", lambda source, path: remux(source, path, first_packet=5)),
    "packed.avi": ("one_b.avi", pack_b_frames),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """name -> path, each file written once."""
    folder = tmp_path_factory.mktemp("decode")

    @cache
    def get(name: str) -> str:
        if name in MADE_FROM:
            source, edit = MADE_FROM[name]
            return edit(get(source), folder / name)
        return write_video(folder / name, FRAMES, Clip(codec="mpeg4", b_frames=1) if name == "one_b.avi" else FILES[name])

    return get


@cache
def full_decode(path: str) -> tuple[np.ndarray, np.ndarray]:
    """luma [N,H,W] and chroma [N,H/2,W/2,2] of all frames, by PyAV's plainest loop."""
    with av.open(path) as container:
        container.streams.video[0].thread_type = "NONE"
        planes = [frame.to_ndarray() for frame in container.decode(video=0) if not frame.is_corrupt]
    height = planes[0].shape[0] * 2 // 3
    chroma = np.stack([p[height:].reshape(2, height // 2, -1).transpose(1, 2, 0) for p in planes])
    return np.stack([p[:height] for p in planes]), chroma


def same(path: str, index, wanted) -> bool:
    luma, chroma = full_decode(path)
    arrays, extent = read_frames(path, index, wanted, "yuv420", CANVAS)
    return extent == CANVAS and np.array_equal(arrays["luma"], luma[wanted]) and np.array_equal(arrays["chroma"], chroma[wanted])


def test_fields_that_are_damaged_are_no_frames_either(make, tmp_path):
    """The film goes on after them, at as many frames as come out."""
    with open(make("fields.h264"), "rb") as file:
        content = bytearray(file.read())
    pictures = content.split(b"\0\0\0\1\x09\x10")
    pictures[21:23] = [b"\0\0\0\1\x65" + bytes(40)] * 2  # the eleventh frame
    path = tmp_path / "damaged.h264"
    path.write_bytes(b"\0\0\0\1\x09\x10".join(pictures))
    with av.open(str(path)) as container:
        packets = sum(1 for packet in container.demux(video=0) if packet.size)
    index = index_video(path)
    assert index.counted and index.num_frames <= 40 < packets


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("name", [*FILES, *MADE_FROM])
def test_clips_are_bit_equal_to_a_full_decode(make, name, stride):
    path = make(name)
    index = index_video(path)
    assert index.num_frames == len(full_decode(path)[0])
    last = index.num_frames - 1 - 3 * stride
    for start in (0, 1, last // 3, last // 2, last):  # 33 files x 3 strides x 5 starts = 495 cases
        wanted = [start + stride * t for t in range(4)]
        assert same(path, index, wanted), (name, wanted)


@pytest.mark.parametrize("name", [*FILES, *MADE_FROM])
def test_any_order_repeats_and_far_apart(make, name):
    path = make(name)
    index = index_video(path)
    end = index.num_frames - 1
    assert same(path, index, [end, 0, end // 2, 0, end])
    assert all(same(path, index, [n]) for n in range(0, end, 7))


def test_the_fast_way_is_taken_where_it_can_be(make, monkeypatch):
    """What is decoded is far less than everything, so the equality above is not one of the slow way with itself."""
    slow = []
    monkeypatch.setattr(decode, "_decode_from_start", lambda *args: slow.append(args))
    for name in FILES:
        index = index_video(make(name))
        if not index.counted and name != "h264_intra_refresh.mp4":  # its keyframes are none, which only decoding shows
            decode_only(make(name), index, [17, 25])
    assert not slow
    assert [name for name in (*FILES, *MADE_FROM) if index_video(make(name)).counted] == COUNTED


@pytest.mark.parametrize("name", ["h264_gop40.mp4", "hevc.mp4", "mpeg2.ts", "mpeg4.mp4"])
def test_frames_that_nobody_needs_are_not_decoded(make, monkeypatch, name):
    outputs, count = decode._outputs, []
    monkeypatch.setattr(decode, "_outputs", lambda *args: (count.append(1) or pair for pair in outputs(*args)))
    index = index_video(make(name))
    assert index.skippable
    decode_only(make(name), index, [8, 11])
    skipped = len(count)
    count.clear()
    decode_only(make(name), dataclasses.replace(index, skippable=False), [8, 11])
    assert skipped < len(count) <= 14
    count.clear()
    decode_only(make(name), index, [int(np.searchsorted(index.times, index.keyframes[-1, 0]))])
    assert len(count) == 1  # a keyframe needs nothing else


def test_decode_only_delivers_what_read_frames_does(make):
    index = index_video(make("h264.mp4"))
    assert decode_only(make("h264.mp4"), index, [5, 9, 9, 30]) == 3


def test_the_content_serves_as_the_file(make):
    with open(make("h264.mp4"), "rb") as file:
        content = file.read()
    arrays, _ = read_frames(content, index_video(content), [3, 31], "yuv420", CANVAS)
    assert np.array_equal(arrays["luma"], full_decode(make("h264.mp4"))[0][[3, 31]])


def test_threads_do_not_disturb_each_other(make):
    path = make("h264_gop40.mp4")
    index = index_video(path)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda start: same(path, index, [start, start + 5, start + 9]), range(24)))


def test_wrong_requests(make):
    path = make("h264.mp4")
    index = index_video(path)
    for wanted, layout, canvas in (
        ([40], "rgb", CANVAS),
        ([-1], "rgb", CANVAS),
        ([], "rgb", CANVAS),
        ([0], "bgr", CANVAS),
        ([0], "yuv420", (47, 64)),
    ):
        with pytest.raises(ValueError):
            read_frames(path, index, wanted, layout, canvas)


# --- damage ---


def damage(path: str, target, part: slice, seed: int) -> str:
    """Flips 12 bytes in a part of a file's content."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    start = content.index(b"mdat") + 4
    places = np.arange(start, len(content))[part]
    for place in np.random.default_rng(seed).choice(places, 12, replace=False):
        content[place] ^= 0xFF
    target.write_bytes(content)
    return os.fspath(target)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_frames_are_never_handed_out_as_good(tmp_path, seed):
    path = write_video(tmp_path / "good.mp4", FRAMES, Clip(muxer={"movflags": "faststart"}))
    bad = damage(path, tmp_path / "bad.mp4", slice(-3000, None), seed)
    index = index_video(bad)
    assert index.num_frames == 40
    causes = []
    for start in range(0, 40, 4):
        try:
            read_frames(bad, index, range(start, start + 4), "rgb", CANVAS)
        except BrokenVideo as error:
            causes.append((start, error.cause))
    assert causes and {cause for _, cause in causes} == {"corrupt"}
    assert min(start for start, _ in causes) >= 12  # the GOPs before the damage are as good as ever
    assert same(path, index, [0, 7, 11]) and np.array_equal(
        read_frames(bad, index, [0, 7, 11], "yuv420", CANVAS)[0]["luma"], full_decode(path)[0][[0, 7, 11]]
    )


def test_damage_with_python_logging_on_does_not_hang(tmp_path, make):
    bad = damage(make("h264.mp4"), tmp_path / "bad.mp4", slice(2000, 6000), 0)
    av.logging.set_level(av.logging.ERROR)
    try:
        with pytest.raises(BrokenVideo):
            read_frames(bad, index_video(bad), range(40), "rgb", CANVAS)
    finally:
        av.logging.set_level(None)


def test_file_that_has_changed_since_it_was_indexed(make, tmp_path):
    path = write_video(tmp_path / "film.mp4", FRAMES)
    index = index_video(path)
    write_video(path, FRAMES[:20])
    with pytest.raises(BrokenVideo, match="corrupt"):
        read_frames(path, index, [30], "rgb", CANVAS)
    os.remove(path)
    with pytest.raises(BrokenVideo, match="missing"):
        read_frames(path, index, [30], "rgb", CANVAS)


def test_nothing_leaks(make):
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    path, cut = make("h264.mp4"), make("cut.mp4")
    index, cut_index = index_video(path), index_video(cut)
    for n in range(300):
        if n == 100:
            files, memory = len(os.listdir("/proc/self/fd")), resident()
        read_frames(path, index, [3, 30], "rgb", CANVAS)
        decode_only(cut, cut_index, [1])
        with pytest.raises(BrokenVideo):
            index_video(__file__)
    assert len(os.listdir("/proc/self/fd")) == files
    assert resident() - memory < 10e6


@pytest.mark.parametrize("name", ["h264.ts", "hevc.mp4", "vp9.webm", "av1.mp4", "mpeg2.mpg", "mpeg4.avi", "h264_fragments.mp4"])
def test_flipped_bytes_anywhere_end_in_frames_or_in_broken_video(make, name):
    with open(make(name), "rb") as file:
        content = np.frombuffer(file.read(), np.uint8)
    rng = np.random.default_rng(0)
    for n in range(16):
        bad = content.copy()
        bad[rng.integers(0, len(bad) if n % 2 else 1500, 8)] ^= 0x55  # every other time the header
        try:
            index = index_video(bad.tobytes())
            arrays, _ = read_frames(bad.tobytes(), index, [0, index.num_frames - 1], "rgb", CANVAS)
            assert arrays["video"].shape == (2, *CANVAS, 3)
        except BrokenVideo as error:
            assert "\n" not in str(error)
