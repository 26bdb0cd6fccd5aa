"""A downstream number from any checkpoint, on any source: python -m vssl_jax.evaluate --config=configs/eval/NAME.py --config.checkpoint=RUN

  --config.checkpoint=DIR     a workdir of a finished run, or an export folder
  --config.train.path=...     labeled training videos; --config.test.path=... test videos
  --workdir=DIR               where eval.json goes (default: the checkpoint's workdir)

Each number stands beside the same protocol on a randomly initialized encoder. It is of the videos that have a label; how many have none is said.
"""

import sys
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vssl_jax import cli, folders
from vssl_jax import config as config_lib
from vssl_jax.errors import UserError
from vssl_jax.evals import gallery, report_data, subject, tables
from vssl_jax.evals.measure import measure, row
from vssl_jax.evals.protocols import PROTOCOLS
from vssl_jax.evals.study import check, check_clips, open_study, with_own_clips
from vssl_jax.train import distributed
from vssl_jax.train.checkpoint import EXPORT


def evaluate(config: ConfigDict, checkpoint: Path, workdir: Path) -> dict[str, Any]:
    """Measures every protocol of `config.protocols`, writes <workdir>/eval.json, prints the result table."""
    names = list(config.protocols)
    start = time.monotonic()
    who = subject.load(checkpoint, config.features)
    check(config, who[0].model, [own.shown for own in who])
    study = open_study(config, workdir)
    check_clips(study, who)
    seeds = tuple(config.seeds)
    print(f"evaluating {', '.join(names)} on {len(study.test.source)} videos, seeds {seeds}", file=sys.stderr)
    own_head = {name: PROTOCOLS[name].own(checkpoint, study.test, study.classes, config[name]) for name in names if PROTOCOLS[name].own}
    results = measure(study, dict.fromkeys(seeds, who), names)
    results |= {name: [result()] for name, result in own_head.items()}
    fresh = {seed: tuple(subject.random(own, seed, number) for number, own in enumerate(who)) for seed in seeds} if config.baseline else {}
    baseline = measure(study, fresh, names) if config.baseline else {}
    rows = []
    for name, found in results.items():
        for metric in found[0].numbers():
            rows.append(row(name, metric, found, baseline.get(name), study, seeds[: len(found)]))
    result = {
        "dataset": f"{config.test.source} {config.test.path if config.test.path else config.test.world} {config.test.split}",
        "checkpoint": str(checkpoint),
        "step": who[0].step,  # a training that goes on exports to the same place
        "features": ", ".join(config.features),
        "class_names": list(study.classes),
        "inputs": {name: config_lib.to_dict(config)[name] for name in ("train", "test", "view")},
        "protocols": rows,
    }
    print(tables.result_table(result), flush=True)
    tables.write_eval(workdir, result)
    report_data.remove(workdir)  # what an earlier evaluation left is of other weights
    if results.tables is not None:
        gallery.show_features(workdir, results.tables, (study.train, study.test), study.classes)
    print(f"evaluated in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return result


def _evaluate_into(config: ConfigDict, checkpoint: Path, workdir: Path) -> None:
    with folders.writable(workdir, "the workdir", "--workdir=DIR"):
        evaluate(config, checkpoint, workdir)
        if (workdir / "report" / "index.html").exists():  # a run's, which shows these numbers
            from vssl_jax.evals.report import write_report

            print(f"report: {write_report(workdir)}", file=sys.stderr)


def main(argv: list[str]) -> None:
    config, flags = cli.parse(argv, __doc__, keys=("protocols", "checkpoint"))
    if not config.checkpoint:
        raise UserError("no checkpoint: give --config.checkpoint=DIR, a workdir of a finished run or an export folder")
    if not config.protocols:
        raise UserError(f"no protocol: give --config.protocols=NAME,NAME, of {', '.join(PROTOCOLS)}")
    distributed.initialize()
    cli.use_compilation_cache()
    checkpoint = Path(config.checkpoint).absolute()
    workdir = Path(flags.workdir).absolute() if flags.workdir else checkpoint.parent if checkpoint.name == EXPORT else checkpoint
    with cli.stoppable("stopped while evaluating; nothing of it was kept, and the same command starts it anew"):
        distributed.on_first(lambda: _evaluate_into(with_own_clips(config, checkpoint), checkpoint, workdir))


if __name__ == "__main__":
    cli.run(main)
