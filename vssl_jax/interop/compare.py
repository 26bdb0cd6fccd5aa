"""What a checkpoint holds against what it must hold: weights that silently do not load are the commonest way to a number at chance."""

from collections.abc import Mapping

from vssl_jax.errors import UserError


def compare(have: Mapping[str, tuple[int, ...]], want: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises the one UserError that lists every missing, unexpected and misshapen entry of {name: shape}."""
    faults = [
        ("missing", sorted(set(want) - set(have))),
        ("unexpected", sorted(set(have) - set(want))),
        ("of another shape", [f"{k} {have[k]}, not {want[k]}" for k in sorted(set(have) & set(want)) if have[k] != want[k]]),
    ]
    if any(names for _, names in faults):
        raise UserError(f"{what} does not fit its config: " + "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults if names))
