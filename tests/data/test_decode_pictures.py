"""How a decoded frame comes onto its canvas: upright, in the file's own colors, reduced only where it must be."""

import av
import numpy as np
import pytest

from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax.batch import YUV_SPACES
from vssl_jax.data.decode import picture_size, read_frames
from vssl_jax.data.index import BrokenVideo, index_video

pytestmark = pytest.mark.timeout(60)
LOSSLESS = {"x264-params": "qp=0"}
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # red and blue in luma


def to_rgb(y, u, v, matrix: str, full: bool) -> np.ndarray:
    """ITU-R BT.601 / BT.709 / BT.2020, the definition: 0..255, last axis RGB."""
    red, blue = WEIGHTS[matrix]
    y, u, v = (np.asarray(x, float) for x in (y, u, v))
    y, u, v = (y / 255, (u - 128) / 255, (v - 128) / 255) if full else ((y - 16) / 219, (u - 128) / 224, (v - 128) / 224)
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1).clip(0, 1) * 255


def read(path, layout: str, canvas: tuple[int, int], wanted=(0,)):
    index = index_video(path)
    return index, *read_frames(path, index, wanted, layout, canvas)


def planes(path) -> list[np.ndarray]:
    """Y, U and V of the first frame as they are in the file."""
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    return [np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width] for p in frame.planes]


def upsampled(chroma_hxw: np.ndarray) -> np.ndarray:
    """4:2:0 as H.264 places it: on the even columns, between the rows; linear in between."""

    def along_rows(x: np.ndarray, offset: float) -> np.ndarray:
        place = np.clip((np.arange(2 * len(x)) - offset) / 2, 0, len(x) - 1)
        low = place.astype(int)
        part = (place - low)[:, None]
        return x[low] * (1 - part) + x[np.minimum(low + 1, len(x) - 1)] * part

    return along_rows(along_rows(chroma_hxw.astype(float), 0.5).T, 0.0).T


@pytest.mark.parametrize("color", [(200, 60, 40), (30, 180, 90), (60, 70, 210), (128, 128, 128), (250, 240, 20)])
@pytest.mark.parametrize(
    ("clip", "height", "matrix", "full"),
    [
        (Clip(matrix=1), 32, "bt709", False),
        (Clip(matrix=1, full_range=True), 32, "bt709", True),
        (Clip(matrix=5), 32, "bt601", False),
        (Clip(matrix=6, full_range=True), 32, "bt601", True),
        (Clip(matrix=9), 32, "bt2020", False),
        (Clip(), 32, "bt601", False),
        (Clip(), 720, "bt709", False),
        (Clip(codec="mpeg4"), 32, "bt601", False),
        # "yuv420p" with a range, where H.264 says "yuvj420p"
        (Clip(codec="vp9", matrix=1, full_range=True), 32, "bt709", True),
    ],
)
def test_rgb_goes_through_the_matrix_and_range_of_the_file(tmp_path, clip, height, matrix, full, color):
    path = write_video(tmp_path / "color.mp4", np.full((2, height, 32, 3), color, np.uint8), clip)
    y, u, v = planes(path)
    expected = to_rgb(y, upsampled(u), upsampled(v), matrix, full)
    _, arrays, (rows, cols) = read(path, "rgb", (720, 64))
    assert (rows, cols) == (height, 32) and np.abs(arrays["video"][0, :rows, :cols] - expected).max() <= 1
    _, arrays, (rows, cols) = read(path, "rgb", (24, 24))
    assert rows == 24 and np.abs(arrays["video"][0, :rows, :cols].mean((0, 1)) - expected.mean((0, 1))).max() <= 1


@pytest.mark.parametrize("full", [False, True])
def test_rgb_of_every_pixel_of_a_picture_with_edges(tmp_path, full):
    clip = Clip(matrix=1, full_range=full, options=LOSSLESS)
    path = write_video(tmp_path / "shapes.mp4", shapes_NxHxWx3(1), clip)
    y, u, v = planes(path)
    _, arrays, _ = read(path, "rgb", (48, 64))
    assert np.abs(arrays["video"][0] - to_rgb(y, upsampled(u), upsampled(v), "bt709", full)).max() <= 1


