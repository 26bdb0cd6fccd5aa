"""Shards hold what the source held: labels, order, times, and frames within JPEG's error."""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.array_source import ArraySource
from tests.data.video_files import shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax.data import make_shards as make_shards_module
from vssl_jax.data import open_source, stills
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.make_shards import Settings, in_flags, main, make_shards, source_settings
from vssl_jax.data.pipeline import Input, epoch
from vssl_jax.data.sample import Views
from vssl_jax.data.stills import rgb_to_yuv420
from vssl_jax.data.tensorflow_host import tensorflow
from vssl_jax.data.tfrecord import serialize
from vssl_jax.errors import UserError


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Three classes, two films each, of 10 to 15 frames; a broken one sorted among them."""
    root = tmp_path_factory.mktemp("films")
    for i in range(6):
        folder = root / "abc"[i // 2]
        folder.mkdir(exist_ok=True)
        write_video(folder / f"{i}.mp4", shapes_NxHxWx3(10 + i, seed=i))
    (root / "b" / "2x.mp4").write_text("no video")
    return root


@pytest.fixture(scope="module")
def shards(films, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    assert make_shards(open_source({"source": "folder", "path": str(films)}), out, Settings(shards=3), BrokenRecord(0.5, out)) == 6
    return out


def read(source, i: int, layout: str = "rgb", canvas=(48, 64), wanted=None):
    video = source.open(i)
    return video.read(range(video.index.num_frames) if wanted is None else wanted, layout, canvas)


def test_round_trip(films, shards):
    want, got = open_source({"source": "folder", "path": str(films)}), open_source({"source": "tfrecord", "path": str(shards)})
    assert got.classes == want.classes == ("a", "b", "c") and batch_lib.LABEL in got.keys
    assert len(list(shards.glob("shard-0000?-of-00003.tfrecord"))) == 3 and not list(shards.glob("*.partial"))
    good = [i for i in range(7) if "2x" not in want.name(i)]
    assert len(got) == 6
    for j, i in enumerate(good):
        w, g = want.open(i), got.open(j)
        assert g.label == w.label == j // 2
        np.testing.assert_allclose(g.index.seconds, w.index.seconds, atol=1e-6)
        assert (g.index.height, g.index.width) == (48, 64)
        a, b = read(want, i)[0]["video"].astype(float), read(got, j)[0]["video"].astype(float)
        assert a.shape == b.shape == (10 + j, 48, 64, 3)
        errors = [np.abs(a[n] - b[n]).mean() for n in range(len(a))]
        others = [np.abs(a[n] - b[n - 1]).mean() for n in range(1, len(a))]
        assert max(errors) < 8 and min(others) > 1.5 * max(errors)  # closer to its own frame than to the one before
    assert "2x.mp4" in (shards / "broken_videos.jsonl").read_text()


def test_frames_come_in_any_order_and_on_a_canvas(shards):
    source = open_source({"source": "tfrecord", "path": str(shards)})
    whole = read(source, 0)[0]["video"]
    some, extent = read(source, 0, canvas=(60, 80), wanted=[7, 2, 7])
    assert extent == (48, 64) and (some["video"][:, :48, :64] == whole[[7, 2, 7]]).all()
    assert not some["video"][:, 48:].any() and not some["video"][:, :, 64:].any()
    small, extent = read(source, 0, canvas=(24, 40), wanted=[0])
    assert extent == (24, 32)
    blocks = whole[0].reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(small["video"][0, :, :32] - blocks).max() <= 0.5 and not small["video"][:, :, 32:].any()


def test_planes_say_the_same_colors_as_rgb(shards):
    source = open_source({"source": "tfrecord", "path": str(shards)})
    rgb, (planes, extent) = read(source, 1)[0]["video"].astype(float), read(source, 1, "yuv420", (52, 70))
    assert extent == (48, 64) and batch_lib.YUV_SPACES[source.open(1).index.yuv_space] == ("bt601", True)
    luma = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(planes["luma"][:, :48, :64] - luma).max() <= 0.51
    assert (planes["luma"][:, 48:] == 0).all() and (planes["chroma"][:, 24:] == 128).all()


def test_a_picture_is_decoded_once_however_often_it_is_shown(shards, monkeypatch):
    decoded = []
    monkeypatch.setattr(stills, "decode", lambda data, number, decode=stills.decode: decoded.append(number) or decode(data, number))
    for layout in ("rgb", "yuv420"):
        video = open_source({"source": "tfrecord", "path": str(shards)}).open(0)
        again, _ = video.read([3, 1, 3, 3], layout, (32, 48))
        assert decoded == [1, 3]
        once, _ = video.read([3, 1], layout, (32, 48))
        for name, array in again.items():
            np.testing.assert_array_equal(array, once[name][[0, 1, 0, 0]])
        decoded.clear()


def test_a_film_becomes_a_record_by_one_reading(tmp_path):
    """Each reading of a part of it would begin at the keyframe before, or in some files at the start."""
    read = []
    source = ArraySource(1, num_frames=300, on_read=read.append)
    make_shards(source, tmp_path, Settings(shards=1), BrokenRecord(0.0))
    assert read == [0] and open_source({"source": "tfrecord", "path": str(tmp_path)}).open(0).index.num_frames == 300


def test_a_record_that_would_be_too_large_is_left_out_and_named(tmp_path, monkeypatch):
    """Protocol buffers would end the whole conversion."""
    monkeypatch.setattr(make_shards_module, "MOST_BYTES", 5000)
    broken = BrokenRecord(1.0, tmp_path)
    assert make_shards(ArraySource(2, num_frames=300), tmp_path, Settings(shards=1), broken) == 0
    assert broken.counts() == {"unreadable": 2}
    said = (tmp_path / "broken_videos.jsonl").read_text()
    assert "more than the 2 GiB that a record may have: give --canvas, or list parts of it in a manifest" in said


def test_a_name_that_is_no_utf8_is_kept():
    record = serialize([], [], -1, "", os.fsdecode(b"caf\xe9.mp4"))
    assert b"caf\xe9.mp4" in record


def test_gray_has_no_color_and_a_flat_color_is_exact():
    gray = np.full((1, 4, 6, 3), 77, np.uint8)
    luma, chroma = rgb_to_yuv420(gray)
    assert (luma == 77).all() and (chroma == 128).all()
    red = np.zeros((1, 4, 6, 3), np.uint8)
    red[..., 0] = 200
    luma, chroma = rgb_to_yuv420(red)
    assert (luma == 60).all() and (chroma[..., 0] == 94).all() and (chroma[..., 1] == 228).all()


def test_chroma_is_sited_left():
    ramp = np.zeros((1, 4, 16, 3), np.uint8)
    ramp[..., 0] = 10 * np.arange(16)
    _, chroma = rgb_to_yuv420(ramp)
    want = 128 + 0.5 * 10 * np.arange(0, 16, 2)
    assert np.abs(chroma[0, 0, 1:, 1] - want[1:]).max() <= 1


def test_batches_from_shards(shards):
    source = open_source({"source": "tfrecord", "path": str(shards)})
    spec = batch_lib.Spec(4, 2, 4, 48, 64, "yuv420")
    found = list(epoch(Input(source, spec, Views(4, 2, 2), BrokenRecord(0.0))))
    assert np.concatenate([batch["label"] for batch in found]).tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    for batch in found:
        batch_lib.check(batch)


def test_the_command(films, tmp_path, monkeypatch, capsys):
    common = ["make_shards", "--source=folder", f"--path={films}", "--shards=2", f"--out={tmp_path}/a"]
    monkeypatch.setattr(sys, "argv", [*common, "--clases=x"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert str(caught.value).endswith("did you mean 'classes'?")
    monkeypatch.setattr(sys, "argv", [*common, "--max_broken_fraction=0.5", "--canvas", "24", "32"])
    main()
    assert "6 of 7 videos in 2 shards" in capsys.readouterr().out
    assert open_source({"source": "tfrecord", "path": f"{tmp_path}/a"}).open(0).index.height == 24


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--source=folder", "--path={films}"],
            "1 of 7 videos are broken (1 not_a_video), more than --max_broken_fraction=0.05 allows; mend",
        ),
        (["--source=folder", "--path={films}", "--max_broken_fraction=2"], "--max_broken_fraction is 2.0: it must be from 0 to 1"),
        (["--source=folder"], "--path is empty: --source=folder needs to be told where the videos are, --path=..."),
        (["--source=tfrecord", "--path=/nowhere"], "--path '/nowhere' is not there"),
        (["--source=rendered", "--world_videos=8", "--canvas", "8", "8"], "--canvas is (8, 8): videos of --source=rendered are"),
    ],
)
def test_what_is_wrong_is_said_of_the_command_s_own_flags(films, tmp_path, monkeypatch, arguments, says):
    given = [argument.format(films=films) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["make_shards", "--shards=1", f"--out={tmp_path}/a", *given])
    with pytest.raises(SystemExit) as caught:
        main()
    assert says in str(caught.value) and "data." not in str(caught.value).replace(str(films), "")


def test_paths_and_other_settings_stay_as_they_are():
    said = "data.path='/a/data.path' and my.data.source: data.layout, python -m vssl_jax.data.make_shards"
    assert in_flags(said) == "--path='/a/data.path' and my.data.source: data.layout, python -m vssl_jax.data.make_shards"


def test_settings_of_a_source_have_the_types_of_their_defaults():
    assert source_settings("tfds", ["--split=test", "--fps=12"]) == {"split": "test", "fps": 12.0}
    for bad in ["--fps=fast", "split", "--split", "--spilt=test"]:
        with pytest.raises(UserError):
            source_settings("tfds", [bad])


def test_a_set_of_shards_that_is_not_whole_is_refused(shards, tmp_path):
    for shard in sorted(shards.iterdir())[:-1]:
        (tmp_path / shard.name).write_bytes(shard.read_bytes())
    left = [shard.name for shard in tmp_path.glob("*.tfrecord")]
    with pytest.raises(UserError, match=f"of 3 shards .* {3 - len(left)} are not there"):
        open_source({"source": "tfrecord", "path": str(tmp_path)})
    assert len(open_source({"source": "tfrecord", "path": str(tmp_path / left[0])})) > 0  # one that is named is read


def test_what_is_stopped_leaves_no_part_of_a_shard(tmp_path):
    """Ctrl-C while the second video of the second shard is read: the first, which is whole, stays; the third may have become so meanwhile."""

    class Stopped(ArraySource):
        def open(self, i):
            if i == 3:
                raise KeyboardInterrupt
            return super().open(i)

    with pytest.raises(KeyboardInterrupt):
        make_shards(Stopped(6), tmp_path, Settings(3, workers=1), BrokenRecord(0.0))
    left = {file.name for file in tmp_path.glob("shard*")} - {"shard-00002-of-00003.tfrecord"}
    assert left == {"shard-00000-of-00003.tfrecord"}


def test_a_folder_that_cannot_be_written_is_one_line(films, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(sys, "argv", ["make_shards", "--source=folder", f"--path={films}", "--shards=2", f"--out={tmp_path}/file"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert "is a file, or would lie in one: give another --out=DIR" in str(caught.value)


def test_shards_are_not_written_over_others(shards):
    with pytest.raises(UserError, match="holds shards already"):
        make_shards(ArraySource(2), shards, Settings(1), BrokenRecord(1.0))


def test_foreign_records_without_times_sizes_or_names(tmp_path):
    """As DMVR's own tool writes them: frames and a label index only."""
    tf = tensorflow()
    frame = tf.io.encode_jpeg(np.full((8, 10, 3), 90, np.uint8)).numpy()
    train = tf.train
    frames = train.FeatureList(feature=[train.Feature(bytes_list=train.BytesList(value=[frame]))] * 5)
    context = train.Features(feature={"clip/label/index": train.Feature(int64_list=train.Int64List(value=[1]))})
    example = train.SequenceExample(context=context, feature_lists=train.FeatureLists(feature_list={"image/encoded": frames}))
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord-00000-of-00001")) as writer:
        writer.write(example.SerializeToString())
    source = open_source({"source": "tfrecord", "path": str(tmp_path), "fps": 10.0})
    video = source.open(0)
    assert video.index.seconds.tolist() == [0, 0.1, 0.2, 0.3, 0.4] and (video.index.height, video.index.width) == (8, 10)
    assert video.label == -1 and source.classes == () and batch_lib.LABEL not in source.keys
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    assert open_source({"source": "tfrecord", "path": str(tmp_path)}).open(0).label == 1
    (tmp_path / "classes.txt").write_text("jump\n")
    with pytest.raises(UserError, match="has the label 1, but there are 1 class names"):
        open_source({"source": "tfrecord", "path": str(tmp_path)}).open(0)


