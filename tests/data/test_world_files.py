"""The files hold what the world says, are the same whenever they are built, and survive builds that are stopped or run twice at once."""

import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vssl_jax.data import world
from vssl_jax.data.world import cache as cache_lib
from vssl_jax.data.world import encode, render, sound
from vssl_jax.data.world.scene import draw_scene
from vssl_jax.data.world.videos import write_video
from vssl_jax.errors import UserError

av = pytest.importorskip("av")
SLIDE = world.find("slide-8")


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decode_audio(path):
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return world.build("slide-8", "test", tmp_path_factory.mktemp("cache"), 10)


def test_a_build_has_videos_manifest_and_truths(built):
    names = {f"{i:05d}.mp4" for i in range(10)}
    assert set(contents(built)) == names | {"manifest.csv", "steps.csv", "classes.txt", "truth.jsonl", "meta.json"}
    rows = list(csv.DictReader((built / "manifest.csv").open()))
    truths = [json.loads(line) for line in (built / "truth.jsonl").open()]
    assert (built / "classes.txt").read_text().splitlines() == list(SLIDE.classes)
    for i, (row, truth) in enumerate(zip(rows, truths, strict=True)):
        sample = world.video(SLIDE, "test", i)
        assert row == {"path": f"{i:05d}.mp4", "label": SLIDE.classes[sample.label]}
        assert (truth["path"], truth["label"]) == (row["path"], row["label"])
        assert (truth["caption"], truth["counterpart"]) == (sample.caption, sample.counterpart)
        assert tuple(truth["onsets"]) == sample.onsets
        assert [tuple(step) for step in truth["steps"]] == [dataclasses.astuple(step) for step in sample.steps]
    meta = json.loads((built / "meta.json").read_text())
    assert world.spec_from_json(json.dumps(meta["spec"])) == SLIDE


def test_files_are_h264_and_aac_with_the_frames_and_the_sound_of_the_world(built):
    for i in range(3):
        path, sample = built / f"{i:05d}.mp4", world.video(SLIDE, "test", i)
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.average_rate, video.frames, audio.sample_rate) == (16, 32, 16000)
        frames = decode(path)
        assert frames.shape == sample.frames_TxHxWx3.shape
        coarse = [part.reshape(32, 16, 4, 16, 4, 3).mean((2, 4)) for part in (frames.astype(float), sample.frames_TxHxWx3)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 3.0  # of 255
        heard = decode_audio(path)
        assert len(heard) >= len(sample.audio)
        first_loud = np.flatnonzero(np.abs(heard) > 0.1)[0] / 16000
        assert abs(first_loud - sample.onsets[0]) < 0.01


def test_building_twice_gives_the_same_bytes(built, tmp_path):
    again = world.build("slide-8", "test", tmp_path, 10)
    assert contents(again) == contents(built)
    more = contents(world.build("slide-8", "test", tmp_path, 12))
    assert all(more[name] == data for name, data in contents(built).items() if name.endswith(".mp4"))


def test_a_finished_build_is_left_alone(built):
    before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
    assert world.build("slide-8", "test", built.parents[1], 10) == built
    assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before


def test_processes_share_a_build(built, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_lib, "VIDEOS_PER_PROCESS", 1)
    monkeypatch.setattr(cache_lib.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.chdir(tmp_path)  # the processes must find the package from anywhere
    assert contents(world.build("slide-8", "test", tmp_path, 10)) == contents(built)


def test_a_process_that_fails_stops_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_lib, "VIDEOS_PER_PROCESS", 1)
    monkeypatch.setattr(cache_lib.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(cache_lib.sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="processes ended with"):
        world.build("slide-8", "test", tmp_path, 4)
    assert not list(tmp_path.glob("*/test-4"))


def test_a_build_that_was_killed_goes_on(built, tmp_path):
    """After its third video."""
    script = """
import os, signal, sys
from vssl_jax.data import world
put, done = os.replace, []

def replace(old, new):
    put(old, new)
    done.extend([new] if str(new).endswith(".mp4") else [])
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
world.build("slide-8", "test", sys.argv[1], 10)
"""
    partial = cache_lib.split_folder(SLIDE, "test", tmp_path, 10).with_name(".test-10.partial")
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(cache_lib.__file__).parents[3], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(partial.glob("0*.mp4"))) == 3 and not partial.with_name("test-10").exists()
    (partial / ".00009.mp4.123").write_bytes(b"half a file")
    written = (partial / "00000.mp4").stat().st_mtime_ns
    again = world.build("slide-8", "test", tmp_path, 10)
    assert contents(again) == contents(built)
    assert (again / "00000.mp4").stat().st_mtime_ns == written  # made once


def test_two_builds_at_once_make_one_folder(built, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: world.build("slide-8", "test", tmp_path, 10), range(2)))
    assert folders[0] == folders[1] and contents(folders[0]) == contents(built)
    assert sorted(path.name for path in folders[0].parent.iterdir()) == [".test-10.lock", "test-10"]


