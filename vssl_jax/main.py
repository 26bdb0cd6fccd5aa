"""Pretrain, export, evaluate, report: python -m vssl_jax.main --config=configs/videomae_vitb.py --workdir=RUN

  --config=FILE[:variant]     the recipe; variants of every recipe: smoke (seconds), local (minutes on a CPU)
  --config.KEY=VALUE          overrides a setting, e.g. --config.data.source=folder --config.data.path=VIDEOS
                              or --config.eval.protocols=knn,linear (empty: no evaluation)
  --workdir=DIR               where the run is kept (default runs/<recipe>); the same command in the same workdir resumes;
                              after the last step it trains nothing, and exports, evaluates and reports again
  --debug                     show tracebacks

Exit code 0: done. The same command goes on after 42: told to stop (SIGTERM, or once Ctrl-C), and saved; 134: another process was lost; 130: stopped at once, by
a second Ctrl-C or outside of training. Other: failed, and one line says why.
"""

import contextlib
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vssl_jax import cli, objectives, pretrain
from vssl_jax.data import memory
from vssl_jax.objectives.protocol import choose
from vssl_jax.perturb import recipe
from vssl_jax.train import distributed, goodput


def default_workdir(argv: list[str]) -> str:
    """runs/<recipe>-<variant>."""
    name, _, variant = cli.recipe_of(argv).partition(":")
    return f"runs/{Path(name).stem}" + (f"-{variant}" if variant else "")


def _check_evaluation(config: ConfigDict, classes: tuple[str, ...]) -> None:
    """A mistake in `eval` is said before the training that it would follow. Raises UserError."""
    if config.eval and config.eval.protocols and jax.process_index() == 0:
        from vssl_jax.evals import study

        shown = recipe.together(choose(config.eval.features, objectives.build(config).shown()))
        study.check(config.eval, config.model, list(shown.values()), classes)


def follow(config: ConfigDict, export: Path, workdir: Path) -> None:
    """What comes after training. Evaluation and the report need packages that a pretraining machine may lack: they are imported only where
    they are asked for.
    """
    print(f"exported to {export}", file=sys.stderr)
    if config.eval and config.eval.protocols:
        from vssl_jax import evaluate

        evaluate.evaluate(config.eval, export, workdir)
    if config.report:
        from vssl_jax.evals.report import write_report

        print(f"report: {write_report(workdir)}", file=sys.stderr)


def main(argv: list[str]) -> None:
    config, flags = cli.parse(argv, __doc__)
    workdir = Path(flags.workdir if flags.workdir else default_workdir(argv)).absolute()
    distributed.initialize(config.distributed)
    cli.use_compilation_cache()
    with memory.shared():
        # Of several processes JAX listens for all.
        alone = cli.stoppable("stopped outside of training; the same command goes on from what is saved", loops=False)
        with alone if jax.process_count() == 1 else contextlib.nullcontext():
            export = pretrain.pretrain(
                config, workdir, before=lambda classes: _check_evaluation(config, classes), started=goodput.process_start()
            )
        with cli.stoppable("stopped while evaluating; training is done and exported, and the same command evaluates again"):
            distributed.on_first(lambda: follow(config, export, workdir))


if __name__ == "__main__":
    cli.run(main, interrupted="the same command goes on from what is saved")
