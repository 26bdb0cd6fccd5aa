"""Broken videos are replaced, counted once by cause, written down, and stop the run when they are too many."""

import dataclasses
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.data.array_source import ArraySource
from tests.data.video_files import Clip, shapes_NxHxWx3, write_sound, write_video
from vssl_jax import batch as batch_lib
from vssl_jax.data import open_source
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo
from vssl_jax.data.pipeline import Input, batches, epoch
from vssl_jax.data.sample import Dense
from vssl_jax.errors import UserError

SPEC = batch_lib.Spec(batch_size=4, clips=1, frames=4, height=48, width=64)


def make_input(source, broken: BrokenRecord, frames: int = 4) -> Input:
    spec = batch_lib.Spec(4, 1, frames, 48, 64)
    return Input(source, spec, Dense(frames, 2), broken)


def take(input, n: int) -> list[dict]:
    iterator = batches(input)
    found = list(islice(iterator, n))
    iterator.close()
    return found


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_substitutes_are_drawn_from_the_position():
    source = ArraySource(12, broken={3: "corrupt", 7: "empty", 8: "missing"})
    a, b = (take(dataclasses.replace(make_input(source, BrokenRecord(1.0)), workers=n), 9) for n in (1, 3))
    good = take(make_input(ArraySource(12), BrokenRecord(1.0)), 9)
    replaced = 0
    for x, y, g in zip(a, b, good, strict=True):
        assert all(x[key].tobytes() == y[key].tobytes() for key in x)
        was_broken = np.isin(g["index"], [3, 7, 8])
        assert not np.isin(x["index"], [3, 7, 8]).any() and (x["weight"] == 1).all()
        assert (x["index"][~was_broken] == g["index"][~was_broken]).all()
        assert (x["video"][~was_broken] == g["video"][~was_broken]).all()
        replaced += was_broken.sum()
    assert replaced == 9  # three epochs


def test_each_is_counted_and_written_once_over_epochs_and_restarts(tmp_path):
    source = ArraySource(6, broken={1: "corrupt", 4: "corrupt", 5: "empty"})
    record = BrokenRecord(1.0, tmp_path)
    take(make_input(source, record), 9)
    assert record.metrics() == {"data/broken/corrupt": 2, "data/broken/empty": 1}
    path = tmp_path / "broken_videos.jsonl"
    assert sorted(line["name"] for line in lines(path)) == ["video 1", "video 4", "video 5"]
    path.write_text(path.read_text() + '{"name": "vid')  # killed while writing
    again = BrokenRecord(1.0, tmp_path)
    source.broken[2] = "empty"
    take(make_input(source, again), 9)
    assert again.counts() == {"corrupt": 2, "empty": 2}
    assert sorted(line["name"] for line in lines(path)) == ["video 1", "video 2", "video 4", "video 5"]


def test_evaluation_leaves_a_broken_video_out():
    record = BrokenRecord(0.5)
    found = list(epoch(make_input(ArraySource(6, broken={2: "corrupt"}), record)))
    assert np.concatenate([batch["weight"] for batch in found]).tolist() == [1, 1, 0, 1, 1, 1, 0, 0]
    assert np.concatenate([batch["index"] for batch in found]).tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    assert not found[0]["video"][2].any()
    assert record.counts() == {"corrupt": 1}


@pytest.mark.parametrize("reader", [batches, epoch])
def test_too_many_stop_the_run_with_one_line(tmp_path, reader):
    source = ArraySource(10, broken={1: "corrupt", 4: "corrupt", 5: "empty"})
    with pytest.raises(UserError) as caught:
        list(islice(reader(make_input(source, BrokenRecord(0.2, tmp_path))), 20))
    message = str(caught.value)
    assert "3 of 10 videos are broken (2 corrupt, 1 empty)" in message and "max_broken_fraction=0.2" in message
    assert str(tmp_path / "broken_videos.jsonl") in message and "\n" not in message


def test_the_limit_itself_is_allowed():
    source = ArraySource(10, broken={1: "corrupt", 4: "corrupt"})
    assert len(take(make_input(source, BrokenRecord(0.2)), 6)) == 6


def test_short_videos_have_a_limit_of_their_own():
    """A task that needs long clips leaves many videos out, which says nothing for damaged ones."""
    record = BrokenRecord(0.1, max_short=0.5)
    for i in range(5):
        record.add(f"short {i}", BrokenVideo("too_short", ""), 10)
    record.add("damaged", BrokenVideo("corrupt", ""), 10)
    with pytest.raises(UserError, match=r"more than data\.max_broken_fraction=0\.1 allows"):
        record.add("damaged too", BrokenVideo("corrupt", ""), 10)
    record = BrokenRecord(0.9, max_short=0.1, group="eval.test")
    record.add("short", BrokenVideo("too_short", ""), 10)
    with pytest.raises(UserError, match=r"more than eval\.test\.max_short_fraction=0\.1 allows"):
        record.add("short too", BrokenVideo("too_short", ""), 10)