def test_step_videos_have_a_row_per_step(tmp_path):
    spec = dataclasses.replace(world.find("long"), steps=(2, 3), step_loops=(1, 1))
    folder = world.build(spec, "validation", tmp_path, 2)
    assert (folder / "manifest.csv").read_text().split() == ["path", "00000.mp4", "00001.mp4"]
    rows = list(csv.DictReader((folder / "steps.csv").open()))
    assert {row["path"] for row in rows} == {"00000.mp4", "00001.mp4"} and {row["label"] for row in rows} <= set(spec.classes)
    ends = {row["path"]: float(row["end"]) for row in rows}
    assert all(len(decode(folder / name)) == end * spec.fps for name, end in ends.items())


def test_the_codec_cannot_tell_which_way_time_runs(tmp_path):
    """Every frame by itself, at a constant quantizer: to encode and decode is the same whether the frames run forward or back."""
    scene = draw_scene(SLIDE, "train", 5)
    frames, audio, keys = render.render(scene, SLIDE), sound.soundtrack(scene, SLIDE), encode.key_frames(scene, SLIDE)
    encode.write_mp4(tmp_path / "forward.mp4", frames, audio, keys, SLIDE)
    encode.write_mp4(tmp_path / "back.mp4", frames[::-1], audio, keys, SLIDE)
    np.testing.assert_array_equal(decode(tmp_path / "back.mp4"), decode(tmp_path / "forward.mp4")[::-1])
    spec = dataclasses.replace(SLIDE, gop=12)  # with predicted frames it is not, which is why they are not the default
    encode.write_mp4(tmp_path / "forward.mp4", frames, audio, encode.key_frames(scene, spec), spec)
    encode.write_mp4(tmp_path / "back.mp4", frames[::-1], audio, encode.key_frames(scene, spec), spec)
    assert not np.array_equal(decode(tmp_path / "back.mp4"), decode(tmp_path / "forward.mp4")[::-1])


def test_key_frames_come_where_they_are_asked_for(tmp_path):
    spec = dataclasses.replace(SLIDE, gop=12)
    starts = set()
    for i in range(3):
        scene = draw_scene(spec, "train", i)
        wanted = np.flatnonzero(encode.key_frames(scene, spec))
        write_video(spec, "train", i, tmp_path / "v.mp4")
        with av.open(str(tmp_path / "v.mp4")) as container:
            keys = [frame.key_frame for frame in container.decode(video=0)]
        np.testing.assert_array_equal(np.flatnonzero(keys), wanted)
        starts.add(int(wanted[1]))
    assert len(starts) > 1
    write_video(SLIDE, "train", 0, tmp_path / "v.mp4")
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert all(frame.key_frame for frame in container.decode(video=0))


def test_textures_are_cut_from_the_users_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    colors = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), np.uint8)
    for i, pixels in enumerate(colors):
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    spec = world.find("real-8", images=str(tmp_path / "pictures"))
    folder = world.build(spec, "train", tmp_path, 2)
    scene = draw_scene(spec, "train", 0)
    np.testing.assert_array_equal(render.render_clean(scene.reversed(), spec), render.render_clean(scene, spec)[::-1])
    image.fromarray(255 - colors[0]).save(tmp_path / "pictures" / "0.png")
    assert cache_lib.split_folder(spec, "train", tmp_path, 2) != folder  # other pictures, other folder
    (tmp_path / "pictures" / "2.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"cannot read the picture .*2\.png"):
        world.video(dataclasses.replace(spec, images=f"{tmp_path}/pictures/"), "train", 0)


def test_mistakes_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="did you mean 'test'"):
        world.build("slide-8", "tset", tmp_path, 1)
    with pytest.raises(UserError, match="at least one video"):
        world.build("slide-8", "test", tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the cache folder"):
        world.build("slide-8", "test", tmp_path / "file", 1)
