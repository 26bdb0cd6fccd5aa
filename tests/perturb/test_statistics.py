"""Statistics of motion and colors on clips that are made so that the answer is known, and against plain loops over places as the paper draws them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssl_jax.perturb import statistics
from vssl_jax.perturb.statistics import ANSWERS, APPEARANCE, MOTION, PLACES

SIDE = 16
STARTS = {"block": 0, "ring": 16, "triangle": 20}
motion = jax.jit(statistics.motion_numbers)
appearance = functools.partial(jax.jit(statistics.appearance_numbers, static_argnums=1), bins=32)


def named(numbers, names):
    return dict(zip(names, np.asarray(numbers).tolist(), strict=True))


def places_by_hand(picture):
    """The pixels of every place, [n, ...], cut by slices: blocks, rings, triangles."""
    n, (height, width) = SIDE // 8, picture.shape[:2]
    blocks = [picture[r : r + 4, c : c + 4].reshape(16, *picture.shape[2:]) for r in range(0, height, 4) for c in range(0, width, 4)]
    rings = []
    for ring in range(4):
        keep = np.zeros((height, width), bool)
        keep[8 - n * (ring + 1) : 8 + n * (ring + 1), 8 - n * (ring + 1) : 8 + n * (ring + 1)] = True
        if ring:
            keep[8 - n * ring : 8 + n * ring, 8 - n * ring : 8 + n * ring] = False
        rings.append(picture[keep])
    return blocks, rings


def test_there_are_14_numbers_of_motion_and_13_of_appearance():
    assert (len(MOTION), len(APPEARANCE), len(set(ANSWERS))) == (14, 13, 27)
    sizes = named(statistics.classes(16), ANSWERS)
    assert (sizes["block of u"], sizes["angle in ring of v"], sizes["triangle of steady colors"], sizes["frame of v"]) == (16, 8, 8, 15)


@pytest.mark.parametrize("height, width", [(112, 112), (16, 24), (15, 15)])
def test_every_partition_covers_every_pixel_once(height, width):
    places = statistics.masks(height, width).reshape(-1, height, width)
    for kind, start in STARTS.items():
        np.testing.assert_array_equal(places[start : start + PLACES[kind]].sum(0), 1)


def test_places_are_the_papers():
    places = statistics.masks(112, 112).reshape(-1, 112, 112)
    assert (places[:16].sum((1, 2)) == 28 * 28).all() and places[5, 28:56, 28:56].all()
    np.testing.assert_array_equal(places[16:20].sum((1, 2)), np.diff(np.square([0, 28, 56, 84, 112])))
    assert places[16, 42:70, 42:70].all() and places[19, 0].all() and places[19, -1].all()
    assert (np.abs(places[20:].sum((1, 2)) - 112 * 112 / 8) <= 28).all()
    # Right of the center and just below the middle line, then clockwise.
    points = [(60, 100), (100, 60), (100, 50), (60, 10), (50, 10), (10, 50), (10, 60), (50, 100)]
    assert [int(np.argmax(places[20:, y, x])) for y, x in points] == list(range(8))


@pytest.mark.parametrize("angle", range(8))
def test_an_angle_is_that_of_the_gradient_of_motion(angle):
    """u grows along the angle, v against it; all alike everywhere, so all places have the same angle."""
    y, x = np.mgrid[:SIDE, :SIDE]
    along = x * np.cos(angle * np.pi / 4) + y * np.sin(angle * np.pi / 4)
    answers = named(motion(np.stack([along, -along], -1)[None].repeat(3, 0).astype(np.float32)), MOTION)
    for place in PLACES:
        assert answers[f"angle in {place} of u"] == angle and answers[f"angle in {place} of v"] == (angle + 4) % 8


def blob(y, x, width):
    rows, columns = np.mgrid[:64, :64]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32)


def test_the_place_and_the_frame_are_those_of_the_largest_change():
    flow = np.zeros((5, 64, 64, 2), np.float32)
    flow[1, ..., 0] += blob(20, 37, 1)  # row 1, column 2 of the blocks; up and right of the center
    flow[3, ..., 1] += blob(60, 8, 1.5)  # row 3, column 0; down and left, in the outermost ring
    flow[:, ..., 0] += 5  # what moves as a whole has no boundary
    answers = named(motion(flow), MOTION)
    assert (answers["block of u"], answers["triangle of u"], answers["frame of u"]) == (6, 6, 1)
    assert (answers["block of v"], answers["ring of v"], answers["triangle of v"], answers["frame of v"]) == (12, 3, 2, 3)


def test_a_ring_is_judged_by_its_mean_and_all_of_its_sides():
    """Change in the lowest rows of a ring only, less in sum than a weak one in the larger ring around it."""
    flow = np.zeros((4, 64, 64, 2), np.float32)
    flow[..., 0] = 0.02 * np.mgrid[:64, :64][1]
    flow[:, 41:47, 20:44, 0] += np.sin(np.arange(24) / 2)
    assert named(motion(flow), MOTION)["ring of u"] == 1


def test_where_nothing_moves_there_is_no_answer():
    answers = named(jax.jit(statistics.numbers)(np.full((3, SIDE, SIDE, 3), 0.3, np.float32)), ANSWERS)
    assert all(answers[name] == -1 for name in MOTION)
    assert {name for name in APPEARANCE if answers[name] >= 0} == {"octant"}


@pytest.mark.parametrize("dx, dy", [(0.6, 0.0), (-0.4, 0.5), (0.0, -0.7)])
def test_flow_is_the_shift_of_a_smooth_picture(dx, dy):
    y, x = np.mgrid[:48, :48]

    def frame(t):
        return 0.5 + 0.25 * np.sin((x - dx * t) / 2.5) + 0.25 * np.cos((y - dy * t) / 3)

    found = np.asarray(jax.jit(statistics.flow)(np.stack([frame(t) for t in range(3)]).astype(np.float32)))
    assert found.shape == (2, 48, 48, 2)
    np.testing.assert_allclose(np.median(found[:, 6:-6, 6:-6], axis=(0, 1, 2)), [dx, dy], rtol=0.15, atol=0.01)


def test_mirrored_pictures_have_mirrored_motion():
    clip = np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    plain, mirrored = (np.asarray(jax.jit(statistics.flow)(x)) for x in (clip, clip[:, :, ::-1]))
    np.testing.assert_allclose(mirrored[:, :, ::-1], plain * np.array([-1, 1]), atol=1e-4)


def painted(seed):
    """Random uint8 colors, each place of its own brightness and restlessness."""
    rng = np.random.default_rng(seed)
    still, restless = rng.integers(0, 256, (1, SIDE, SIDE, 3)), rng.integers(0, 256, (4, SIDE, SIDE, 3))
    share = np.kron(rng.random((4, 4)), np.ones((4, 4))) + 0.2 * rng.random((SIDE, SIDE))
    return np.where((rng.random((4, SIDE, SIDE)) < share)[..., None], restless, still) // rng.integers(1, 3, 3)


@pytest.mark.parametrize("seed", range(5))
def test_colors_by_plain_loops(seed):
    clip = painted(seed)
    answers = named(appearance((clip / 255).astype(np.float32)), APPEARANCE)
    frames = [places_by_hand(picture) for picture in clip]
    octant = lambda pixels: np.bincount((pixels.reshape(-1, 3) >= 128) @ [4, 2, 1], minlength=8).argmax()  # noqa: E731
    assert answers["octant"] == octant(clip)
    for kind, name in enumerate(("block", "ring")):
        alike = []
        for place in range(PLACES[name]):
            over_time = [frame[kind][place] for frame in frames]
            channels = []
            for c in range(3):
                counts = np.array([np.histogram(pixels[:, c] // 8, np.arange(33))[0] for pixels in over_time])
                channels.append(counts.min(0).sum() / counts.max(0).sum())
            alike.append(np.mean(channels))
        changing, steady = int(np.argmin(alike)), int(np.argmax(alike))
        assert (answers[f"{name} of changing colors"], answers[f"{name} of steady colors"]) == (changing, steady)
        for what, place in (("changing", changing), ("steady", steady)):
            assert answers[f"octant in {name} of {what} colors"] == octant(np.concatenate([frame[kind][place] for frame in frames]))


def test_the_dominant_color_is_the_fullest_octant_and_not_that_of_the_commonest_triple():
    clip = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    clip[:, :7] = (200, 10, 10)  # 7 of 16 rows are exactly one red
    rng = np.random.default_rng(0)
    clip[:, 7:] = np.stack([rng.integers(0, 128, (9, SIDE)), rng.integers(128, 256, (9, SIDE)), rng.integers(0, 128, (9, SIDE))], -1)
    assert named(appearance((clip / 255).astype(np.float32)), APPEARANCE)["octant"] == 2


def test_a_flickering_ring_changes_most_and_its_color_is_that_of_all_its_sides():
    """The ring between 28/112 and 56/112 of the side: white below, and on the other sides, which are more, green."""
    clip = np.full((4, SIDE, SIDE, 3), 0.1, np.float32)
    ring = statistics.masks(SIDE, SIDE)[17].reshape(SIDE, SIDE) > 0
    clip[:, ring] = np.random.default_rng(0).uniform(0.5, 1, (4, int(ring.sum()), 3)) * np.array([0.9, 1, 0.9])
    below = ring & (np.mgrid[:SIDE, :SIDE][0] >= 10)
    clip[:, ring & ~below] *= np.array([0.4, 1, 0.4])
    clip[:, below] = np.maximum(clip[:, below], 0.5)
    answers = named(appearance(clip), APPEARANCE)
    assert (answers["ring of changing colors"], answers["octant in ring of changing colors"]) == (1, 2)


def test_more_bins_see_finer_changes():
    clip = np.stack([np.full((SIDE, SIDE, 3), v) for v in (0.51, 0.52)]).astype(np.float32)
    coarse, fine = (np.asarray(statistics.overlap(jnp.asarray(clip), bins)) for bins in (4, 256))
    np.testing.assert_array_equal(coarse, 1)
    np.testing.assert_array_equal(fine, 0)