def test_damaged_shards(shards, tmp_path):
    content = (shards / "shard-00000-of-00003.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(content[:-100])
    source = open_source({"source": "tfrecord", "path": str(tmp_path)})
    assert len(source) == 2 and source.open(0).index.num_frames == 10
    with pytest.raises(BrokenVideo) as caught:
        source.open(1)
    assert caught.value.cause == "truncated"
    (length,) = struct.unpack("<Q", content[:8])
    second = 12 + length + 4
    for at, bit in ((second + 6, 1), (second + 7, 128)):  # beyond the file, beyond all memory
        damaged = bytearray(content)
        damaged[at] ^= bit
        (tmp_path / "cut.tfrecord").write_bytes(damaged)
        with pytest.raises(UserError, match=f"is damaged at byte {second} or before it, after 1 records"):
            open_source({"source": "tfrecord", "path": str(tmp_path)})
    at = content.index(b"\xff\xd8\xff", len(content) // 3)
    (tmp_path / "cut.tfrecord").write_bytes(content[:at] + b"\0" * 400 + content[at + 400 :])
    causes = set()
    for i in range(2):
        try:
            read(open_source({"source": "tfrecord", "path": str(tmp_path)}), i)
        except BrokenVideo as error:
            causes.add(error.cause)
    assert causes == {"corrupt"}
    (tmp_path / "cut.tfrecord").write_bytes(b"\x1f\x8b" + os.urandom(500))
    with pytest.raises(UserError, match="no TFRecord file, or a compressed one"):
        open_source({"source": "tfrecord", "path": str(tmp_path)})


def test_wrong_places(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        open_source({"source": "tfrecord", "path": str(tmp_path / "x")})
    with pytest.raises(UserError, match="make_shards"):
        open_source({"source": "tfrecord", "path": str(tmp_path)})
