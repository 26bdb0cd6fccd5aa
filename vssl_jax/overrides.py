"""The command line's `--config.key=value`: which settings are given, and what is refused of them because the recipe cannot take it.

The idea: everything is looked up in the recipe before ml_collections reads it, so that what is wrong is one line that names the nearest right thing.
"""

import ast
import difflib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from vssl_jax import config as config_lib
from vssl_jax.errors import UserError


def read(config: ConfigDict, argv: Sequence[str]) -> list[str]:
    """`argv` with every setting as `--config.key=value`, each key once, as it was given last (ml_collections adds up the tuples of a key that is repeated):
    `--config.key value` joined, `--noconfig.key` as false, tuples written as Python writes them (`a,b`, empty and `(a, b)` are tuples of names too).

    Raises UserError for what the recipe `config` cannot take: an unknown key (naming the nearest), a value of another type.
    """
    known, rest = config_lib.paths(config), list(argv)
    out: list[tuple[str, str]] = []  # (its key, empty where it is no setting; the argument)
    while rest:
        arg = rest.pop(0)
        match = re.fullmatch(r"--?(no)?config\.([^=]*)(=?)(.*)", arg, re.DOTALL)
        if not match:
            out.append(("", arg))
            continue
        negated, key, equals, text = match.groups()
        if key not in known:
            raise _unknown_key(key, known)
        value = config_lib.at(config, key)
        if isinstance(value, ConfigDict):
            if not value:
                raise UserError(f"--config.{key} is a group without settings in this recipe: give it some in the recipe's file")
            raise UserError(f"--config.{key} is a group of settings ({', '.join(value)}): set --config.{key}.NAME=VALUE")
        if isinstance(value, bool) and not equals:
            out.append((key, f"--config.{key}={'false' if negated else 'true'}"))
            continue
        if negated:
            raise UserError(f"{arg}: only a setting that is true or false has such a form, write --config.{key}=VALUE")
        if not equals and (not rest or rest[0].startswith("--")):
            raise UserError(f"--config.{key} lacks its value: write --config.{key}=VALUE")
        out.append((key, f"--config.{key}={_readable(key, text if equals else rest.pop(0), value)}"))
    last = {key: i for i, (key, _) in enumerate(out)}
    return [arg for i, (key, arg) in enumerate(out) if not key or last[key] == i]


def _unknown_key(key: str, known: Sequence[str]) -> UserError:
    """Nearest are settings whose last words are the key; then neighbors in its group, the same name in another group, and what is spelt alike as a whole."""
    group, _, name = key.rpartition(".")
    if group in known and not any(path.startswith(f"{group}.") for path in known):
        return UserError(f"no setting --config.{key}: {group} has no settings in this recipe")
    groups = {path.rpartition(".")[0] for path in known}
    if whole := [path for path in known if path.endswith(f".{key}") and path not in groups]:
        whole.sort(key=lambda path: (path.startswith("eval."), path.count(".")))
        return UserError(f"no setting --config.{key}: did you mean {' or '.join(f'--config.{path}' for path in whole[:4])}?")
    beside = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == group}
    cutoff = 0.5 if group else 0.8  # the groups themselves have many names
    by_depth = sorted(known, key=lambda path: (path.startswith("eval."), path.count(".")), reverse=True)
    anywhere = {path.rpartition(".")[2]: path for path in by_depth}
    near = [beside[n] for n in difflib.get_close_matches(name, beside, n=1, cutoff=cutoff)]
    near += [anywhere[n] for n in difflib.get_close_matches(name, anywhere, n=1, cutoff=0.9)]
    near += difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if near:
        return UserError(f"no setting --config.{key}: did you mean --config.{near[0]}?")
    if beside and group:
        return UserError(f"no setting --config.{key}: {group} has {', '.join(sorted(beside))}")
    return UserError(f"no setting --config.{key}: top-level keys: {', '.join(sorted(path for path in known if '.' not in path))}")


def names(argv: Sequence[str]) -> list[str]:
    """The settings that arguments as `read` gives them name: 'train.steps', ..."""
    return [match[1] for arg in argv if (match := re.fullmatch(r"--config\.([^=]+)=.*", arg, re.DOTALL))]


def _tuple(text: str) -> tuple:
    """What a person means by it: Python's own way of writing a tuple or a list, or names with commas between them."""
    try:
        value = ast.literal_eval(text) if text.strip() else ()
    except (SyntaxError, ValueError):
        value = text.strip().removeprefix("(").removesuffix(")").removeprefix("[").removesuffix("]")
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(value) if isinstance(value, tuple | list) else (value,)


# type of the recipe's value -> (what reads the text, what it must be); other types are left to ml_collections' own reading.
_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


def _readable(key: str, text: str, value: Any) -> str:
    """The text as ml_collections reads it. Raises UserError for a value of another type than the recipe's `value`."""
    if isinstance(value, tuple):
        return repr(_tuple(text))
    if type(value) in _READERS:
        read, wanted = _READERS[type(value)]
        try:
            read(text)
        except (KeyError, ValueError):
            raise UserError(f"--config.{key}={text}: it must be {wanted}, such as {json.dumps(value)}") from None
    return text
