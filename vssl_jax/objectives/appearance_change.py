"""Color and noise level prediction: how strongly were a clip's colors changed, and how much noise was added?

Surveys of the field name it beside the prediction of rotation (Schiappa et al. 2023, ACM Computing Surveys, on pretext tasks of appearance);
no one paper defines it, so what is changed and its levels are settings. The two draws are independent, and the unchanged clip is level 0 of
both. The view's own colors, where it has any, come before and would blur the question.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax

from vssl_jax.models.piece_heads import ConcatHead
from vssl_jax.objectives.pretext import Pretext, Question, shared_fields
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.appearance import AppearanceLevels
from vssl_jax.perturb.view import normalize


@dataclass(frozen=True)
class AppearanceChange(Pretext):
    """Asks for both levels of every clip."""

    levels: AppearanceLevels = field(default_factory=AppearanceLevels)

    answers: ClassVar[tuple[str, ...]] = ("color", "noise")
    timed: ClassVar[bool] = False

    def ask(self, memory, batch, rng):
        unit_BxKxTxHxWx3 = self.view.unit(keys_lib.example_keys(rng, batch, keys_lib.VIEW), batch)
        keys_BxK = keys_lib.unit_keys(keys_lib.example_keys(rng, batch, keys_lib.TASK), unit_BxKxTxHxWx3.shape[1])
        changed, levels_BxKx2 = jax.vmap(jax.vmap(self.levels))(keys_BxK, unit_BxKxTxHxWx3)
        clips = normalize(changed, self.view.mean, self.view.std).astype(self.view.dtype)
        return Question(clips.reshape(-1, 1, *clips.shape[2:]), levels_BxKx2.reshape(-1, 2))

    def caption(self, label, prediction):
        amounts = (self.levels.color_levels, self.levels.noise_levels)
        parts = [f"{a[given]:g}, said {a[said]:g}" for a, given, said in zip(amounts, label, prediction, strict=True)]
        return f"{self.levels.adjust.capitalize()} {parts[0]}; noise {parts[1]}"


def from_config(config: Any) -> AppearanceChange:
    """Color and noise levels from a recipe: `objective.adjust`, `color_levels`, `noise_levels`, and what every task has."""
    c = config["objective"]
    levels = AppearanceLevels(c["adjust"], tuple(c["color_levels"]), tuple(c["noise_levels"]))
    classes = (len(levels.color_levels), len(levels.noise_levels))
    return AppearanceChange(head=ConcatHead(sum(classes)), classes=classes, levels=levels, **shared_fields(config))
