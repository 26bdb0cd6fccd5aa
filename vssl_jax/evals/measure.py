"""The results of all protocols on the same networks, and the rows of eval.json that they make."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vssl_jax import config as config_lib
from vssl_jax.data import pipeline
from vssl_jax.evals import features
from vssl_jax.evals.classification import Classification, binomial_stderr, classify, seed_stderr
from vssl_jax.evals.features import Tables
from vssl_jax.evals.protocols import PROTOCOLS, Result
from vssl_jax.evals.study import Study
from vssl_jax.evals.subject import Subject

Subjects = tuple[Subject, ...]  # the networks that make the features that are evaluated together


class Measured(dict):
    """Results of the same networks: the name of a result -> list of Result, one per seed. `tables` are the features that they are from, without
    their maps; None where no protocol computed any.
    """

    tables: tuple[Tables, ...] | None = None


def _frozen(out: Measured, study: Study, who: Subjects, names: Sequence[str], seeds: tuple[int, ...]) -> None:
    """Adds to `out` what protocols make of frozen features, those of the training and the test videos that have a label."""
    inputs = {"training videos": study.train, "test videos": study.test}
    keep_map = any(PROTOCOLS[name].reads_map(study.config[name]) for name in names)
    both = [features.extract(who, study.config["view"], pipeline.epoch(i), keep_map, what) for what, i in inputs.items()]
    found: tuple[Tables, ...] = tuple(zip(*both, strict=True))
    for name in names:
        protocol, settings = PROTOCOLS[name], study.config[name]
        for seed in seeds if protocol.seeded else seeds[:1]:
            made = protocol.frozen(found, len(study.classes), settings, seed)
            out.setdefault(name, []).append(classify(*made) if isinstance(made, tuple) else made)
    if out.tables is None:
        out.tables = tuple(tuple(table._replace(map_NxTxHxWxD=None) for table in tables) for tables in found)


def measure(study: Study, subjects: Mapping[int, Subjects], names: Sequence[str]) -> Measured:
    """All protocols of `names` but those of a checkpoint's own head, for {seed: networks}; the same ones for every seed where it is a checkpoint's."""
    out, protocols = Measured(), {name: PROTOCOLS[name] for name in names}
    frozen = [name for name, protocol in protocols.items() if protocol.frozen]
    same = len({id(s) for s in subjects.values()}) == 1
    groups = [(next(iter(subjects.values())), tuple(subjects))] if same else [(s, (seed,)) for seed, s in subjects.items()]
    for who, seeds in groups:
        if frozen:
            _frozen(out, study, who, frozen, seeds)
        for name, protocol in protocols.items():
            for seed in seeds if protocol.tuned else ():
                for label, result in protocol.tuned(who, study.train, study.test, study.config[name], seed).items():
                    out.setdefault(label, []).append(result)
    return out


def row(name: str, metric: str, results: list[Result], baseline: list[Result] | None, study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """A row of eval.json: one metric of the results `name`, one of them a seed."""
    values = [r.numbers()[metric] for r in results]
    base = [r.numbers()[metric] for r in baseline] if baseline else None
    n = results[0].n

    def stderr(numbers):
        """Over other seeds, and over other test videos where it is a share of them."""
        both = (seed_stderr(numbers), binomial_stderr(float(np.mean(numbers)), n) if metric in results[0].shares else None)
        known = [error for error in both if error is not None]
        return math.hypot(*known) if known else None

    settings = config_lib.to_dict(study.config[name.split(",")[0]])
    confusion = {"confusion": sum(r.confusion_CxC for r in results).tolist()} if isinstance(results[0], Classification) else {}
    return {
        "name": name, "metric": metric, "value": float(np.mean(values)), "baseline": None if base is None else float(np.mean(base)),
        "chance": results[0].chance().get(metric), "n": n, "seeds": list(seeds), "stderr": stderr(values),
        "baseline_stderr": None if base is None else stderr(base), "settings": settings,
    } | confusion  # fmt: skip
