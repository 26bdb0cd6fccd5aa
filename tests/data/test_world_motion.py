"""The world moves as its labels say, and every class is the exact time reversal of another."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest

from vssl_jax.data import world
from vssl_jax.data.world import motion, render, truth
from vssl_jax.data.world.scene import draw_scene, label_of
from vssl_jax.data.world.steps import steps
from vssl_jax.errors import UserError

DRAWN = [name for name, spec in world.DIFFICULTIES.items() if not spec.needs_images]


def scene_of(name, class_name, start=0):
    """The first scene of the class, and its spec."""
    spec = dataclasses.replace(world.find(name), flash=0.0)
    index = next(i for i in range(start, start + 2 * len(spec.classes)) if spec.classes[label_of(spec, "train", i)] == class_name)
    return draw_scene(spec, "train", index), spec


def difference_on_torus(after, before, size=64):
    return (after - before + size / 2) % size - size / 2


@pytest.mark.parametrize("name", DRAWN)
def test_reversed_frames_are_the_frames_of_the_other_direction(name):
    spec = world.find(name)
    for index in range(3):
        scene = draw_scene(spec, "test", index)
        frames, backwards = render.render_clean(scene, spec), render.render_clean(scene.reversed(), spec)
        np.testing.assert_array_equal(backwards, frames[::-1])
        assert not np.array_equal(backwards, frames)
        done, undone = steps(scene, spec), steps(scene.reversed(), spec)
        flipped = [spec.classes[spec.reversal(spec.classes.index(step.name))] for step in reversed(done)]
        assert [step.name for step in undone] == flipped


@pytest.mark.parametrize("name", DRAWN)
def test_every_class_has_one_reversal(name):
    spec = world.find(name)
    numbers = range(len(spec.classes))
    assert len(set(spec.classes)) == len(spec.classes) == 2 * len(spec.paths)
    assert all(spec.reversal(spec.reversal(n)) == n != spec.reversal(n) for n in numbers)
    assert list(spec.classes) == sorted(spec.classes)


WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
WAYS |= {"down-right": (1, 1), "up-left": (-1, -1), "up-right": (1, -1), "down-left": (-1, 1)}
WAYS |= {"right-slightly-down": (2, 1), "left-slightly-up": (-2, -1), "down-slightly-right": (1, 2), "up-slightly-left": (-1, -2)}
WAYS |= {"right-slightly-up": (2, -1), "left-slightly-down": (-2, 1), "up-slightly-right": (1, -2), "down-slightly-left": (-1, 2)}


@pytest.mark.parametrize("class_name", world.DIFFICULTIES["slide-16"].classes)
def test_pixels_slide_as_the_class_says(class_name):
    scene, spec = scene_of("slide-16", class_name)
    frames = render.render_clean(dataclasses.replace(scene, background=blank(scene)), spec)
    dx, dy = WAYS[class_name.removeprefix("slide-")]
    moved = np.roll(frames, (2 * dy, 2 * dx), axis=(1, 2))[:-1]  # y down, 64 pixels in 32 frames: whole pixels, so the match is exact
    np.testing.assert_allclose(moved, frames[1:], atol=1e-4)
    assert np.abs(frames[1:] - np.roll(frames, (-2 * dy, -2 * dx), axis=(1, 2))[:-1]).mean() > 0.01


def blank(scene):
    return dataclasses.replace(scene.background, swing=np.zeros(3, np.float32))


@pytest.mark.parametrize(("class_name", "sign"), [("orbit-clockwise", 1), ("orbit-counterclockwise", -1)])
def test_orbits_turn_as_the_class_says(class_name, sign):
    scene, spec = scene_of("mixed-8", class_name)
    masks, _ = truth.masks_and_flow(scene, spec)
    angles = np.exp(2j * np.pi * np.arange(64) / 64)
    x, y = (np.angle((masks > 0).sum(axis) @ angles) * 64 / (2 * np.pi) for axis in (1, 2))  # the circular mean: the center on the torus
    vx, vy = (difference_on_torus(np.roll(center, -4), center) for center in (x, y))  # in 4 frames
    cross = vx * np.roll(vy, -4) - vy * np.roll(vx, -4)  # > 0: turns right, which with y down is clockwise
    assert np.all(sign * cross > 0)


@pytest.mark.parametrize(("class_name", "sign"), [("spin-clockwise", 1), ("spin-counterclockwise", -1)])
def test_spins_turn_as_the_class_says(class_name, sign):
    scene, spec = scene_of("mixed-8", class_name)
    frames = render.render_clean(scene, spec)
    eighth = 2 * np.pi / 8  # four frames
    dy, dx = np.mgrid[-4:5, -4:5]

    def around_center(frame, angle):
        x = np.rint(scene.target.rest.x + np.cos(angle) * dx - np.sin(angle) * dy).astype(int) % 64
        y = np.rint(scene.target.rest.y + np.sin(angle) * dx + np.cos(angle) * dy).astype(int) % 64
        return frame[y, x]

    right, wrong = (np.mean(np.abs(around_center(frames[4], s * sign * eighth) - around_center(frames[0], 0.0))) for s in (1, -1))
    assert right < 0.6 * wrong


@pytest.mark.parametrize(("class_name", "sign"), [("zoom-in", 1), ("zoom-out", -1)])
def test_zooms_grow_as_the_class_says(class_name, sign):
    scene, spec = scene_of("mixed-8", class_name)
    area = (truth.masks_and_flow(scene, spec)[0] > 0).sum((1, 2))
    change = np.diff(np.append(area, area[0]))
    assert (sign * change > 0).sum() >= 28 and (sign * change < 0).sum() == 1  # one snap back in the loop


def test_step_videos_have_whole_loops_and_no_jumps():
    spec = world.find("long")
    for index in range(4):
        scene = draw_scene(spec, "train", index)
        done = steps(scene, spec)
        assert spec.steps[0] <= len(done) <= spec.steps[1]
        assert done[0].start == 0 and done[-1].end == scene.frames / spec.fps
        assert all(a.end == b.start and a.name != b.name for a, b in itertools.pairwise(done))
        assert all((step.end - step.start) * spec.fps % spec.phases == 0 for step in done)
        pose = render.sprite_poses(scene.target, spec)
        assert np.hypot(difference_on_torus(pose.x[1:], pose.x[:-1]), difference_on_torus(pose.y[1:], pose.y[:-1])).max() < 3.5
        ratio = pose.scale[1:] / pose.scale[:-1]
        assert np.all((np.abs(np.log2(ratio)) < 0.04) | (np.abs(np.abs(np.log2(ratio)) - 31 / 32) < 1e-6))  # a zoom's own snap back
        turns = np.angle((pose.cos[1:] + 1j * pose.sin[1:]) * (pose.cos[:-1] - 1j * pose.sin[:-1])) / (2 * np.pi)
        assert np.abs(turns).max() < 1 / spec.phases + 1e-6


def test_labels_are_balanced_in_every_block_and_videos_do_not_depend_on_their_number():
    spec = world.find("slide-8")
    labels = [label_of(spec, "train", i) for i in range(80)]
    assert all(sorted(labels[i : i + 8]) == list(range(8)) for i in range(0, 80, 8))
    assert len({tuple(labels[i : i + 8]) for i in range(0, 80, 8)}) > 5


def test_splits_share_no_video():
    spec = world.find("slide-8")
    firsts = {split: [world.video(spec, split, i).frames_TxHxWx3[0].tobytes() for i in range(4)] for split in world.SPLITS}
    assert len({frame for frames in firsts.values() for frame in frames}) == 12


def test_the_pixels_of_this_version_are_these():
    """Bit-identical on every machine, Python and numpy. A change here must raise spec.VERSION."""
    total = hashlib.sha256()
    for name in DRAWN:
        sample = world.video(world.find(name), "test", 3)
        for array in (sample.frames_TxHxWx3, sample.audio, sample.masks_TxHxW):
            total.update(array.tobytes())
    assert (world.spec.VERSION, total.hexdigest()[:16]) == (1, "19375cbf3fbae4c9")


def test_mistakes_are_one_clear_line():
    with pytest.raises(UserError, match="did you mean 'slide-8'"):
        world.find("slide8")
    with pytest.raises(UserError, match="did you mean 'validation'"):
        world.video(world.find("slide-8"), "valid", 0)
    with pytest.raises(UserError, match="folder of JPEG or PNG"):
        world.video(world.find("real-8"), "train", 0)
    with pytest.raises(UserError, match="no picture"):
        world.video(world.find("real-8", images="/nowhere"), "train", 0)
    with pytest.raises(UserError, match="multiple of 16"):
        dataclasses.replace(world.find("slide-8"), size=65)
    with pytest.raises(UserError, match="radius"):
        dataclasses.replace(world.find("slide-8"), radius=(8.0, 20.0))
    assert motion.class_names("zoom") == ("zoom-in", "zoom-out")
