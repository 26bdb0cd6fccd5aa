"""Every source lists the videos, the labels and the names that its files say, in the same order everywhere, and says in one line what is
wrong with them."""

import functools
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.data.video_files import shapes_NxHxWx3, write_video
from vssl_jax import batch as batch_lib
from vssl_jax.data import SOURCES, files, open_source
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.index import BrokenVideo, VideoIndex
from vssl_jax.data.pipeline import Input, epoch
from vssl_jax.data.sample import Views
from vssl_jax.data.subset import Subset
from vssl_jax.data.tensorflow_host import tensorflow
from vssl_jax.errors import UserError


def folder(path, **settings):
    return open_source({"source": "folder", "path": str(path), **settings})


def manifest(path, **settings):
    return open_source({"source": "manifest", "path": str(path), **settings})


@pytest.fixture
def tree(tmp_path):
    """Files only have to have the right names to be listed."""
    for name in ["run/b.mp4", "run/a.AVI", "jump/deep/er/c.webm", "jump/notes.txt", "run/.hidden.mp4", ".git/x.mp4"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(source, root) -> list[str]:
    return [source.name(i).removeprefix(f"{root}/") for i in range(len(source))]


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names and registry


def test_an_unknown_source_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown data\.source 'foldre': did you mean 'folder'"):
        open_source({"source": "foldre", "path": ""})


@pytest.mark.parametrize("name", ["folder", "manifest", "tfrecord", "tfds"])
def test_an_empty_path_is_not_the_current_folder(name):
    with pytest.raises(UserError, match=r"data\.path is empty: data\.source="):
        open_source({"source": name, "path": ""})


def test_settings_go_to_the_sources_that_have_them(tree):
    assert len(folder(tree, split="test", world="slide-8", classes="")) == 3
    assert len(open_source({"source": "synthetic", "path": "", "videos": 5, "layout": "rgb"})) == 5


def test_the_registry():
    assert set(SOURCES) == {"folder", "manifest", "tfrecord", "tfds", "embedded", "rendered", "synthetic"}


# Folder


def test_a_folder_is_listed_in_order_with_its_labels(tree):
    source = folder(tree)
    assert names(source, tree) == ["jump/deep/er/c.webm", "run/a.AVI", "run/b.mp4"]
    assert source.classes == ("jump", "run") and [entry.label for entry in source.entries] == [0, 1, 1]
    assert batch_lib.LABEL in source.keys


def test_numbers_are_names_of_folders_like_others(tmp_path):
    for name in ("20240131", "7"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"x")
    source = folder(tmp_path)
    assert source.classes == ("20240131", "7") and [entry.label for entry in source.entries] == [0, 1]


def test_files_at_the_top_have_no_labels(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"x")
    (tmp_path / "a.mkv").write_bytes(b"x")
    source = folder(tmp_path)
    assert names(source, tmp_path) == ["a.mkv", "b.mp4"] and source.classes == () and batch_lib.LABEL not in source.keys
    assert [entry.label for entry in source.entries] == [-1, -1]


def test_a_class_file_fixes_the_numbers(tree, tmp_path):
    (tmp_path / "names.txt").write_text("walk\nrun\n\njump\n")
    source = folder(tree, classes=str(tmp_path / "names.txt"))
    assert source.classes == ("walk", "run", "jump") and [entry.label for entry in source.entries] == [2, 1, 1]
    (tmp_path / "names.txt").write_text("walk\nrun\njumps\n")
    with pytest.raises(UserError, match="unknown class 'jump': did you mean 'jumps'"):
        folder(tree, classes=str(tmp_path / "names.txt"))
    with pytest.raises(UserError, match="cannot read the class names"):
        folder(tree, classes=str(tmp_path / "missing.txt"))


def test_a_link_back_is_not_followed_and_a_link_elsewhere_is(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "e.mp4").write_bytes(b"x")
    (tree / "jump" / "all").symlink_to(tree)
    (tree / "jump" / "more").symlink_to(elsewhere)
    assert names(folder(tree), tree) == ["jump/deep/er/c.webm", "jump/more/e.mp4", "run/a.AVI", "run/b.mp4"]


def test_a_folder_that_cannot_be_listed_is_no_folder_without_videos(tree, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"deep cannot be listed \(Permission denied\)"):
        folder(tree)


def test_indices_are_kept_up_to_a_limit_and_the_first_stay(tree, monkeypatch):
    """In a random order the next film that comes is one of those that came first as likely as any."""
    indexed = []

    def index(path):
        indexed.append(path)
        return VideoIndex(range(0, 3000, 10), Fraction(1, 250), np.zeros((0, 2), np.int64), 8, 8, 0, 0)

    monkeypatch.setattr(files, "index_video", index)
    monkeypatch.setattr(files, "INDICES_BYTES", 2 * index("").nbytes)
    indexed.clear()
    source = folder(tree)
    for _ in range(3):
        for i in range(3):
            assert source.open(i).index.num_frames == 300
    assert [indexed.count(source.name(i)) for i in range(3)] == [1, 1, 3]


def test_wrong_folders_are_told_apart(tmp_path, tree):
    empty, texts = tmp_path / "empty", tmp_path / "texts"
    empty.mkdir()
    texts.mkdir()
    (texts / "a.txt").write_text("x")
    for path, words in [
        (tmp_path / "nowhere", "is not there"),
        (texts / "a.txt", "is a file"),
        (empty, "is empty"),
        (texts, "holds no video file"),
    ]:
        with pytest.raises(UserError) as caught:
            folder(path)
        assert words in one_line(caught) and str(path) in one_line(caught)
    (tree / "loose.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"beside them, such as loose\.mp4"):
        folder(tree)


def test_folders_that_are_splits_are_no_classes(tmp_path):
    """A network would be trained on the test videos, to tell them from the others."""
    for name in ("train/run/a.mp4", "Val/run/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"are splits, not classes \(Val, train\): name one of them") as caught:
        folder(tmp_path)
    assert f"data.path={tmp_path / 'Val'}" in one_line(caught)
    assert folder(tmp_path / "train").classes == ("run",)


def test_a_folder_of_unreadable_videos_stops_with_the_causes(tree):
    source = folder(tree)
    with pytest.raises(UserError, match=r"of 3 videos are broken \(\d not_a_video\)"):
        list(epoch(Input(source, batch_lib.Spec(1, 1, 2, 8, 8), Views(2), BrokenRecord(0.0))))


# Manifest


@pytest.fixture
def sheet(tmp_path):
    (tmp_path / "films").mkdir()
    for name in "ab":
        (tmp_path / "films" / f"{name}.mp4").write_bytes(b"x")

    def write(text: str):
        path = tmp_path / "list.csv"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "labels", "spans"),
    [
        ("films/a.mp4\nfilms/b.mp4\n", [-1, -1], [None, None]),
        ("path\nfilms/a.mp4\n\nfilms/b.mp4", [-1, -1], [None, None]),
        ("films/a.mp4,run\nfilms/b.mp4,jump\n", [1, 0], [None, None]),
        ("films/a.mp4,0,1.5\nfilms/b.mp4,2,3\n", [-1, -1], [(0, 1.5), (2, 3)]),
        ("films/a.mp4,run,0,1.5\nfilms/b.mp4,run,,\n", [0, 0], [(0, 1.5), None]),
        ("Path, Label\nfilms/a.mp4,1\nfilms/b.mp4,0\n", [1, 0], [None, None]),
        ("label,path\nrun,films/a.mp4\njump,films/b.mp4\n", [1, 0], [None, None]),
        ("start,end,path\n0,1,films/a.mp4\n,,films/b.mp4\n", [-1, -1], [(0, 1), None]),
        ("films/a.mp4,10\nfilms/b.mp4,2\n", [10, 2], [None, None]),
        ('"films/a.mp4", "1"\nfilms/b.mp4, -1\n', [1, -1], [None, None]),
    ],
)
def test_a_manifest_with_and_without_header(sheet, tmp_path, text, labels, spans):
    source = manifest(sheet(text))
    assert [entry.path for entry in source.entries] == [str(tmp_path / "films" / f"{name}.mp4") for name in "ab"]
    assert [entry.label for entry in source.entries] == labels and [entry.span for entry in source.entries] == spans
    assert (batch_lib.LABEL in source.keys) == (labels != [-1, -1])


def test_integer_labels_keep_their_values(sheet):
    source = manifest(sheet("films/a.mp4,10\nfilms/b.mp4,2\n"))
    assert source.classes == tuple(str(i) for i in range(11))


def test_integer_labels_may_have_names(sheet, tmp_path):
    (tmp_path / "names.txt").write_text("walk\nrun\njump\n", encoding="utf-8-sig")  # as Windows writes it
    path = sheet("films/a.mp4,2\nfilms/b.mp4,0\n")
    source = manifest(path, classes=str(tmp_path / "names.txt"))
    assert source.classes == ("walk", "run", "jump") and [entry.label for entry in source.entries] == [2, 0]
    with pytest.raises(UserError, match="label 3 is beyond the 3 class names"):
        manifest(sheet("films/a.mp4,3\nfilms/b.mp4,0\n"), classes=str(tmp_path / "names.txt"))


def test_paths_may_hold_commas_and_be_absolute(sheet, tmp_path):
    (tmp_path / "films" / "a, b.mp4").write_bytes(b"x")
    source = manifest(sheet(f'"films/a, b.mp4",run\n{tmp_path}/films/b.mp4,run\n'))
    assert [entry.path for entry in source.entries] == [f"{tmp_path}/films/a, b.mp4", f"{tmp_path}/films/b.mp4"]


def test_two_parts_of_one_film_are_two_videos(sheet):
    source = manifest(sheet("films/a.mp4,0,1\nfilms/a.mp4,1,2\n"))
    assert len(source) == 2 and source.name(0) != source.name(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("path,label\n", "a header and no videos"),
        ("films/a.mp4,run\nfilms/b.mp4\n", "line 2: 1 columns where 2 are due (path,label)"),
        ("films/a.mp4,run,1,2,3\n", "line 1: 5 columns"),
        ("path,lable\nfilms/a.mp4,run\n", "line 1) 'lable': did you mean 'label'?"),
        ("path,start\nfilms/a.mp4,1\n", "start and end together"),
        ("video_path,label\nfilms/a.mp4,1\n", "line 1 seems to name columns (video_path,label), but none of them path"),
        ("filename,category\nfilms/a.mp4,1\n", "line 1 seems to name columns (filename,category), but none of them path"),
        ("films/a.mp4,20240131\n", "the label 20240131 would be one of 20,240,132 classes"),
        ("films/a.mp4,run\n\nfilms/b.mp4,\n", "line 3: the label is empty"),
        ("path,start,end\nfilms/a.mp4,0,one\n", "line 2: start '0' and end 'one' must be seconds"),
        ("films/a.mp4,3,2\n", "line 1: start 3 and end 2 must be 0 <= start < end"),
        ("films/a.mp4,nan,2\n", "0 <= start < end"),
        ("films/x.mp4\nfilms/y.mp4\n", "none of the 2 videos"),
        ('films/a.mp4,"run\n', "cannot read the manifest"),
    ],
)
def test_mistakes_in_a_manifest_are_named_with_their_line(sheet, text, words):
    with pytest.raises(UserError) as caught:
        manifest(sheet(text))
    assert words in one_line(caught) and ("list.csv" in one_line(caught) or "classes" in words)


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read the manifest"):
        manifest(tmp_path / "no.csv")


