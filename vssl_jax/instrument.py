"""Is the embedded dataset a valid instrument? One command prints the proof: python -m vssl_jax.instrument --config=configs/instrument.py

  --workdir=DIR      where results.jsonl and the pretrainings are kept (default runs/instrument); what stands there is not measured again
  --results=FILE     a results file elsewhere, such as one that is committed
  --readme=FILE      write the methods' table into it, between its marks
  --only=REGEX       measure only the rows whose name matches, e.g. 'control/cnn' (two processes may share a workdir)
  --debug            show tracebacks

The proof is a table of rows, each a model that was trained and read on held-out videos:

  control/NET/FILM/ORDER    NET trained with all labels; FILM 'drawn' (before the codec) or 'coded'; ORDER 'ordered', or how the order of
                            frames was lost. Ordered, a control must learn the task; without order, no model can know a direction.
  METHOD/PROTOCOL           what a protocol reads from a backbone that METHOD pretrained without labels ('random-NET': that nothing did)
  METHOD/task               how METHOD does its own task on held-out videos: in the column top-1 the accuracy of what it is named for, where it has several
                            (`own_metric` of the config)
  METHOD_random_labels/...  the same of the method's control, whose answers had nothing to do with the questions (objective.random_labels)
  METHOD/retrieval          hit@k (evals/retrieval.py): in the column top-1 that of the least k

top-1 is over all classes. A class is a path and a direction; `direction` asks only which of the two directions of the true path scores
higher: chance is 0.5 for whatever is blind to the order of frames.
"""

import dataclasses
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from vssl_jax import cli, objectives, pretrain, readme, table_cli
from vssl_jax import config as config_lib
from vssl_jax.data import pipeline, world
from vssl_jax.data.broken import BrokenRecord
from vssl_jax.data.recipe import build_input
from vssl_jax.data.row import Input
from vssl_jax.errors import UserError, unknown_name
from vssl_jax.evals import features, probes, subject
from vssl_jax.evals.protocols import PROTOCOLS
from vssl_jax.instrument_rows import ORDERED, OWN, Results, group, mean_and_error, method_table, table, verdicts
from vssl_jax.perturb.order import ORDER_FREE
from vssl_jax.train.metrics import read_metrics

FILMS = {"drawn": "rendered", "coded": "embedded"}  # name -> data.source


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement: `settings` is all that its outcome depends on besides the code, `measure` gives (scores [N,C], labels [N])."""

    name: str
    seed: int
    steps: int  # of the training that the row is about: of the control, or of the pretraining
    settings: Mapping[str, Any]
    measure: Callable[[], tuple[np.ndarray, np.ndarray] | dict[str, Any]]  # or the row's own numbers
    metric: str = ""  # which of several numbers of its own task is the row's top-1

    @property
    def digest(self) -> str:
        return _digest(self.settings)


def _digest(settings: Mapping[str, Any]) -> str:
    """Of what is set otherwise than by default: a setting that comes later leaves the rows that stand as they are."""
    return hashlib.sha256(json.dumps(config_lib.told(settings, _defaults()), sort_keys=True).encode()).hexdigest()[:12]


def _videos(config: ConfigDict) -> dict[str, Any]:
    """What a row is measured on: {"train": settings}, and "test" where those are not what training's suggest."""
    train, test = config_lib.to_dict(config.train), config_lib.to_dict(config.test)
    suggested = train | {"split": "test", "sampler": train["sampler"] | {"name": "views"}}
    return {"train": train} | ({"test": test} if test != suggested else {})


def _version(run: ConfigDict) -> dict[str, int]:
    """Of the method's training, where it is not the first: what an earlier one gave is not its result."""
    version = type(objectives.build(run)).version
    return {"version": version} if version > 1 else {}


@functools.cache
def _defaults() -> dict[str, Any]:
    """Of a task's settings: a run, data, and an optimizer wherever there is one."""
    data, optimizer = config_lib.data(), {"optimizer": config_lib.optimizer()}
    run = config_lib.to_dict(config_lib.base()) | {"eval": config_lib.to_dict(config_lib.evaluation())}
    return json.loads(json.dumps({"run": run, "train": data, "protocol": optimizer, "control": optimizer}))


class Films:
    """The inputs, opened once each: their frames stay in memory from one task to the next."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self._config, self._broken = config, BrokenRecord(0.0, workdir)
        self._open = functools.lru_cache(maxsize=None)(self._build)

    def _build(self, film: str, split: str) -> Input:
        data = config_lib.to_dict(self._config[split]) | {"source": FILMS[film]}
        return build_input(data, self._config.batch_size, 0, self._broken, shuffle=split == "train")

    def __call__(self, film: str = "coded") -> tuple[Input, Input]:
        """(training, test) videos."""
        return self._open(film, "train"), self._open(film, "test")


class Latest:
    """What was made last for a key; it is let go, and with it the programs that were compiled for it, before that of another key is made."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: Any = None

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key != self._key:
            self._key = self._value = None
            jax.clear_caches()
            self._value, self._key = make(), key
        return self._value


