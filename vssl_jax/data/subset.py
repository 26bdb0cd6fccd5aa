"""Part of a source: label budgets."""

from dataclasses import dataclass

import numpy as np

from vssl_jax.data.source import Source, Video
from vssl_jax.data.synthetic import Synthetic
from vssl_jax.errors import UserError


@dataclass(frozen=True)
class Subset:
    """The videos numbered `members` of `source`, renumbered from 0."""

    source: Source
    members: tuple[int, ...]

    def __post_init__(self):
        if isinstance(self.source, Synthetic):
            raise UserError("data.source=synthetic is read whole: a few of its videos cannot be chosen")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def keys(self) -> frozenset[str]:
        return self.source.keys

    def __len__(self) -> int:
        return len(self.members)

    def name(self, i: int) -> str:
        return self.source.name(self.members[i])

    def open(self, i: int) -> Video:
        return self.source.open(self.members[i])


def balanced(labels_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` row numbers, as equal in classes as can be, drawn by `seed`; budgets of one seed are nested. Raises UserError where there are fewer rows."""
    labels_N = np.asarray(labels_N)
    if count > (labels_N >= 0).sum():
        raise UserError(f"a budget of {count} labels, but only {(labels_N >= 0).sum()} videos have one: lower the budget")
    rng = np.random.default_rng((seed, 0x1ABE1))
    order = rng.permutation(len(labels_N))
    order = order[labels_N[order] >= 0]
    # Rank of each row within its class, in drawn order: the first `count` by rank are balanced.
    rank = np.zeros(len(order), np.int64)
    for label in np.unique(labels_N[order]):
        of_class = labels_N[order] == label
        rank[of_class] = np.arange(of_class.sum())
    return order[np.argsort(rank, kind="stable")[:count]]
