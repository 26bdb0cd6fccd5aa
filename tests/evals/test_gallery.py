"""The gallery shows the right videos: each picture is that of the row whose label stands below it."""

import numpy as np
import pytest

from vssl_jax.evals import gallery, report_data
from vssl_jax.evals.features import Table


def table(seed, n):
    """Videos whose number in the source is not their row; features are the class plus a little noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3)
    return Table((3 * np.eye(3, 8)[labels] + 0.1 * rng.normal(size=(n, 8))).astype(np.float32), None, labels, rng.permutation(10 * n)[:n])


def reader(table, kind):
    """Clips that carry the video's label and number, so that a mix-up shows."""

    def read(index):
        [row] = np.flatnonzero(table.index_N == index)
        clip = np.zeros((2, 4, 4, 3), np.uint8)
        clip[..., 0], clip[..., 1], clip[..., 2] = table.labels_N[row], row, kind
        return clip

    return read


def test_neighbors_carry_their_own_pictures_and_labels(tmp_path):
    train, test = table(0, 30), table(1, 12)
    gallery.save_neighbors(tmp_path, (train, test), (reader(train, 1), reader(test, 2)), ("a", "b", "c"), queries=3, k=4)
    saved = report_data.load_neighbor_pictures(tmp_path)
    assert saved.neighbor_QxKxTxHxWx3.shape == (3, 4, 2, 4, 4, 3) and saved.class_names == ("a", "b", "c")
    assert sorted(saved.query_label_Q) == [0, 1, 2], "queries are of different classes"
    np.testing.assert_array_equal(saved.query_QxTxHxWx3[:, 0, 0, 0, 0], saved.query_label_Q)
    np.testing.assert_array_equal(saved.neighbor_QxKxTxHxWx3[:, :, 0, 0, 0, 0], saved.neighbor_label_QxK)
    assert (saved.query_QxTxHxWx3[..., 2] == 2).all() and (saved.neighbor_QxKxTxHxWx3[..., 2] == 1).all()
    assert (saved.neighbor_label_QxK == saved.query_label_Q[:, None]).all()


def test_the_map_holds_the_labels_of_its_rows(tmp_path):
    pytest.importorskip("sklearn")
    test = table(1, 60)
    gallery.save_map(tmp_path, test, ("a", "b", "c"), most=30)
    saved = report_data.load_feature_map(tmp_path)
    assert saved.xy_Nx2.shape == (30, 2) and np.bincount(saved.labels_N).tolist() == [10, 10, 10] and "30 of 60" in saved.about
    distance = np.linalg.norm(saved.xy_Nx2[:, None] - saved.xy_Nx2[None], axis=-1) + 1e9 * np.eye(30)
    assert (saved.labels_N[distance.argmin(axis=1)] == saved.labels_N).all()


def test_a_shorter_clip_ends_with_its_last_picture(tmp_path):
    train, test = table(0, 30), table(1, 12)
    readers = tuple(
        lambda index, n=n: np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8) for n in (2, 4)
    )
    gallery.save_neighbors(tmp_path, (train, test), readers, ("a", "b", "c"), queries=3, k=4)
    saved = report_data.load_neighbor_pictures(tmp_path)
    for clips, wanted in ((saved.neighbor_QxKxTxHxWx3[0], [1, 2, 2, 2]), (saved.query_QxTxHxWx3, [1, 2, 3, 4])):
        assert all(clip[:, 0, 0, 0].tolist() == wanted and (clip == clip[:, :1, :1]).all() for clip in clips)


def test_pictures_of_other_sizes_stand_in_one_frame(tmp_path):
    """A folder of films has wide and high ones: the smaller are framed in black, in the middle."""
    train, test = table(0, 30), table(1, 12)

    def read(index):
        return np.full((2, 4, 6, 3) if index % 2 else (2, 5, 3, 3), 9, np.uint8)

    gallery.save_neighbors(tmp_path, (train, test), (read, read), ("a", "b", "c"), queries=3, k=4)
    saved = report_data.load_neighbor_pictures(tmp_path)
    assert saved.neighbor_QxKxTxHxWx3.shape == (3, 4, 2, 5, 6, 3)
    for clip in [*saved.query_QxTxHxWx3, *saved.neighbor_QxKxTxHxWx3.reshape(12, 2, 5, 6, 3)]:
        rows, columns = (np.flatnonzero((clip[0, :, :, 0] == 9).any(axis)).tolist() for axis in (1, 0))
        assert (rows, columns) in (([0, 1, 2, 3], [0, 1, 2, 3, 4, 5]), ([0, 1, 2, 3, 4], [1, 2, 3]))
