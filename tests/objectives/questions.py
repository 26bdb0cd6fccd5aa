"""Every pretext task at a size that compiles at once, and how to ask it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.objectives.nets import Means
from tests.train import tiny
from vssl_jax import batch as batch_lib
from vssl_jax.models.clip_decoder import ClipDecoder
from vssl_jax.models.piece_heads import BinaryHead, ConcatHead, DifferencesHead, PairsHead, SpatialMaxHead
from vssl_jax.models.projection import Projections
from vssl_jax.objectives.appearance_change import AppearanceChange
from vssl_jax.objectives.clip_order import ClipOrder
from vssl_jax.objectives.cubic_puzzle import CubicPuzzle
from vssl_jax.objectives.frame_order import FrameOrder
from vssl_jax.objectives.jigsaw import Jigsaw
from vssl_jax.objectives.motion_statistics import MotionStatistics
from vssl_jax.objectives.odd_one_out import OddOneOut
from vssl_jax.objectives.order_verification import OrderVerification
from vssl_jax.objectives.pace import Pace
from vssl_jax.objectives.playback_rate import PlaybackRate
from vssl_jax.objectives.pretext import Pretext, Question
from vssl_jax.objectives.relative_speed import RelativeSpeed
from vssl_jax.objectives.rotation import Rotation
from vssl_jax.objectives.speediness import Speediness
from vssl_jax.objectives.temporal_transform import TemporalTransform
from vssl_jax.perturb import statistics
from vssl_jax.perturb.crop import WholePicture
from vssl_jax.perturb.resize import ResizeAndBack
from vssl_jax.perturb.speed import RandomPace, SpeedRanges
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(batch_size=8, clips=2, frames=16, height=16, width=16)
FIELDS = dict(
    encoder=Means(), frames=4, view=RandomView(size=16, crop=WholePicture(), flip=0.0, mean=(0.0,) * 3, std=(1.0,) * 3), eval_view=EvalView(size=16)
)  # fmt: skip  # the view changes nothing, so that pieces can be found again in the clip

RELATIVE_SPEED = RelativeSpeed(head=Projections(("appearance", "speed"), 8), size=48, **FIELDS)
TASKS: dict[str, Pretext] = {
    "appearance_change": AppearanceChange(head=ConcatHead(8), classes=(4, 4), **FIELDS | {"frames": 16}),
    "clip_order": ClipOrder(head=PairsHead(6, hidden=8), classes=(6,), count=3, gap=1, **FIELDS),
    "cubic_puzzle": CubicPuzzle(head=ConcatHead(26), classes=(24, 2), tile=6, **FIELDS),
    "frame_order": FrameOrder(head=PairsHead(12, hidden=8), classes=(12,), gaps=(2, 4), **FIELDS),
    "jigsaw": Jigsaw(head=ConcatHead(50), classes=(50,), permutations=50, segments=2, gap=3, tile=6, normalize=False, **FIELDS),
    "odd_one_out": OddOneOut(head=DifferencesHead(6, hidden=8), classes=(6,), skip=2, **FIELDS),
    "order_verification": OrderVerification(head=BinaryHead(ConcatHead(1, hidden=8)), classes=(2,), gaps=(1, 3), **FIELDS),
    "pace": Pace(head=ConcatHead(3), classes=(3,), pace=RandomPace((1, 2, 4), 4), **FIELDS),
    # What it builds is so light in the loss that the answer is all of it, to a float32; its gradients are there.
    "playback_rate": PlaybackRate(
        head=ConcatHead(3),
        classes=(3,),
        decoder=ClipDecoder(8, (16, 16), (4,)),
        rates=(1, 2, 4),
        classification=1.0,
        reconstruction=1e-9,
        **FIELDS,
    ),
    "rotation": Rotation(head=ConcatHead(4), classes=(4,), **FIELDS | {"frames": 16}),
    "rotation_drawn": Rotation(head=ConcatHead(4), classes=(4,), every=False, **FIELDS | {"frames": 16}),
    "speediness": Speediness(
        head=BinaryHead(SpatialMaxHead(1)),
        classes=(2,),
        speeds=SpeedRanges(((1, 1.2), (1.7, 2.2)), 4),
        resize=ResizeAndBack(0.3, 1.5),
        **FIELDS,
    ),
    "temporal_transform": TemporalTransform(head=ConcatHead(7), classes=(4, 3), speeds=3, **FIELDS),
}

# Tasks whose answers are no draws, but measured in the clip.
_NUMBERS = statistics.classes(16)
MEASURED: dict[str, Pretext] = {
    "motion_statistics": MotionStatistics(
        head=ConcatHead(sum(_NUMBERS)), classes=_NUMBERS, error="cross_entropy", **FIELDS | {"frames": 16}
    ),
}
ALL = TASKS | MEASURED


@functools.cache
def started(task: Pretext):
    """(params, memory)"""
    return jax.jit(lambda key: task.init(key, None))(jax.random.key(0))


def zeroed(params):
    """The head says the same of everything."""
    return params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}


_ask = functools.cache(lambda task: jax.jit(task.ask))


def ask(task: Pretext, batch=None, seed: int = 0) -> Question:
    batch = tiny.batches(1, SPEC)[0] if batch is None else batch
    return jax.device_get(_ask(task)(started(task)[1], batch, jax.random.key(seed)))


def numbered() -> dict:
    """A batch in which every pixel of frame t has the value t."""
    batch = tiny.batches(1, SPEC)[0]
    frames = np.arange(SPEC.frames, dtype=np.uint8).reshape(1, 1, -1, 1, 1, 1)
    return dict(batch, video=np.broadcast_to(frames, batch["video"].shape))


def frames_of(asked: Question) -> np.ndarray:
    """Which frames of a numbered batch the pieces are made of, int [Q,P,T]."""
    return np.rint(asked.pieces_QxPxTxHxWx3[..., 0, 0, 0] * 255).astype(int)


def labels(task: Pretext, draws: int) -> np.ndarray:
    """The labels of at least that many questions, [N,A]."""
    spec = batch_lib.Spec(batch_size=64, clips=2, frames=SPEC.frames, height=2, width=2)
    batch = tiny.batches(1, spec)[0]
    memory = started(task)[1]  # not in the trace, which would keep its tracers for others
    asked = jax.jit(lambda key: task.ask(memory, batch, key).label_QxA)
    found = [np.asarray(asked(jax.random.key(0)))]
    while sum(map(len, found)) < draws:
        found.append(np.asarray(asked(jax.random.key(len(found)))))
    return np.concatenate(found)
