"""Stored flow is read beside the frames it belongs to, frame by frame, and a video without it is broken and says so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.video_files import Clip, shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax import config as config_lib
from vssl_jax.data import open_source, pipeline
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.memory import InMemory
from vssl_jax.data.recipe import build_input
from vssl_jax.data.stored_flow import WithFlow, folders_of
from vssl_jax.errors import UserError

FRAMES, ROWS, COLUMNS = 12, 48, 64


def codes(n: int) -> tuple[int, int]:
    """What is stored of frame n: (u, v)."""
    return 20 * n, 250 - 20 * n


def stored_at_half(code: int) -> int:
    """The same motion on a picture of twice the size."""
    return int(np.clip(np.rint(127.5 + 2 * (code - 127.5)), 0, 255))


def store(folder: Path, pictures: int = FRAMES - 1, size: tuple[int, int] = (ROWS, COLUMNS)) -> None:
    folder.mkdir(parents=True)
    for n in range(pictures):
        for start, code in zip(("flow_x_", "flow_y_"), codes(n), strict=True):
            Image.fromarray(np.full(size, code, np.uint8)).save(folder / f"{start}{n + 1:05d}.jpg", quality=100)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("films")
    (root / "run").mkdir()
    for name in "ab":
        write_video(root / "run" / f"{name}.mp4", shapes_NxHxWx3(FRAMES, ROWS, COLUMNS), Clip(gop=6))
    return root


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> Path:
    """Of the first film as CLASS/VIDEO, of the second as VIDEO and at half the size."""
    root = tmp_path_factory.mktemp("flow")
    store(root / "run" / "a")
    store(root / "b", size=(ROWS // 2, COLUMNS // 2))
    return root


def data(films: Path, flow: Path | str, **changes) -> dict:
    settings = config_lib.data() | {"source": "folder", "path": str(films), "flow": str(flow), "canvas": (64, 64)}
    return settings | {"sampler": {"name": "dense", "frames": 4, "stride": 2, "clips": 2}} | changes


@pytest.mark.parametrize("i", [0, 1])
def test_each_frame_has_its_own(films, flow, i):
    source = WithFlow(open_source(data(films, flow)), flow)
    assert batch_lib.FLOW in source.keys
    arrays, extent = source.open(i).read([0, 7, 7, 11], "rgb", (64, 64))
    assert extent == (ROWS, COLUMNS) and arrays[batch_lib.FLOW].shape == (4, 64, 64, 2)
    for row, n in enumerate((0, 7, 7, 10)):  # the last frame has the flow before it
        wanted = codes(n) if i == 0 else tuple(map(stored_at_half, codes(n)))
        np.testing.assert_array_equal(arrays[batch_lib.FLOW][row, :ROWS, :COLUMNS], np.broadcast_to(wanted, (ROWS, COLUMNS, 2)))
    assert not arrays[batch_lib.FLOW][:, ROWS:].any()


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_batches_have_the_flow_of_their_frames(films, flow, memory_gb):
    made = build_input(data(films, flow, memory_gb=memory_gb), 2, 0, BrokenRecord(0))
    assert isinstance(made.source, InMemory) == (memory_gb > 0)
    batches = pipeline.batches(made)
    try:
        for _ in range(3):
            batch = next(batches)
            batch_lib.check(batch)
            frames_BxKxT = np.rint(batch[batch_lib.TIME] * 25).astype(int)
            wanted = np.array([codes(n) for n in range(FRAMES - 1)])[np.minimum(frames_BxKxT, FRAMES - 2)]
            half = np.vectorize(stored_at_half)(wanted)
            wanted = np.where(batch[batch_lib.INDEX][:, None, None, None] == 0, wanted, half)
            np.testing.assert_array_equal(batch[batch_lib.FLOW][:, :, :, 5, 9], wanted)
    finally:
        batches.close()


def test_without_the_setting_there_is_none(films):
    assert batch_lib.FLOW not in build_input(data(films, ""), 2, 0, BrokenRecord(0)).spec.shapes()


def test_names():
    assert folders_of("/v/Run/a.b.mp4[1,2.5]") == (Path("Run/a.b"), Path("a.b"))
    assert folders_of("slide-8 test 3")[1] == Path("slide-8 test 3")
    assert folders_of("ucf101/2.0.0 train[17]") != folders_of("ucf101/2.0.0 train[18]")  # no part of a film
    assert folders_of("/s/x.tfrecord@64") != folders_of("/s/x.tfrecord@128")


@pytest.mark.parametrize(
    ("pictures", "cause", "says"),
    [(None, "no_flow", "neither"), (FRAMES - 2, "no_flow", "flow of 10 frames, the film has 12"), (0, "no_flow", "has 0 pictures")],
)  # fmt: skip
def test_a_film_without_its_flow_is_broken(films, tmp_path, pictures, cause, says):
    store(tmp_path / "run" / "b")
    if pictures is not None:
        store(tmp_path / "run" / "a", pictures)
    source = WithFlow(open_source(data(films, tmp_path)), tmp_path)
    with pytest.raises(BrokenVideo, match=says) as error:
        source.open(0)
    assert error.value.cause == cause
    source.open(1)


def test_a_gap_is_found(films, tmp_path):
    store(tmp_path / "a")
    (tmp_path / "a" / "flow_x_00004.jpg").rename(tmp_path / "a" / "flow_x_00014.jpg")
    with pytest.raises(BrokenVideo, match="not numbered alike without gaps"):
        WithFlow(open_source(data(films, tmp_path)), tmp_path).open(0)


def test_numbers_may_outgrow_their_digits(films, tmp_path):
    """Sorted as text, 10 would stand before 9."""
    store(tmp_path / "a")
    for path in (tmp_path / "a").iterdir():
        start, number = path.stem[:7], int(path.stem[7:])
        path.rename(path.with_name(f"{start}{number}.jpg"))
    arrays, _ = WithFlow(open_source(data(films, tmp_path)), tmp_path).open(0).read(range(FRAMES - 1), "rgb", (64, 64))
    np.testing.assert_array_equal(arrays[batch_lib.FLOW][:, 3, 3], [codes(n) for n in range(FRAMES - 1)])


def test_films_of_one_name_are_refused(films, tmp_path):
    write_video(tmp_path / "a.avi", shapes_NxHxWx3(FRAMES), Clip(codec="mpeg4"))
    write_video(tmp_path / "a.mp4", shapes_NxHxWx3(FRAMES))
    with pytest.raises(UserError, match=r"a\.avi and .*a\.mp4 would have their flow in one folder"):
        WithFlow(open_source(data(tmp_path, tmp_path)), tmp_path)


def test_a_broken_picture_is_a_broken_film(films, tmp_path):
    store(tmp_path / "a", FRAMES)  # one more than there are pairs, as some tools write
    (tmp_path / "a" / "flow_y_00004.jpg").write_bytes(b"no picture")
    video = WithFlow(open_source(data(films, tmp_path)), tmp_path).open(0)
    video.read([0, 1, 2, 4], "rgb", (64, 64))
    with pytest.raises(BrokenVideo, match=r"flow_y_00004\.jpg") as error:
        video.read([3], "rgb", (64, 64))
    assert error.value.cause == "corrupt"


def test_wrong_settings_are_one_line(films, tmp_path):
    with pytest.raises(UserError, match=r"data\.flow '.*nowhere' is no folder"):
        build_input(data(films, tmp_path / "nowhere"), 2, 0, BrokenRecord(0))
    with pytest.raises(UserError, match="the source synthetic has none"):
        build_input(data(films, tmp_path, source="synthetic"), 2, 0, BrokenRecord(0))
