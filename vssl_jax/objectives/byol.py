"""BYOL for video (Grill et al. 2020, https://arxiv.org/abs/2006.07733; over several clips rho-BYOL of Feichtenhofer et al. 2021): from one view a
predictor says what vector the moving average gives another. There are no negatives; that not all vectors become one is the predictor's and the
average's doing. With an average that decays by 0, and stays so (no `final`), which is the network itself, it is SimSiam (Chen & He 2021,
https://arxiv.org/abs/2011.10566).

Letters as in joint.py.
"""

from dataclasses import dataclass
from typing import Any

from vssl_jax import batch as batch_lib
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives.joint import Taught, taught_fields


@dataclass(frozen=True)
class BYOL(Taught):
    """Without a predictor it collapses. The loss is 2 - 2 cos, the mean over the ordered pairs of views; with `own` a view's target is its own average
    as well, as in PySlowFast.
    """

    own: bool = False

    def compare(self, params, memory, batch, rng, train):
        views = range(len(self.views))
        z_BxVxD, said, target_BxVxD, memory = self.exchange(params, memory, batch, rng, train, views, views)
        weight = batch[batch_lib.WEIGHT]
        pairs = [(a, b) for a in views for b in views if a != b or self.own]
        loss = sum(losses.mean(2 * losses.cosine_distance(said[:, a], target_BxVxD[:, b]), weight) for a, b in pairs) / len(pairs)
        return loss, collapse.monitor(z_BxVxD[:, 0], weight), memory

    @property
    def passes(self):
        return 4.0 * len(self.views)


def from_config(config: Any) -> BYOL:
    """`objective.own`, and what every taught method has (objectives/joint.py)."""
    return BYOL(own=config["objective"]["own"], **taught_fields(config))
