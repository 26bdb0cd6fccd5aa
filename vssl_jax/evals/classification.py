"""From class probabilities to numbers: accuracy, macro precision and recall, confusion matrix, and how far to trust them.

The idea: the confusion matrix is the one count all else follows from, so top-1 is always its trace over n. Float64 numpy on the host: the
arrays are small and the numbers final.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classification:
    """Results on n labeled videos, all as fractions in [0, 1]. `top5` is None with five classes or fewer, where it would be 1 for any
    model.
    """

    n: int
    top1: float
    top5: float | None
    macro_precision: float
    macro_recall: float
    confusion_CxC: np.ndarray  # int64, rows: the true class, columns: the predicted one

    @property
    def shares(self) -> tuple[str, ...]:
        """Those of `numbers` that are shares of the n videos: what a binomial error holds for."""
        return ("top1", "top5")

    def numbers(self) -> dict[str, float]:
        """{"top1": ..., "top5": ..., "macro_precision": ..., "macro_recall": ...}, without what is None."""
        named = {"top1": self.top1, "top5": self.top5, "macro_precision": self.macro_precision, "macro_recall": self.macro_recall}
        return {name: value for name, value in named.items() if value is not None}

    def chance(self) -> dict[str, float]:
        """What a guess among all classes alike would give, of those of `numbers` for which that can be said."""
        classes = len(self.confusion_CxC)
        return {"top1": 1 / classes, "top5": 5 / classes}


def classify(probabilities_NxC: np.ndarray, labels_N: np.ndarray) -> Classification:
    """The metrics of one row of probabilities (or any scores, higher is likelier) per video. Padding rows must be gone.

    Of equal scores the lower class comes first, so a constant output scores the frequency of class 0, not 1. Precision and recall are means
    over the classes that occur among labels or predictions, 0 where nothing was predicted (precision) or labeled (recall), as
    scikit-learn's macro average with zero_division=0.

    Raises ValueError for scores that are not finite (NaN would count as the likeliest class), no rows, or a label outside [0, C).
    """
    scores_NxC, labels_N = np.asarray(probabilities_NxC, np.float64), np.asarray(labels_N)
    n, c = scores_NxC.shape
    if n == 0 or labels_N.shape != (n,):
        raise ValueError(f"need one label for each of at least one row, got {n} rows and labels of shape {labels_N.shape}")
    if labels_N.min() < 0 or labels_N.max() >= c:
        raise ValueError(f"labels must be from 0 to {c - 1}, got {labels_N.min()} to {labels_N.max()}")
    if not np.isfinite(scores_NxC).all():
        raise ValueError(f"{int((~np.isfinite(scores_NxC)).any(axis=1).sum())} of {n} rows of scores are not finite")
    ranked_NxC = np.argsort(-scores_NxC, axis=1, kind="stable")
    confusion_CxC = np.zeros((c, c), np.int64)
    np.add.at(confusion_CxC, (labels_N, ranked_NxC[:, 0]), 1)
    precision, recall = macro_precision_recall(confusion_CxC)
    top5 = float((ranked_NxC[:, :5] == labels_N[:, None]).any(axis=1).mean()) if c > 5 else None
    return Classification(n, float(np.trace(confusion_CxC) / n), top5, precision, recall, confusion_CxC)


def macro_precision_recall(confusion_CxC: np.ndarray) -> tuple[float, float]:
    """Unweighted means over the classes that occur; see `classify`."""
    hit_C = np.diag(confusion_CxC).astype(np.float64)
    true_C, predicted_C = confusion_CxC.sum(axis=1), confusion_CxC.sum(axis=0)
    occurs_C = (true_C + predicted_C) > 0
    precision_C = np.divide(hit_C, predicted_C, out=np.zeros_like(hit_C), where=predicted_C > 0)
    recall_C = np.divide(hit_C, true_C, out=np.zeros_like(hit_C), where=true_C > 0)
    return float(precision_C[occurs_C].mean()), float(recall_C[occurs_C].mean())


def average_views(logits_NxSxC: np.ndarray) -> np.ndarray:
    """Multi-view testing: one row of probabilities [N, C] from the S views (clips x crops) of each video, the mean of their softmax (SlowFast, VideoMAE,
    CoCLR). The softmax of the mean logit, in which one confident view outweighs several doubtful ones, ranks classes differently: papers that average
    differently do not compare.
    """
    return _softmax(np.asarray(logits_NxSxC, np.float64)).mean(axis=1)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def binomial_stderr(accuracy: float, n: int) -> float:
    """Standard error of an accuracy on n independent test videos: what another test set of this size would change, nothing about the
    training.
    """
    return math.sqrt(accuracy * (1.0 - accuracy) / n)


def seed_stderr(values: Sequence[float]) -> float | None:
    """Standard error of the mean over seeds (n - 1 in the variance): what other seeds would change. None for one value, which says
    nothing of it.
    """
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