def direction(scores_NxC: np.ndarray, labels_N: np.ndarray, reversal_C: np.ndarray) -> float:
    """How often the true class scores higher than its exact reversal; equal scores count half."""
    rows = np.arange(len(labels_N))
    true, reverse = scores_NxC[rows, labels_N], scores_NxC[rows, reversal_C[labels_N]]
    return float(np.mean((true > reverse) + 0.5 * (true == reverse)))


def _fresh(model: Mapping[str, Any], seed: int) -> subject.Subject:
    return subject.random(subject.Subject(model, {}, {}, ""), seed)


def controls(config: ConfigDict, films: Films) -> Iterator[Task]:
    """Every net on every film in every order: the same training but for the order."""
    for net, film, order in ((n, f, o) for n in config.controls for f in FILMS for o in (ORDERED, *ORDER_FREE)):
        for seed in config.control_seeds:
            tuned = config_lib.to_dict(config.controls[net])
            model = tuned.pop("backbone")
            if order != ORDERED:
                tuned["view"], tuned["eval_view"] = tuned["view"] | {"order": order}, tuned["eval_view"] | {"order": order}
            settings = {"control": tuned, "model": model, "film": film} | _videos(config)
            measure = functools.partial(_tune, lambda model=model, seed=seed: _fresh(model, seed), films, film, tuned, 0, seed)
            yield Task(f"control/{net}/{film}/{order}", seed, tuned["steps"], settings, measure)


def _tune(who: Callable[[], subject.Subject], films: Films, film: str, tuned: Mapping[str, Any], labels: int, seed: int):
    train, test = films(film)
    return probes.fine_tune(who(), probes.labeled(train, labels, seed, tuned["batch_size"]), test, ConfigDict(tuned), seed)


def methods(config: ConfigDict, films: Films, workdir: Path) -> Iterator[Task]:
    """Every protocol on every pretrained backbone, and on the same one with fresh weights. Raises UserError for a protocol that is none on frozen features
    (what is fine-tuned, `tuned` says).
    """
    known = [name for name, protocol in PROTOCOLS.items() if protocol.frozen]
    for name in config.protocols:
        if name not in known:
            raise unknown_name("protocol on frozen features", name, known)
    latest, tables = Latest(), Latest()
    for name, run in config.methods.items():
        plain = config_lib.to_dict(run)
        for seed in config.get("seeds_of", {}).get(name, config.seeds):
            # Of these settings alone: with others a finished training would be gone on with, and trained no more.
            trained = {"run": plain} | _version(run)
            folder = workdir / f"{name}-{seed}-{_digest(trained)}"
            pretrained = functools.partial(latest.get, (name, seed), functools.partial(_pretrained, run, seed, folder))
            settings = trained | _videos(config)
            if run.train.validate_every > 0:
                metric = config.get("own_metric", {}).get(name, "accuracy")
                measure = functools.partial(_own_task, pretrained, folder, films, metric)
                yield Task(f"{name}/{OWN}", seed, plain["train"]["steps"], settings, measure, metric)
            yield from _protocols(name, pretrained, tables, config, films, seed, plain["train"]["steps"], settings, config.tuned[name])
    for net, name in config.random.items():
        model = config_lib.to_dict(config.methods[name].model)
        for seed in config.seeds:
            fresh = functools.partial(latest.get, (f"random-{net}", seed), functools.partial(_fresh, model, seed))
            settings = {"model": model} | _videos(config)
            yield from _protocols(f"random-{net}", fresh, tables, config, films, seed, 0, settings, config.tuned[f"random_{net}"])


def _pretrained(run: ConfigDict, seed: int, folder: Path) -> subject.Subject:
    config = run.copy_and_resolve_references()
    with config.unlocked():
        config.seed, config.report = seed, False
        if config.train.validate_every > 0:
            config.eval.protocols = ()
        else:
            config.eval = {}
    return subject.load(pretrain.pretrain(config.lock(), folder))[0]


def _own_task(pretrained: Callable[[], subject.Subject], folder: Path, films: Films, metric: str) -> dict[str, Any]:
    """The last validation of a pretraining, which is on the test videos; top-1 is its `metric` (None: the method has no such number)."""
    pretrained()
    found = [line for line in read_metrics(folder) if any(key.startswith("validation/") for key in line)]
    last = {key.removeprefix("validation/"): value for key, value in found[-1].items() if key.startswith("validation/")}
    return {"n": len(films()[1].source), "top1": last.get(metric), "direction": None, "task": last}