@pytest.mark.parametrize("matrix", [1, 5])
def test_both_layouts_tell_the_same_colors(tmp_path, matrix):
    path = write_video(tmp_path / "color.mp4", np.full((1, 32, 32, 3), (90, 160, 60), np.uint8), Clip(matrix=matrix))
    _, rgb, _ = read(path, "rgb", (32, 32))
    index, yuv, _ = read(path, "yuv420", (32, 32))
    back = to_rgb(yuv["luma"][0, 8, 8], *yuv["chroma"][0, 4, 4], *YUV_SPACES[index.yuv_space])
    assert np.abs(rgb["video"][0, 8, 8] - back).max() <= 1


@pytest.mark.parametrize(
    "clip",
    [
        Clip(pix_fmt="yuv444p", options={"x264-params": "qp=0"}),
        Clip(pix_fmt="yuv422p"),
        Clip(pix_fmt="yuv420p10le", matrix=1),
        Clip(matrix=9),
        Clip(codec="ffv1", pix_fmt="bgr0"),
        Clip(codec="mjpeg", pix_fmt="yuvj420p", full_range=True),
    ],
    ids=["444", "422", "10 bits", "bt2020", "rgb", "jpeg"],
)
def test_sources_that_are_not_8_bit_420_are_converted(tmp_path, clip):
    color = np.array((150, 100, 70))
    path = write_video(tmp_path / "color.mkv", np.full((1, 32, 32, 3), color, np.uint8), clip)
    index, yuv, extent = read(path, "yuv420", (32, 32))
    space = YUV_SPACES[index.yuv_space]
    assert extent == (32, 32) and np.abs(to_rgb(yuv["luma"][0, 8, 8], *yuv["chroma"][0, 4, 4], *space) - color).max() <= 6
    _, rgb, _ = read(path, "rgb", (32, 32))
    assert np.abs(rgb["video"][0, 8, 8] - color).max() <= 6


# --- turning ---


