"""Weights between Hugging Face and this code: python -m vssl_jax.convert --source=PATH --target=PATH.

The one idea: the source says the direction. A folder with safetensors (or a .safetensors file with config.json beside it) becomes an
export folder that evaluation and fine-tuning load; an export, or a workdir that holds one, becomes what transformers' from_pretrained
loads.
"""

import argparse
import sys
from collections.abc import Sequence

import jax

from vssl_jax.errors import UserError
from vssl_jax.interop import huggingface, videomae


def convert(source: str, target: str) -> str:
    """Converts and returns one line about what was done. Raises UserError where either side is not what it should be."""
    from vssl_jax.train import checkpoint  # orbax takes seconds to import: not before the arguments are read

    if huggingface.is_huggingface(source):
        state, config = huggingface.read(source)
        parts, meta = videomae.from_huggingface(state, config)
        checkpoint.save_export(target, parts, meta)
    else:
        parts, meta = checkpoint.load_export(source)
        state, config = videomae.to_huggingface(parts, meta)
        huggingface.write(target, state, config)
    values = sum(x.size for x in jax.tree.leaves(parts))
    return f"{config['architectures'][0]}: {len(state)} tensors, {values:,} parameters, {source} -> {target}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vssl_jax.convert", description=__doc__.split("\n\n")[1])
    parser.add_argument("--source", required=True, help="Hugging Face folder or .safetensors file, or an export or a workdir of this code")
    parser.add_argument("--target", required=True, help="what to write: an export folder, or a Hugging Face folder or .safetensors file")
    args = parser.parse_args(argv)
    try:
        print(convert(args.source, args.target))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
