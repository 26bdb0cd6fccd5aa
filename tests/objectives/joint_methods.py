"""Every joint-embedding method at a size that compiles at once."""

import math

from tests.objectives.nets import Means, Times
from vssl_jax import batch as batch_lib
from vssl_jax.models.projection import MLP
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.brave import BraVe
from vssl_jax.objectives.byol import BYOL
from vssl_jax.objectives.dino import DINO
from vssl_jax.objectives.joint import JointEmbedding
from vssl_jax.objectives.moco import MoCo
from vssl_jax.objectives.simclr import SimCLR
from vssl_jax.objectives.swav import SwAV
from vssl_jax.objectives.tclr import TCLR
from vssl_jax.objectives.uber_nce import UberNCE
from vssl_jax.perturb.clip_view import ANYWHERE, ClipView
from vssl_jax.perturb.convolve import RandomConvolution
from vssl_jax.perturb.crop import RandomResizedCrop
from vssl_jax.perturb.view import EvalView, RandomView

SPEC = batch_lib.Spec(batch_size=8, clips=2, frames=6, height=16, width=16)
# Without colors, which take as long to compile as all the rest of a view; BraVe's has some.
VIEW = RandomView(size=16, crop=RandomResizedCrop((0.3, 1.0)))
FIRST, SECOND = ClipView(VIEW, 4, clip=0), ClipView(VIEW, 4, clip=1, first=ANYWHERE)
SMALL = ClipView(RandomView(size=8, crop=RandomResizedCrop((0.05, 0.4))), 2, stride=2, first=ANYWHERE)


SPARSE = ClipView(VIEW, 2, stride=3)
EARLY, LATE = ClipView(VIEW, 2), ClipView(VIEW, 2, first=3)
NARROW = ClipView(VIEW, 2, first=ANYWHERE)
BROAD = ClipView(RandomView(size=16, crop=RandomResizedCrop((0.3, 1.0)), color=(RandomConvolution(size=3),)), 2, stride=4)


def fields(views=(FIRST, SECOND), **changes):
    return dict(
        encoder=Means(), frames=4, head=MLP((8,), 6), views=tuple(views), view=VIEW, eval_view=EvalView(size=16), **changes
    )  # fmt: skip


def averaged(views=(FIRST, SECOND), **changes):
    return fields(views, average=Average(0.9), **changes)


def foretelling(views=(FIRST, SECOND)):
    """With a predictor, which reads the head's vectors as they are."""
    return averaged(views, predictor=MLP((8,), 6)) | {"head": MLP((8,), 6, unit_length=False)}


METHODS: dict[str, JointEmbedding] = {
    "simclr": SimCLR(**fields()),
    "cvrl": SimCLR(scale=2.0, **fields()),
    "moco": MoCo(size=32, temperature=0.2, **averaged()),
    "rho_moco": MoCo(size=48, temperature=0.2, **averaged((FIRST, SECOND, SECOND, FIRST))),
    "moco_v3": MoCo(size=0, every=True, temperature=0.2, **foretelling()),
    "uber_nce": UberNCE(size=32, temperature=0.2, **averaged()),
    "byol": BYOL(**foretelling()),
    "byol_own": BYOL(own=True, **foretelling((FIRST, SECOND, SECOND))),
    "brave": BraVe(
        predictor=MLP((8,), 6), **fields((NARROW, BROAD)) | {"frames": 2, "head": MLP((8,), 6, norm_last=True, unit_length=False)}
    ),
    "swav": SwAV(prototypes=10, **fields((FIRST, SECOND, SMALL))),
    "tclr": TCLR(
        parts=2, weights=(1.0, 2.0, 3.0, 4.0), **fields((SPARSE, SPARSE, EARLY, EARLY, LATE, LATE)) | {"encoder": Times(), "frames": 2}
    ),
    "dino": DINO(prototypes=12, **averaged((FIRST, SECOND, SMALL, SMALL))),
}

# What a method costs where all vectors are 0, of a batch of SPEC.
ZERO: dict[str, float] = {
    "simclr": math.log(2 * 8 - 1),
    "cvrl": 2 * math.log(2 * 8 - 1),
    "moco": math.log(32 + 1),
    "rho_moco": math.log(48 + 1),
    "moco_v3": math.log(8),
    "uber_nce": math.log(32 + 1),
    "byol": 2.0,
    "byol_own": 2.0,
    "brave": 1.0,
    "swav": math.log(10),
    "tclr": 3 * math.log(15) + 3 * math.log(3) + 4 * math.log(2),
    "dino": math.log(12),
}