def by_the_matrix(picture_HxWxC: np.ndarray, path: str) -> np.ndarray:
    """The picture as the matrix in its own track header shows it (ISO/IEC 14496-12, 6.2.2): (p, q) goes to (a p + c q, b p + d q)."""
    with open(path, "rb") as file:
        content = file.read()
    start = content.index(b"tkhd") + 4 + 40
    a, b, _, c, d, *_ = (int(x) // 65536 for x in np.frombuffer(content[start : start + 36], ">i4"))
    q, p = np.indices(picture_HxWxC.shape[:2])
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    out = np.zeros((y.max() + 1, x.max() + 1, *picture_HxWxC.shape[2:]), np.uint8)
    out[y, x] = picture_HxWxC
    return out


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_turning_follows_the_display_matrix(tmp_path, rotation, mirrored):
    still = shapes_NxHxWx3(1, 48, 64)
    plain = write_video(tmp_path / "plain.mp4", still)
    turned = write_video(tmp_path / "turned.mp4", still, Clip(rotation=rotation, mirrored=mirrored))
    _, flat, _ = read(plain, "yuv420", (64, 64))
    _, flat_rgb, _ = read(plain, "rgb", (64, 64))
    index, arrays, extent = read(turned, "yuv420", (64, 64))
    expected = by_the_matrix(flat["luma"][0, :48], turned)
    assert extent == expected.shape == (index.height, index.width) == ((64, 48) if rotation in (90, 270) else (48, 64))
    rows, cols = extent
    assert np.array_equal(arrays["luma"][0, :rows, :cols], expected)
    assert np.array_equal(arrays["chroma"][0, : rows // 2, : cols // 2], by_the_matrix(flat["chroma"][0, :24], turned))
    _, rgb, _ = read(turned, "rgb", (64, 64))
    assert np.array_equal(rgb["video"][0, :rows, :cols], by_the_matrix(flat_rgb["video"][0, :48], turned))


def test_a_film_held_upright(tmp_path):
    """A telephone films on its side and writes -90, or 270: a player turns the picture clockwise, what was at the left comes to the top."""
    still = np.zeros((1, 32, 64, 3), np.uint8)
    still[:, :, :16] = 255
    _, arrays, extent = read(write_video(tmp_path / "upright.mp4", still, Clip(rotation=-90)), "rgb", (64, 64))
    assert extent == (64, 32) and arrays["video"][0, :14, :32].min() > 200 and arrays["video"][0, 18:].max() < 50


def test_an_odd_turn_is_refused(tmp_path):
    with pytest.raises(BrokenVideo, match="unreadable"):
        index_video(write_video(tmp_path / "odd.mp4", shapes_NxHxWx3(1), Clip(rotation=30)))


# --- the canvas ---


@pytest.mark.parametrize(
    ("size", "canvas", "even", "expected"),
    [
        ((48, 64), (48, 64), False, (48, 64, False)),
        ((48, 64), (100, 100), True, (48, 64, False)),
        ((47, 63), (100, 100), True, (46, 62, False)),
        ((47, 63), (100, 100), False, (47, 63, False)),
        ((480, 640), (240, 400), False, (240, 320, True)),
        ((480, 640), (300, 200), False, (150, 200, True)),
        ((481, 641), (301, 201), True, (150, 200, True)),
        ((1000, 10), (100, 100), True, (100, 2, True)),
        ((1000, 4), (10, 10), False, (10, 1, True)),
    ],
)
def test_picture_size(size, canvas, even, expected):
    assert picture_size(*size, canvas, even) == expected


@pytest.mark.parametrize("layout", ["rgb", "yuv420"])
def test_outside_the_picture_nothing_is_written(tmp_path, layout):
    path = write_video(tmp_path / "small.mp4", shapes_NxHxWx3(3))
    _, arrays, extent = read(path, layout, (60, 80), (2, 0, 2))
    assert extent == (48, 64)
    if layout == "rgb":
        video = arrays["video"]
        assert video.shape == (3, 60, 80, 3) and not video[:, 48:].any() and not video[:, :, 64:].any() and video[:, :48, :64].any()
        assert np.array_equal(video[0], video[2]) and not np.array_equal(video[0], video[1])
    else:
        luma, chroma = arrays["luma"], arrays["chroma"]
        assert luma.shape == (3, 60, 80) and not luma[:, 48:].any() and not luma[:, :, 64:].any()
        assert chroma.shape == (3, 30, 40, 2) and (chroma[:, 24:] == 128).all() and (chroma[:, :, 32:] == 128).all()


@pytest.mark.parametrize("layout", ["rgb", "yuv420"])
def test_reduction_averages_areas(tmp_path, layout):
    gray = shapes_NxHxWx3(1, 96, 128)[..., :1].repeat(3, -1)
    path = write_video(tmp_path / "large.mp4", gray, Clip(options=LOSSLESS))
    _, whole, _ = read(path, layout, (96, 128))
    _, half, extent = read(path, layout, (48, 200))
    assert extent == (48, 64)
    key = "video" if layout == "rgb" else "luma"
    means = whole[key][0].reshape(48, 2, 64, 2, -1).mean((1, 3)).reshape(half[key][0, :48, :64].shape)
    assert np.abs(half[key][0, :48, :64] - means).max() <= 2


@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_odd_sides(tmp_path, rotation):
    still = shapes_NxHxWx3(1, 47, 63)
    path = write_video(tmp_path / "odd.mkv", still, Clip(codec="ffv1", rotation=rotation))
    luma, u, _ = planes(path)
    luma, u = luma[:46, :62], u[:23, :31]
    index, arrays, (rows, cols) = read(path, "yuv420", (64, 64))
    assert (rows, cols) == ((62, 46) if rotation == 90 else (46, 62)) and sorted((index.height, index.width)) == [47, 63]
    assert np.array_equal(arrays["luma"][0, :rows, :cols], np.rot90(luma, rotation // 90))
    assert np.array_equal(arrays["chroma"][0, : rows // 2, : cols // 2, 0], np.rot90(u, rotation // 90))
    assert read(path, "rgb", (64, 64))[2] == ((63, 47) if rotation == 90 else (47, 63))
