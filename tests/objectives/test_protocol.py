"""What every method must keep to."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest

from vssl_jax.objectives.classify import CachedProbe, Classify, Probe
from vssl_jax.objectives.protocol import Objective, Turn
from vssl_jax.objectives.videomae import VideoMAE

PAIR = (Turn("disc", ("disc",)), Turn("gen", ("gen",)))


@pytest.mark.parametrize("name", ["turns", "needs"])
def test_a_field_in_place_of_the_constant_is_refused(name):
    """As a field, `turns` of a subclass of a subclass falls back to the base's default, and every part trains in every turn."""
    with pytest.raises(TypeError, match=f"{name} is a dataclass field"):

        @dataclass(frozen=True)
        class Wrong(Objective):
            __annotations__ = {name: tuple}

    with pytest.raises(TypeError, match=f"{name} is a dataclass field"):

        @dataclass(frozen=True)
        class WrongText(Objective):
            __annotations__ = {name: "tuple[Turn, ...]"}


def test_constants_are_kept_by_subclasses():
    @dataclass(frozen=True)
    class Adversaries(Objective):
        width: int = 1
        turns: ClassVar[tuple[Turn, ...]] = PAIR

    @dataclass(frozen=True)
    class Wider(Adversaries):
        width: int = 2

    @dataclass(frozen=True)
    class WithoutAnnotation(Adversaries):
        turns = PAIR[:1]

    @dataclass(frozen=True)
    class AsText(Adversaries):
        __annotations__ = {"turns": "ClassVar[tuple[Turn, ...]]"}
        turns = PAIR[1:]

    assert Wider().turns == PAIR and Wider().width == 2
    assert WithoutAnnotation().turns == PAIR[:1] and AsText().turns == PAIR[1:]


@pytest.mark.parametrize("method", [VideoMAE, Classify, Probe, CachedProbe])
def test_methods_are_frozen_and_their_turns_are_constants(method):
    assert method.__dataclass_params__.frozen
    assert not {"turns", "needs"} & {f.name for f in dataclasses.fields(method)}
    names = [turn.name for turn in method.turns]
    assert names and len(set(names)) == len(names) and all(turn.steps >= 1 for turn in method.turns)
