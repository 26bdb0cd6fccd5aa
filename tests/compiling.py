"""What is compiled while a test looks."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp


@contextlib.contextmanager
def programs() -> Iterator[list[str]]:
    """A list that grows by one with every program that is compiled, or read from the cache of compiled ones."""
    heard: list[str] = []

    def listen(name: str, seconds: float, **more) -> None:
        if name.endswith("backend_compile_duration"):
            heard.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(jnp.zeros(3))
        assert heard, "JAX has another name for this: nothing would be heard of any program"
        heard.clear()
        yield heard
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
