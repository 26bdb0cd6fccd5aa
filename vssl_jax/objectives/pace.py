"""Pace prediction (PacePred; Wang, Jiao, Liu 2020, https://arxiv.org/abs/2008.05861, section 3): at which of a few speeds is a clip played?

The authors' code wraps short videos round, and the number of seams then tells the pace; here clips never wrap (perturb/speed.py).
"""

from dataclasses import dataclass, field
from typing import Any

from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.speed import RandomPace


@dataclass(frozen=True)
class Pace(Pretext):
    """The batch's clips are dense, `pace.span` frames or more; `embed` takes clips of `pace.frames` frames."""

    pace: RandomPace = field(default_factory=lambda: RandomPace((1, 2), 8))

    def ask(self, memory, batch, rng):
        batch, which_BxK = self.pace(keys_lib.example_keys(rng, batch, keys_lib.SPEED), batch)
        view = self.view(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        return Question(view.reshape(-1, 1, *view.shape[2:]), which_BxK.reshape(-1, 1))

    def caption(self, label, prediction):
        return f"Pace {self.pace.paces[label[0]]}, said {self.pace.paces[prediction[0]]}"


def from_config(config: Any) -> Pace:
    """Pace from a recipe: `objective.paces`, and what every task has."""
    fields, paces = shared_fields(config), tuple(config["objective"]["paces"])
    return Pace(head=ConcatHead(len(paces)), classes=(len(paces),), pace=RandomPace(paces, fields["frames"]), **fields)
