"""Errors that a person can act on.

main and evaluate print a UserError as one line and exit with 1; anything else is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple


class UserError(Exception):
    """Something the user can put right: the message says what is wrong and what to do, on one line."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a registry: names the nearest known one."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}: {hint}")


def check_names(kind: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raises `unknown_name` for the first of the given names that is not known."""
    for name in given:
        if name not in known:
            raise unknown_name(kind, name, known)


class Limit(NamedTuple):
    """What a setting must be: in words, and the test of it."""

    words: str
    holds: Callable[[Any], bool]


def at_least(least: float) -> Limit:
    return Limit(f"{least:g} or more", lambda value: value >= least)


def above(low: float) -> Limit:
    return Limit(f"above {low:g}", lambda value: value > low)


def between(low: float, high: float) -> Limit:
    """Both ends are allowed."""
    return Limit(f"from {low:g} to {high:g}", lambda value: low <= value <= high)


BELOW_1 = Limit("0 or more and below 1", lambda value: 0 <= value < 1)


def check_limits(group: str, /, **settings: tuple[Any, Limit]) -> None:
    """Raises UserError for the first of the settings of `group`, each name=(value, limit), that is outside its limit."""
    for name, (value, limit) in settings.items():
        if not limit.holds(value):
            raise UserError(f"{group}.{name} is {value}: it must be {limit.words}")