def _protocols(
    name: str,
    who: Callable[[], subject.Subject],
    latest: Latest,
    config: ConfigDict,
    films: Films,
    seed: int,
    steps: int,
    settings: Mapping[str, Any],
    tuned: ConfigDict,
) -> Iterator[Task]:
    tables = functools.partial(latest.get, (name, seed), lambda: _tables(who(), films))
    for protocol in config.protocols:
        settings_of = config_lib.to_dict(config[protocol])
        measure = functools.partial(_frozen, protocol, tables, config[protocol], seed)
        yield Task(f"{name}/{protocol}", seed, steps, {**settings, "protocol": settings_of}, measure)
    tuned = config_lib.to_dict(tuned)
    for labels in tuned.pop("labels"):
        protocol = f"finetune-{labels if labels else 'all'}"
        measure = functools.partial(_tune, who, films, "coded", tuned, labels, seed)
        yield Task(f"{name}/{protocol}", seed, steps, {**settings, "protocol": tuned, "labels": labels}, measure)


def _tables(who: subject.Subject, films: Films) -> tuple[features.Table, features.Table]:
    # An epoch in order: shuffling is the training's business.
    train, test = (features.extract((who,), {"short_side": 0, "crops": 1}, pipeline.epoch(input), keep_map=True) for input in films())
    return train[0], test[0]


def _frozen(
    protocol: str, tables: Callable[[], Any], config: Mapping[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray] | dict[str, Any]:
    train, test = tables()
    found = PROTOCOLS[protocol].frozen(((train, test),), int(train.labels_N.max()) + 1, config, seed)
    return found if isinstance(found, tuple) else {"n": found.n, "top1": found.headline, "direction": None, protocol: found.numbers()}


def measure(task: Task, reversal_C: np.ndarray) -> dict[str, Any]:
    """Runs a task; its line of results.jsonl."""
    start = time.monotonic()
    found = task.measure()
    if not isinstance(found, dict):
        scores, labels = found
        found = {"n": len(labels), "top1": float(np.mean(scores.argmax(1) == labels)), "direction": direction(scores, labels, reversal_C)}
    about = {"name": task.name, "seed": task.seed, "steps": task.steps}
    return about | found | {"seconds": round(time.monotonic() - start, 1), "digest": task.digest}


def _flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("only", "", "Measure only rows whose name matches.", flag_values=values)
    flags.DEFINE_string("readme", None, "Write the methods' table into this file.", flag_values=values)
    flags.DEFINE_string("results", None, "The results file (default WORKDIR/results.jsonl).", flag_values=values)


def main(argv: list[str]) -> None:
    config, flags_ = cli.parse(argv, __doc__, _flags, keys=("controls", "methods"))
    workdir = Path(flags_.workdir if flags_.workdir else "runs/instrument").absolute()
    cli.use_compilation_cache()
    films, results = Films(config, workdir), Results(Path(flags_.results) if flags_.results else workdir / "results.jsonl")
    tasks = [*controls(config, films), *methods(config, films, workdir)]
    chosen = table_cli.chosen(flags_.only, tasks)
    if flags_.readme:
        readme.check(Path(flags_.readme), "methods")  # before hours of work
    spec = world.find(config.test.world)
    reversal_C = np.array([spec.reversal(label) for label in range(len(spec.classes))])
    failed: dict[tuple[str, int], str] = {}  # (method, seed) -> why: its other rows would fail alike, those of others need not wait
    for i, task in enumerate(chosen):
        who = (task.name.rpartition("/")[0], task.seed)
        if results.has(task) or who in failed:
            continue
        print(f"[{i + 1}/{len(chosen)}] {task.name}, seed {task.seed}", file=sys.stderr, flush=True)
        try:
            row = measure(task, reversal_C)
        except UserError as error:
            failed[who] = str(error)
            print(f"  failed: {error}", file=sys.stderr, flush=True)
            continue
        results.add(row)
        print(
            f"  top-1 {mean_and_error([row['top1']])}, direction {mean_and_error([row['direction']])}, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    found = group(results.rows(), tasks)
    print(table(found))
    print("\n".join(verdicts(found, config)))
    if flags_.readme:
        readme.put(Path(flags_.readme), "methods", method_table(found))
    if failed:
        raise UserError("not measured: " + "; ".join(f"{name}, seed {seed} ({why})" for (name, seed), why in failed.items()))


if __name__ == "__main__":
    cli.run(main, interrupted="the rows that are measured are kept: the same command goes on")
