"""Pace prediction (PacePred; Wang, Jiao, Liu 2020, https://arxiv.org/abs/2008.05861, section 3): at which of a few speeds is a clip played?

The one idea: it is classification whose labels are drawn. What the label depends on is the draw alone, never the video or its length.
The authors' code wraps short videos round, and the number of seams then tells the pace; here clips never wrap (perturb/speed.py).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vssl_jax import batch as batch_lib
from vssl_jax import models
from vssl_jax.models import backbone as backbone_lib
from vssl_jax.models.heads import LinearHead
from vssl_jax.objectives.classify import Classify
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb import recipe
from vssl_jax.perturb.speed import RandomPace


@dataclass(frozen=True)
class Pace(Classify):
    """Parts: "encoder" (a backbone), "head" (a linear layer). Memory: "stats". The batch's clips are dense, `pace.span` frames or more.

    `embed` takes clips of `pace.frames` frames.
    """

    pace: RandomPace = field(default_factory=lambda: RandomPace((1, 2), 8))

    needs: ClassVar[tuple[str, ...]] = (batch_lib.VIDEO,)

    def examples(self, batch, rng):
        batch, which_BxK = self.pace(keys_lib.example_keys(rng, batch, keys_lib.SPEED), batch)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        return view, which_BxK.reshape(-1)


def from_config(config: Any) -> Pace:
    """Pace from a recipe: `config.model` is the encoder, `objective.paces`, `objective.view`, `objective.eval_view`."""
    encoder, c = models.build(config["model"]), config["objective"]
    pixels, paces = backbone_lib.pixels(encoder), tuple(c["paces"])
    return Pace(
        encoder=encoder, head=LinearHead(len(paces)), classes=len(paces), frames=encoder.frames,
        view=recipe.build_view(c["view"], pixels), eval_view=recipe.build_eval_view(c["eval_view"], pixels),
        pace=RandomPace(paces, encoder.frames),
    )  # fmt: skip
