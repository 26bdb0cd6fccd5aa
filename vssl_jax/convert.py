"""Weights between Hugging Face and this code: python -m vssl_jax.convert --source=PATH --target=PATH.

The one idea: the source says the direction. A folder with safetensors (or a .safetensors file with config.json beside it) becomes an
export folder that evaluation and fine-tuning load; an export, or a workdir that holds one, becomes what transformers' from_pretrained
loads.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax

from vssl_jax import models
from vssl_jax.errors import UserError
from vssl_jax.interop import huggingface, videomae
from vssl_jax.objectives.protocol import ENCODER, METHOD


def convert(source: str, target: str) -> str:
    """Converts and returns one line about what was done. Raises UserError where either side is not what it should be."""
    from vssl_jax.train import checkpoint  # orbax takes seconds to import: not before the arguments are read

    if huggingface.is_huggingface(source):
        state, config = huggingface.read(source)
        parts, meta = videomae.from_huggingface(state, config)
        checkpoint.save_export(target, {name if name == ENCODER else METHOD + name: part for name, part in parts.items()}, meta)
    else:
        parts, meta = videomae_of_export(*checkpoint.load_export(source))
        state, config = videomae.to_huggingface(parts, meta)
        huggingface.write(target, state, config)
    values = sum(x.size for x in jax.tree.leaves(parts))
    return f"{config['architectures'][0]}: {len(state)} tensors, {values:,} parameters, {source} -> {target}"


def videomae_of_export(parts: Mapping[str, Any], meta: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parts, meta) as interop/videomae.py takes them, from an export: one that this file wrote, or one of a run, whose sizes stand in
    its recipe.

    Raises UserError for an export that holds neither VideoMAE's decoder nor a head of fine-tuning.
    """
    parts = {name.removeprefix(METHOD): part for name, part in parts.items()}
    recipe = meta.get("config", {}).get("objective", {})
    if "model" in meta and {"encoder", "decoder"} == set(parts):
        decoder = meta.get("decoder", recipe.get("decoder"))
        if decoder is not None:
            decoder = dict(decoder, out=3 * math.prod(models.build(meta["model"]).tubelet))
            normalized = meta.get("normalize_target", recipe.get("normalize_target", True))
            return parts, {"model": meta["model"], "decoder": decoder, "normalize_target": normalized}
    if "model" in meta and {"encoder", "head"} == set(parts):
        classes = meta.get("classes", recipe.get("classes"))
        if classes is not None:
            return parts, {"model": meta["model"], "classes": classes, "class_names": meta.get("class_names", [])}
    raise UserError(
        f"the export holds {', '.join(sorted(parts))}: only a VideoMAE pretraining (encoder, decoder) "
        "or a fine-tuned one (encoder, head) has a form in transformers"
    )


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every command here does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m vssl_jax.convert --help")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="python -m vssl_jax.convert", description=__doc__.split("\n\n")[1])
    parser.add_argument("--source", required=True, help="Hugging Face folder or .safetensors file, or an export or a workdir of this code")
    parser.add_argument("--target", required=True, help="what to write: an export folder, or a Hugging Face folder or .safetensors file")
    try:
        args = parser.parse_args(argv)
        print(convert(args.source, args.target))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
