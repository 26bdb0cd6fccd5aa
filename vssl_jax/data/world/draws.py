"""Random numbers that are the same on every machine and with every numpy.

numpy guarantees the bits of SeedSequence and PCG64 for ever, but not what Generator makes of them (NEP 19). So numbers are made here from
raw bits.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of draws named by integers, say (seed, split, video, purpose). Streams of different names are independent."""

    def __init__(self, *key: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """Uniform in low..high, both included (the bias of the modulus is below 2**-50)."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[self.integer(0, len(options) - 1)]

    def permutation(self, n: int) -> list[int]:
        """0..n-1 in random order (Fisher and Yates)."""
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.integer(0, i)
            order[i], order[j] = order[j], order[i]
        return order

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 noise, independent, mean 0, standard deviation 1, triangular: the sum of two random bytes."""
        size = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw((2 * size + 7) // 8)).astype("<u8").view(np.uint8)
        total = raw[:size].astype(np.int16) + raw[size : 2 * size]
        return (total - np.float32(255.0)).reshape(shape) * np.float32((6.0 / (256**2 - 1)) ** 0.5)
