"""Masks and flow are those of the pixels; sound, captions and steps are those of the scene."""

import dataclasses

import numpy as np
import pytest

from vssl_jax.data import world
from vssl_jax.data.world import captions, render, truth
from vssl_jax.data.world.scene import draw_scene
from vssl_jax.data.world.textures import Gratings


def plain(value):
    return Gratings(np.zeros((1, 3), np.float32), 1.0, np.full(3, value, np.float32), np.zeros(3, np.float32))


@pytest.mark.parametrize("name", ["mixed-14", "hard-14", "long"])
def test_masks_are_where_a_sprite_covers_most_of_a_pixel(name):
    spec = dataclasses.replace(world.find(name), flash=0.0)
    scene = draw_scene(spec, "train", 1)
    masks, _ = truth.masks_and_flow(scene, spec)
    assert masks.max() == len(scene.sprites)
    for number in range(1, len(scene.sprites) + 1):  # this sprite white, the others black: brightness is what is seen of it
        sprites = [dataclasses.replace(s, surface=plain(float(i == number))) for i, s in enumerate(scene.sprites, start=1)]
        seen = render.render_clean(dataclasses.replace(scene, sprites=tuple(sprites), background=plain(0.0)), spec)[..., 0]
        np.testing.assert_array_equal(seen[masks == number] >= 0.25, True)  # over half covered, and less than half of that hidden
        assert seen[masks == number].mean() > 0.9 and seen[masks != number].mean() < 0.02
        if number == len(scene.sprites):
            np.testing.assert_array_equal(masks == number, seen > 0.5)  # nothing above it: exact


def bilinear(frame, x, y):
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    corners = [frame[(y0 + j) % 64, (x0 + i) % 64] for j in (0, 1) for i in (0, 1)]
    return (corners[0] * (1 - fx) + corners[1] * fx) * (1 - fy) + (corners[2] * (1 - fx) + corners[3] * fx) * fy


def same_around(masks, number, reach):
    """Where all pixels within `reach` belong to the number."""
    inside = masks == number
    shifts = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    return np.all([np.roll(inside, shift, axis=(-2, -1)) for shift in shifts], axis=0)


class OwnCoordinates:
    """A surface that shows which point of the sprite is seen. It is linear, so interpolating it is exact."""

    def sample(self, u, v):
        return np.stack([u / 64, v / 64, np.ones_like(u)], axis=-1)


SMOOTH = Gratings(np.array([[1 / 64, 2 / 64, 0.1]], np.float32), 1.0, np.full(3, 0.5, np.float32), np.full(3, 0.5, np.float32))


@pytest.mark.parametrize("name", ["mixed-14", "moving-8", "hard-14"])
def test_flow_carries_each_frame_into_the_next(name):
    spec = dataclasses.replace(world.find(name), flash=0.0)
    rows, cols = np.mgrid[:64, :64].astype(np.float64)
    for index in range(len(spec.classes)):  # one of each class
        scene = draw_scene(spec, "train", index)
        sprites = tuple(dataclasses.replace(sprite, surface=OwnCoordinates()) for sprite in scene.sprites)
        frames = render.render_clean(dataclasses.replace(scene, sprites=sprites, background=SMOOTH), spec)
        masks, flow = truth.masks_and_flow(scene, spec)
        assert np.abs(flow).max() <= 32  # the shortest way round
        for t in range(0, 31, 3):
            x, y = cols + flow[t, ..., 0], rows + flow[t, ..., 1]
            error = np.abs(bilinear(frames[t + 1], x, y) - frames[t]).max(-1)
            for number in range(len(scene.sprites) + 1):
                still_seen = bilinear(same_around(masks[t + 1], number, 1)[..., None].astype(float), x, y)[..., 0] > 0.999
                known = same_around(masks[t], number, 1) & still_seen  # a pixel from the edge, in this frame and the next
                assert known.sum() > 10 or number < len(scene.sprites)
                assert np.all(error[known] < (5e-3 if number == 0 else 1e-3))


def test_the_last_flow_goes_where_the_loop_begins_again():
    spec = world.find("mixed-14")
    for index in range(len(spec.classes)):
        scene = draw_scene(spec, "train", index)
        twice = dataclasses.replace(scene.target, actions=(dataclasses.replace(scene.target.actions[0], frames=64),))
        flow = truth.masks_and_flow(dataclasses.replace(scene, sprites=(twice,)), spec)[1]
        np.testing.assert_array_equal(truth.masks_and_flow(scene, spec)[1], flow[:32])
        np.testing.assert_array_equal(flow[:32], flow[32:])


def test_sound_starts_when_the_sprite_flashes():
    spec = dataclasses.replace(world.find("mixed-14"), noise=0.0)
    for index in range(6):
        sample, dark = (world.video(dataclasses.replace(spec, flash=flash), "train", index) for flash in (0.5, 0.0))
        lit = np.flatnonzero((sample.frames_TxHxWx3 != dark.frames_TxHxWx3).any((1, 2, 3)))
        np.testing.assert_array_equal(lit / spec.fps, sample.onsets)
        assert len(lit) == 1 and sample.audio.shape == (32000,) and np.abs(sample.audio).max() < 1
        first_loud = np.flatnonzero(np.abs(sample.audio) > 0.02)[0] / spec.sample_rate
        assert 0 <= first_loud - sample.onsets[0] < 0.005


def test_captions_say_what_is_seen_and_their_counterparts_differ_in_direction_only():
    spec = world.find("mixed-14")
    for index in range(14):
        scene = draw_scene(spec, "train", index)
        right, wrong = captions.caption(scene), captions.counterpart(scene)
        assert all(word in right for word in (scene.target.color, scene.target.texture, scene.target.shape))
        assert wrong == captions.caption(scene.reversed()) != right
        assert right.startswith("an ") == (scene.target.color == "orange")
    verbs = {captions.caption(draw_scene(spec, "train", i)).split(" ", 4)[4] for i in range(14)}
    assert len(verbs) == 14 and "slides up and right" in verbs and "circles counterclockwise" in verbs
