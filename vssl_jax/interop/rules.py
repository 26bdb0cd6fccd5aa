"""How arrays of this code are made of another's, and back: what all interop with Hugging Face shares.

The one idea: one list of rules (our path, their names, how to pack and unpack) serves both directions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax
import numpy as np

Array = Any


class Rule(NamedTuple):
    """Our array at `path` is `pack` of their arrays `names`; `unpack` is its inverse. `layers`: our array is stacked, and {} in a name is
    the layer.
    """

    path: str
    names: tuple[str, ...]
    pack: Callable[..., Array]
    unpack: Callable[[Array], tuple[Array, ...]]
    layers: int | None = None


def pack(state: Mapping[str, np.ndarray], rules: Iterable[Rule]) -> dict[str, Any]:
    """Our parts, float32, from their tensors by name."""
    flat = {}
    for rule in rules:
        if rule.layers is None:
            flat[rule.path] = rule.pack(*(state[name] for name in rule.names))
        else:
            flat[rule.path] = np.stack([rule.pack(*(state[name.format(i)] for name in rule.names)) for i in range(rule.layers)])
    return flax.traverse_util.unflatten_dict({k: np.ascontiguousarray(v, np.float32) for k, v in flat.items()}, sep="/")


def unpack(parts: Mapping[str, Any], rules: Iterable[Rule]) -> dict[str, Array]:
    """Their tensors from our parts; methods only, so that it runs on shapes under eval_shape too."""
    flat, state = flax.traverse_util.flatten_dict(dict(parts), sep="/"), {}
    for rule in rules:
        array = flat[rule.path]
        if rule.layers is None:
            state |= zip(rule.names, rule.unpack(array), strict=True)
        else:
            for i in range(rule.layers):
                state |= zip((name.format(i) for name in rule.names), rule.unpack(array[i]), strict=True)
    return state


def same(path: str, name: str, layers: int | None = None) -> Rule:
    return Rule(path, (name,), lambda x: x, lambda x: (x,), layers)


def kernel_rule(path: str, name: str, layers: int | None = None) -> Rule:
    """torch's Linear holds [out, in], ours [in, out]."""
    return Rule(f"{path}/kernel", (f"{name}.weight",), lambda x: x.T, lambda x: (x.T,), layers)


def linear_rules(path: str, name: str, layers: int | None = None) -> Iterator[Rule]:
    yield kernel_rule(path, name, layers)
    yield same(f"{path}/bias", f"{name}.bias", layers)


def norm_rules(path: str, name: str, layers: int | None = None) -> Iterator[Rule]:
    yield same(f"{path}/scale", f"{name}.weight", layers)
    yield same(f"{path}/bias", f"{name}.bias", layers)


def patch_rules(path: str, name: str, tubelet: tuple[int, int, int]) -> Iterator[Rule]:
    """Conv3d [D, C, t, h, w] <-> [t*h*w*C, D]."""

    def pack(x):
        return x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0])

    def unpack(x):
        return (x.reshape(*tubelet, 3, x.shape[-1]).transpose(4, 3, 0, 1, 2),)

    yield Rule(f"{path}/kernel", (f"{name}.weight",), pack, unpack)
    yield same(f"{path}/bias", f"{name}.bias")
