"""BraVe (Recasens et al. 2021, https://arxiv.org/abs/2103.16559): a short stretch of a video foretells a long one, and the long one the short.

The one idea: the narrow view has few frames, so what can be told of the broad one from it is what the video is about. The views differ in length,
size and colors, and each has a network of its own; there are no negatives and no moving average. That not all vectors become one is the doing of
the predictor, which has a higher rate (optimizer.rates) than what it has to keep up with.

    Step 1) either network's features of its view, by one projector that both share: z
    Step 2) of each z what the predictor, which both share, makes of it: h
    Step 3) 1 - cos between h of one view and z of the other, which no gradient passes; the mean over both directions
"""

from dataclasses import dataclass, field
from typing import Any

import jax

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError
from vssl_jax.models import flops as flops_lib
from vssl_jax.models import projection
from vssl_jax.models.projection import MLP, unit
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.encoder import HEAD
from vssl_jax.objectives.joint import HEAD_STATS, PREDICTOR, PREDICTOR_STATS, JointEmbedding, shared_fields
from vssl_jax.objectives.protocol import ENCODER, LOSS, STATS, Memory, Parts, Turn
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.view import pair

NARROW, BROAD = "", "broad_"  # what a network's parts and statistics begin with


@dataclass(frozen=True)
class BraVe(JointEmbedding):
    """Parts: "encoder", which sees the first view, the narrow one, "broad_encoder", a network of the same kind for the second, and for both of them
    "head" and "predictor". Memory: "stats", "broad_stats", "head_stats", "predictor_stats". The narrow network is what is embedded, exported and
    evaluated. Without `both` the broad view foretells nothing, and its network stays as it was drawn.
    """

    predictor: MLP = field(default_factory=MLP)
    both: bool = True

    def __post_init__(self):
        super().__post_init__()
        if len(self.views) != 2:
            raise UserError(f"BraVe compares a narrow view and a broad one, objective.views has {len(self.views)}")
        projection.check_predictor(self.predictor, self.head)

    @property
    def turns(self):
        return (Turn(),) if self.both else (Turn(trains=(ENCODER, HEAD, PREDICTOR)),)

    def init(self, rng, batch):
        narrow_rng, broad_rng, own_rng = jax.random.split(rng, 3)
        params, memory = super().init(narrow_rng, batch)
        params[BROAD + ENCODER], memory[BROAD + STATS], _ = self.start_encoder(broad_rng)
        params[PREDICTOR], memory[PREDICTOR_STATS] = projection.start(self.predictor, own_rng, self.head.dim)
        return params, memory

    def foretell(
        self, params: Parts, memory: Memory, batch: batch_lib.Batch, rng: jax.Array, train: bool
    ) -> tuple[list[jax.Array], list[jax.Array], Memory]:
        """Steps 1 and 2: (z, h of the narrow view and of the broad one, unit vectors [B, D]; the new memory). The projector's and the predictor's batch
        normalization is over one view at a time.
        """
        seen = self.see(batch, rng)
        keys_Bx2 = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), 2)
        z, h = [], []
        for v, of in enumerate((NARROW, BROAD)):
            net = {ENCODER: params[of + ENCODER], HEAD: params[HEAD]}
            running = {STATS: memory[of + STATS], HEAD_STATS: memory[HEAD_STATS]}
            z_Bx1xD, running = self.vectors(net, running, [seen[v]], keys_Bx2[:, v], train)
            h_BxD, stats = projection.apply(self.predictor, params[PREDICTOR], memory[PREDICTOR_STATS], z_Bx1xD[:, 0], train)
            z, h = [*z, unit(z_Bx1xD[:, 0])], [*h, unit(h_BxD)]
            memory = memory | {of + STATS: running[STATS], HEAD_STATS: running[HEAD_STATS], PREDICTOR_STATS: stats}
        return z, h, memory

    def compare(self, params, memory, batch, rng, train):
        (narrow, broad), (from_narrow, from_broad), memory = self.foretell(params, memory, batch, rng, train)
        weight, told = batch[batch_lib.WEIGHT], {}
        for name, h_BxD, z_BxD in (("narrow", from_narrow, broad), ("broad", from_broad, narrow)):
            told[f"{name}/{LOSS}"] = losses.mean(losses.cosine_distance(h_BxD, jax.lax.stop_gradient(z_BxD)), weight)
        loss = (told[f"narrow/{LOSS}"] + told[f"broad/{LOSS}"]) / 2 if self.both else told[f"narrow/{LOSS}"]
        return loss, told | collapse.monitor(narrow, weight), memory

    def flops(self, clips):
        """Without the heads. None where the network's are not counted, or a view is not square."""
        sizes = [(view.frames, *pair(view.view.size)) for view in self.views]
        if flops_lib.backbone(self.encoder) is None or any(rows != columns for _, rows, columns in sizes):
            return None
        narrow, broad = (flops_lib.backbone(self.encoder.clone(frames=frames, size=rows)) for frames, rows, _ in sizes)
        return (3 * narrow + (3 if self.both else 1) * broad) * clips / (1 + max(view.clip for view in self.views))


def from_config(config: Any) -> BraVe:
    """`objective.predictor` (models/projection.py), `both`, and what every joint embedding has (objectives/joint.py); its views are the narrow one and the
    broad one.
    """
    c = config["objective"]
    return BraVe(predictor=projection.build(c["predictor"]), both=c["both"], **shared_fields(config))
