"""The compensations of one run's sagas, as the history has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.model.actions import (
    CompleteCompensation,
    FailCompensation,
    RetryCompensation,
)

if TYPE_CHECKING:
    from perdure.model.actions import AnyAction
    from perdure.model.payloads import Payloads
    from perdure.replay.loop import RunLoop


class Compensations:
    """The compensations of one run.

    Args:
        loop: of the run.
        payloads: encodes failures.
        are_recorded: whether the run began under the rule that its history has them.

    Attributes:
        are_recorded: the same.
    """

    __slots__ = ("_count", "_loop", "_payloads", "are_recorded")

    def __init__(self, loop: RunLoop, payloads: Payloads, *, are_recorded: bool) -> None:
        self._loop = loop
        self._payloads = payloads
        self._count = 0
        self.are_recorded = are_recorded

    def next(self) -> int:
        """The number of one that begins."""
        self._count += 1
        return self._count

    def retry(self, number: int, name: str, attempt: int, error: BaseException, retry_at: int) -> None:
        """An attempt failed, and another follows.

        Args:
            number: of the compensation.
            name: for people.
            attempt: that failed, from 1.
            error: what it raised.
            retry_at: when the next begins, microseconds since 1970.
        """
        if self.are_recorded:
            failure = self._payloads.encode_failure(error)
            self._record(RetryCompensation(number, name, attempt, failure, retry_at))

    def complete(self, number: int) -> None:
        """One that had failed has undone its step."""
        self._record(CompleteCompensation(number))

    def fail(self, number: int, name: str, error: BaseException, attempts: int) -> None:
        """Its step is not undone."""
        if self.are_recorded:
            self._record(FailCompensation(number, name, self._payloads.encode_failure(error), attempts))

    def _record(self, action: AnyAction) -> None:
        if self.are_recorded and not self._loop.is_evicted:
            self._loop.actions.items.append(action)