@pytest.mark.parametrize("reader", [batches, epoch])
def test_a_host_judges_by_what_it_reads(reader):
    """Of twenty, one sees a twentieth of the videos: nearly all of them may be broken without being 5 % of all."""
    source = ArraySource(200, broken={i: "corrupt" for i in range(200) if i % 8 < 4})
    input = make_input(source, BrokenRecord(0.3, processes=4))
    with pytest.raises(UserError, match=r"16 of the [1-9]\d* that this process has read of 200 videos are broken"):
        list(islice(reader(input, process_index=1, process_count=4), 200))
    # As many as are allowed of all. In one epoch it reads a quarter of the videos, in eight it meets the others' too.
    few = make_input(ArraySource(200, broken=dict.fromkeys(range(0, 200, 20), "corrupt")), BrokenRecord(0.1, processes=4))
    assert len(list(islice(batches(few, process_index=1, process_count=4), 400))) == 400


@pytest.mark.timeout(60)
def test_a_source_without_a_good_video_stops_whatever_the_limit():
    with pytest.raises(UserError, match=r"2 of 2 videos are broken \(2 corrupt\), no readable video"):
        take(make_input(ArraySource(2, broken={0: "corrupt", 1: "corrupt"}), BrokenRecord(1.0)), 1)


def test_a_fraction_outside_0_to_1_is_refused():
    with pytest.raises(UserError, match=r"max_broken_fraction is 1\.5"):
        BrokenRecord(1.5)


def test_other_hosts_write_files_of_their_own(tmp_path):
    BrokenRecord(1.0, tmp_path, process_index=3).add("x", BrokenVideo("empty", "no bytes"), 2)
    assert lines(tmp_path / "broken_videos.3.jsonl") == [{"name": "x", "cause": "empty", "detail": "no bytes"}]


def make_broken_files(folder) -> dict[str, str]:
    """Every kind of broken file; returns name -> the cause that it is counted by."""
    good = write_video(folder / "long.mp4", shapes_NxHxWx3(40))
    content = Path(good).read_bytes()
    write_video(folder / "short.mp4", shapes_NxHxWx3(5))
    write_sound(folder / "sound.mp4")
    (folder / "text.mp4").write_text("this is no video at all\n" * 20)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "no_moov.mp4").write_bytes(content[: len(content) // 2])
    write_video(folder / "cut.mp4", shapes_NxHxWx3(40), Clip(muxer={"movflags": "faststart"}))
    faststart = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(faststart[: int(len(faststart) * 0.6)])
    return {
        "short.mp4": "too_short",
        "sound.mp4": "no_video_stream",
        "text.mp4": "not_a_video",
        "empty.mp4": "empty",
        "no_moov.mp4": "truncated",
        "cut.mp4": "truncated",
    }


@pytest.mark.timeout(120)
def test_every_kind_of_broken_file_among_good_ones(tmp_path):
    folder, workdir = tmp_path / "films", tmp_path / "run"
    folder.mkdir()
    causes = make_broken_files(folder)
    for i in range(3):
        write_video(folder / f"good{i}.mp4", shapes_NxHxWx3(12, seed=i))
    source = open_source({"source": "folder", "path": str(folder)})
    record = BrokenRecord(0.7, workdir)
    iterator = batches(make_input(source, record))
    for batch in islice(iterator, 6):
        assert (batch["weight"] == 1).all() and not np.isin(
            batch["index"], [i for i in range(10) if source.name(i).split("/")[-1] in causes]
        ).any()
    iterator.close()
    assert {line["name"].split("/")[-1]: line["cause"] for line in lines(workdir / "broken_videos.jsonl")} == causes
    assert record.counts() == {"too_short": 1, "no_video_stream": 1, "not_a_video": 1, "empty": 1, "truncated": 2}


def test_the_data_of_an_evaluation_have_files_and_limits_of_their_own(tmp_path):
    """Many broken training videos say nothing about the few of testing."""
    train, test = (BrokenRecord(fraction, tmp_path, data=name) for name, fraction in (("train", 0.5), ("test", 0.1)))
    for i in range(40):
        train.add(f"{i}.mp4", BrokenVideo("not_a_video", "text"), 100)
    test.add("a.mp4", BrokenVideo("not_a_video", "text"), 10)
    assert (len(lines(tmp_path / "broken_videos.train.jsonl")), len(lines(tmp_path / "broken_videos.test.jsonl"))) == (40, 1)
    with pytest.raises(UserError, match=r"2 of 10 videos .* than test\.max_broken_fraction=0\.1 allows"):
        test.add("b.mp4", BrokenVideo("not_a_video", "text"), 10)
