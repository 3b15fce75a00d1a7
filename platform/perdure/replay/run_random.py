"""The run's stream of random numbers. Code that may only read cannot draw from it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class RunRandom(Random):
    """A `Random` that workflow code may keep. A query must not draw from it: that would change the
    run's next numbers, and a replay does not repeat queries.

    Args:
        refuse_if_read_only: raises when the code that runs may only read.
        seed: of the stream.
    """

    def __new__(cls, refuse_if_read_only: Callable[[str], None], seed: int) -> Self:  # noqa: ARG004
        """The C type would take the first argument for a seed."""
        return super().__new__(cls)

    def __init__(self, refuse_if_read_only: Callable[[str], None], seed: int) -> None:
        self._refuse_if_read_only = refuse_if_read_only
        super().__init__(seed)

    def random(self) -> float:
        """As `Random.random`; the methods that are not here draw through this one or
        `getrandbits`.
        """
        self._refuse_if_read_only("draw a random number")
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """As `Random.getrandbits`."""
        self._refuse_if_read_only("draw a random number")
        return super().getrandbits(k)

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """As `Random.gauss`, which draws two numbers at a time and keeps one."""
        self._refuse_if_read_only("draw a random number")
        return super().gauss(mu, sigma)

    def seed(self, a: Any = None, version: int = 2) -> None:
        """As `Random.seed`."""
        self._refuse_if_read_only("seed the random numbers")
        super().seed(a, version)

    def setstate(self, state: tuple[Any, ...]) -> None:
        """As `Random.setstate`."""
        self._refuse_if_read_only("seed the random numbers")
        super().setstate(state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy as a plain `random.Random`."""
        return Random, (), self.getstate()
