"""Weights between Hugging Face or torchvision and this code: python -m vssl_jax.convert --source=PATH --target=PATH.

The one idea: the source says the direction. A folder of Hugging Face (or its .safetensors or .bin file with config.json beside it), or a
file of torchvision's video networks (.pth or .safetensors), becomes an export folder that evaluation and fine-tuning load; an export, or a workdir
that holds one, becomes what transformers' from_pretrained or torchvision's load_state_dict loads.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax

from vssl_jax import cli, models
from vssl_jax.errors import UserError
from vssl_jax.interop import class_token, huggingface, tensors, torchvision, videomae
from vssl_jax.objectives.protocol import ENCODER, METHOD, STATS, in_export


def convert(source: str, target: str) -> str:
    """Converts and returns one line about what was done. Raises UserError where either side is not what it should be."""
    from vssl_jax.train import checkpoint  # orbax takes seconds to import: not before the arguments are read

    if torchvision.is_torchvision(source) or huggingface.is_huggingface(source):
        checkpoint.check_place(target)
    if torchvision.is_torchvision(source):
        state = tensors.read(source)
        parts, meta = torchvision.from_torchvision(state)
        what = torchvision.name_of(meta)
        checkpoint.save_export(target, _named(parts), meta)
    elif huggingface.is_huggingface(source):
        state, config = huggingface.read(source)
        parts, meta = (class_token if config.get("model_type") in class_token.ARCHITECTURES else videomae).from_huggingface(state, config)
        what = config["architectures"][0]
        checkpoint.save_export(target, _named(parts), meta)
    else:
        parts, meta = checkpoint.load_export(source)
        if "model" in meta:
            meta["model"] |= {"impl": "auto"}  # the kernels of the machine that trained it are not all here, and nothing is computed
        if torchvision.name_of(meta):
            parts = torchvision_of_export(parts)
            state, what = torchvision.to_torchvision(parts, meta)
            torchvision.write(target, state)
        else:
            parts, meta = (classifier_of_export if class_token.kind_of(meta) else videomae_of_export)(parts, meta)
            state, config = (class_token if class_token.kind_of(meta) else videomae).to_huggingface(parts, meta)
            what = config["architectures"][0]
            huggingface.write(target, state, config)
    values = sum(x.size for name, part in parts.items() if name != STATS for x in jax.tree.leaves(part))
    return f"{what}: {len(state)} tensors, {values:,} parameters, {source} -> {target}"


def _named(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts by the names that an export has."""
    return {in_export(name): part for name, part in parts.items()}


def classifier_of_export(parts: Mapping[str, Any], meta: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parts, meta) as interop/class_token.py takes them. Raises UserError for an export without a head of one linear layer."""
    parts = {name.removeprefix(METHOD): part for name, part in parts.items()}
    if set(parts) != {ENCODER, class_token.HEAD} or set(parts[class_token.HEAD]) != {"linear"}:
        raise UserError(f"the export holds {', '.join(sorted(parts))}: only a classifier with a linear head has a form in transformers")
    classes = parts[class_token.HEAD]["linear"]["bias"].shape[0]
    return parts, {"model": meta["model"], "classes": classes, "class_names": meta.get("class_names", [])}


def torchvision_of_export(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts as interop/torchvision.py takes them: the backbone, and the head where it is one linear layer. What else a method trained has no
    place in torchvision, and stays behind.
    """
    head = parts.get(METHOD + torchvision.HEAD, {})
    kept = {torchvision.HEAD: head} if set(head) == {"linear"} else {}
    return {name: parts[name] for name in (ENCODER, STATS) if name in parts} | kept


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
        f"or a fine-tuned one (encoder, head) has a form in transformers, and only {', '.join(torchvision.MODELS)} in torchvision"
    )


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every command here does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m vssl_jax.convert --help")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="python -m vssl_jax.convert", description=__doc__.split("\n\n")[1])
    parser.add_argument(
        "--source", required=True, help="Hugging Face folder, .safetensors, .bin or .pth file, or an export or a workdir of this code"
    )
    parser.add_argument(
        "--target", required=True, help="what to write: an export folder, or a Hugging Face folder, .safetensors or .pth file"
    )
    try:
        args = parser.parse_args(argv)
        print(convert(args.source, args.target))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {args.target} cannot be written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    cli.log_plainly()
    sys.exit(main())