# Real files, through to batches


def test_labels_spans_and_indices_reach_the_batch(tmp_path):
    for i in range(2):
        write_video(tmp_path / f"{i}.mp4", shapes_NxHxWx3(30, seed=i))
    (tmp_path / "list.csv").write_text("path,label,start,end\n0.mp4,run,0.4,0.8\n1.mp4,jump,,\n0.mp4,run,,\n")
    source = manifest(tmp_path / "list.csv")
    (batch,) = epoch(Input(source, batch_lib.Spec(3, 1, 2, 48, 64), Views(2, 9), BrokenRecord(0.0)))
    batch_lib.check(batch)
    assert batch["label"].tolist() == [1, 0, 1] and batch["index"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(batch["time"][:, 0], [[0.4, 0.76], [0.4, 0.76], [0.4, 0.76]], atol=1e-6)
    assert (batch["video"][0] == batch["video"][2]).all() and (batch["video"][0] != batch["video"][1]).any()
    with pytest.raises(BrokenVideo, match=r"too_short: 10 frames in 0\.4\.\.0\.8 s, a clip needs 11"):
        Views(2, 10)(None, source.open(0).index.seconds, source.open(0).span)


def test_yuv_planes_reach_the_batch_with_their_space(tmp_path):
    write_video(tmp_path / "a.mp4", shapes_NxHxWx3(8))
    (batch,) = epoch(Input(folder(tmp_path), batch_lib.Spec(2, 2, 3, 48, 64, "yuv420"), Views(3, 1, 2), BrokenRecord(0.0)))
    batch_lib.check(batch)
    assert batch_lib.YUV_SPACES[batch["yuv_space"][0, 0]] == ("bt601", False) and batch["yuv_space"].shape == (2, 2)


def test_synthetic_videos_are_no_films_and_all_or_none():
    source = open_source({"source": "synthetic", "path": "", "videos": 4})
    with pytest.raises(UserError, match="has no films to open"):
        source.open(0)
    with pytest.raises(UserError, match="is read whole"):
        Subset(source, (0, 1))


def test_synthetic_videos_are_their_numbers_own(rng):
    source = open_source({"source": "synthetic", "path": "", "videos": 6, "num_classes": 3})
    spec = batch_lib.Spec(2, 1, 2, 4, 4, "yuv420")
    a, b = (source.make(np.array(indices, np.int32), spec) for indices in ([4, 1], [1, -1]))
    batch_lib.check(a)
    assert {key: value.dtype for key, value in a.items()} == {key: s.dtype for key, s in spec.shapes().items()}
    assert (a["luma"][1] == b["luma"][0]).all() and (a["luma"][0] != a["luma"][1]).any()
    assert a["label"].tolist() == [1, 1] and b["label"].tolist() == [1, -1] and b["weight"].tolist() == [1, 0]
    with pytest.raises(UserError, match="videos >= 1"):
        open_source({"source": "synthetic", "path": "", "videos": 0})


def test_the_embedded_dataset(tmp_path):
    source = open_source({"source": "embedded", "path": "", "world": "slide-2", "split": "test", "world_videos": 4, "cache": str(tmp_path)})
    assert len(source) == 4 and len(source.classes) == 2 and {entry.label for entry in source.entries} == {0, 1}
    (batch,) = epoch(Input(source, batch_lib.Spec(4, 1, 8, 64, 64), Views(8, 2), BrokenRecord(0.0)))
    assert batch["weight"].all() and batch["video"].std() > 1
    with pytest.raises(UserError, match="did you mean 'slide-8'"):
        open_source({"source": "embedded", "path": "", "world": "slide8", "cache": str(tmp_path)})


@pytest.mark.parametrize("name", ["embedded", "rendered"])
def test_a_world_that_reads_no_pictures_takes_no_path(name, tmp_path):
    """Whoever names their videos and not their source would be shown a run of others."""
    (tmp_path / "thumbnail.jpg").write_bytes(b"x")
    with pytest.raises(
        UserError, match=rf"data\.source={name} makes its videos, and reads none in data\.path=.*--config\.data\.source=folder"
    ):
        open_source({"source": name, "path": str(tmp_path), "world": "slide-2"})


# TFDS


@functools.cache
def tiny_videos():
    """The builder's class; TFDS knows it by its name from then on."""
    tensorflow()
    import tensorflow_datasets

    class TinyVideos(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            kinds = tensorflow_datasets.features
            features = {"video": kinds.Video(shape=(None, 48, 64, 3)), "label": kinds.ClassLabel(names=["jump", "run"]), "id": kinds.Text()}
            return self.dataset_info_from_configs(features=kinds.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(5), "test": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"video": shapes_NxHxWx3(6 + i, seed=i), "label": i % 2, "id": f"film {i}"}

    return TinyVideos


def make_dataset(data_dir, file_format: str):
    builder = tiny_videos()(data_dir=data_dir)
    builder.download_and_prepare(file_format=file_format)
    return str(builder.data_dir)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_a_tfds_dataset_is_read_by_number(tmp_path, file_format):
    path = make_dataset(tmp_path, file_format)
    source = open_source({"source": "tfds", "path": path, "split": "train", "fps": 10.0})
    assert len(source) == 5 and source.classes == ("jump", "run")
    lengths = []
    for i in range(5):
        video = source.open(i)
        number = video.index.num_frames - 6
        lengths.append(number)
        assert video.label == number % 2 and video.index.seconds[3] == 0.3
        arrays, extent = video.read([5, 0], "rgb", (50, 64))
        assert extent == (48, 64) and (arrays["video"][:, :48] == shapes_NxHxWx3(6 + number, seed=number)[[5, 0]]).all()
    assert sorted(lengths) == list(range(5))
    assert len(open_source({"source": "tfds", "path": path, "split": "train[:40%]"})) == 2
    assert [open_source({"source": "tfds", "path": path, "split": "train[40%:]"}).open(0).index.num_frames - 6] == lengths[2:3]


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_a_tfds_dataset_of_which_files_are_missing_or_cut_is_refused(tmp_path, file_format):
    path = make_dataset(tmp_path, file_format)
    dataset = {"source": "tfds", "path": path, "split": "train"}
    (file,) = (file for file in Path(path).iterdir() if "-train." in file.name)
    content = file.read_bytes()
    for left in (len(content) * 6 // 10, 0, None):
        file.unlink() if left is None else file.write_bytes(content[:left])
        with pytest.raises(UserError, match=r"copy or prepare it again|copy it again") as caught:
            open_source(dataset)
        one_line(caught)
    file.write_bytes(content)
    with pytest.raises(UserError, match="has no videos: take a larger share"):
        open_source(dataset | {"split": "train[:1%]"})


def test_wrong_tfds_datasets(tmp_path):
    path = make_dataset(tmp_path / "a", "array_record")
    with pytest.raises(UserError, match="no split 'valid': it has test, train"):
        open_source({"source": "tfds", "path": path, "split": "valid"})
    with pytest.raises(UserError, match="is no prepared TFDS dataset"):
        open_source({"source": "tfds", "path": str(tmp_path)})
    with pytest.raises(UserError, match="is not prepared in"):
        open_source({"source": "tfds", "path": "tiny_videos", "tfds_dir": str(tmp_path / "b")})
    with pytest.raises(UserError, match="TFDS has no dataset 'no_such_thing'"):
        open_source({"source": "tfds", "path": "no_such_thing", "tfds_dir": str(tmp_path / "b")})
