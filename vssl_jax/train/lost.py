"""Another process of the run is gone: every process ends, and the same command goes on from the last checkpoint.

The one idea: JAX's own watch ends a process whose companions are gone (their heartbeats stay away for HEARTBEAT_SECONDS), by SIGABRT. Where
a collective fails before that, the process ends with the same code, so that a launcher meets one code for one thing.
"""

import re

import jax

EXIT_CODE = 134  # 128 + SIGABRT
HEARTBEAT_SECONDS = 30  # JAX's 100 s would leave the survivors hanging for more than a minute
_SIGNS = re.compile(
    # Of NCCL only what it says of another process: it fails by itself too, where it cannot start.
    r"nccl.*(remote|closed|timed? ?out|abort)|gloo|closed by peer|reset by peer|socket closed|broken pipe|coordination|heartbeat"
    r"|^(UNAVAILABLE|ABORTED|CANCELLED)",
    re.IGNORECASE,
)


def _is_status(error: BaseException) -> bool:
    """Waiting for an array raises the runtime's status as a ValueError at some places, such as Orbax's barrier of a save."""
    return isinstance(error, ValueError) and re.match(r"[A-Z_]+: ", str(error)) is not None


def sign(error: BaseException | None) -> str | None:
    """What an error, or one that it came from, says of a process that is gone (its first line); None where it says nothing of the kind, and
    where there is no other process.
    """
    if not jax.distributed.is_initialized():
        return None
    while error is not None:
        if (isinstance(error, jax.errors.JaxRuntimeError) or _is_status(error)) and _SIGNS.search(str(error)):
            return str(error).partition("\n")[0][:200]
        error = error.__cause__ or error.__context__
    return None
