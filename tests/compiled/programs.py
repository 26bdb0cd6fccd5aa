"""Compiled programs of the simulated devices, for the tests of what reads them."""

from collections.abc import Callable

import jax

from vssl_jax.compiled import account as account_lib
from vssl_jax.compiled.account import Account


def text(function: Callable, *shapes: tuple[int, ...], dtype: str = "float32") -> str:
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def account(function: Callable, *shapes: tuple[int, ...], dtype: str = "float32") -> Account:
    return account_lib.read(text(function, *shapes, dtype=dtype))
