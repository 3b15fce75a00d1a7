"""The tasks of a run's code: its main coroutine, and the handlers of accepted messages. Decides
when and how the run ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.core import flags
from perdure.model import actions as ac
from perdure.model.runtime import ContinueAsNew
from perdure.replay.handlers import Handlers, fault_of
from perdure.replay.suspensions import CURABLE

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from perdure.model.payloads import Payloads
    from perdure.replay.loop import RunLoop
    from perdure.workflow import Definition


class Execution:
    """The tasks of one run.

    Args:
        loop: the run's loop; gets the run's last action.
        definition: of its type.
        payloads: encodes the result, or the failure.
        rules: the engine flags that the run began under.

    Attributes:
        handlers: of accepted messages.
        main: the main coroutine; None until it begins.
        has_ended: whether the run's last action is among the loop's actions.
    """

    __slots__ = (
        "_cancel_requested",
        "_definition",
        "_loop",
        "_main_cancelled",
        "_payloads",
        "_rules",
        "handlers",
        "has_ended",
        "main",
    )

    def __init__(self, loop: RunLoop, definition: Definition, payloads: Payloads, rules: int) -> None:
        self._rules = rules
        self._loop = loop
        self._definition = definition
        self._payloads = payloads
        self.main: asyncio.Task[Any] | None = None
        self._main_cancelled: asyncio.CancelledError | None = None
        self.handlers = Handlers()
        self._cancel_requested = False
        self.has_ended = False

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start the main coroutine."""
        self.main = self._loop.create_task(coroutine)

    def accept(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start the handler of a message."""
        self.handlers.add(self._loop.create_task(coroutine))

    def cancel(self, reason: str) -> None:
        """Cancel the main coroutine; once that has ended, the handlers.

        A handler may continue after it was cancelled, to clean up or by a mistake, so that each
        request cancels it again.
        """
        self._cancel_requested = True
        if self.main is None:
            return
        if not self.main.done():
            self.main.cancel(reason or None)
        else:
            self.handlers.cancel(again=flags.has(self._rules, flags.Flag.CANCELS_AGAIN))

    def fail(self, error: BaseException) -> None:
        """End the run by a failure."""
        self._end(ac.FailWorkflow(self._payloads.encode_failure(error)))

    def settle(self) -> None:
        """End the run if its main coroutine and all accepted handlers have ended."""
        main = self.main
        if main is None or self.has_ended:
            return
        if (exit_ := self._loop.exit) is not None:
            self.fail(exit_)
            return
        # A handler that fails fails the run: the main coroutine is cancelled, so that it can clean
        # up. That may let further handlers end.
        while self.handlers and self.handlers.reap() and not main.done():
            main.cancel("a signal handler failed")
            self._loop.run()
        if not main.done():
            return
        # A main coroutine that failed does not wait for its handlers; one that returned does.
        fault = self._fault_of_main(main)
        if fault is not None and type(fault) is not ContinueAsNew and not self.handlers.are_cancelled:
            self.handlers.cancel()
            self._loop.run()
            self.handlers.reap()
        if not self.handlers:
            self._end(self._last_action(main))

    def _fault_of_main(self, main: asyncio.Task[Any]) -> BaseException | None:
        fault = fault_of(main)
        if isinstance(fault, asyncio.CancelledError):
            # A task gives the exception that you raised only once, and afterwards one without its
            # message.
            self._main_cancelled = self._main_cancelled or fault
            return self._main_cancelled
        return fault

    def _last_action(self, main: asyncio.Task[Any]) -> ac.AnyAction:
        fault = self.handlers.fault or self._fault_of_main(main)
        if fault is None:
            try:
                return ac.CompleteWorkflow(self._encoded_result(main.result()))
            except CURABLE:
                raise
            except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec
                fault = error
        if isinstance(fault, ContinueAsNew):
            return ac.ContinueAsNew(fault.input)
        if isinstance(fault, asyncio.CancelledError):
            if self._cancel_requested:
                return ac.EndCancelled()
            fault = errors.Cancelled(
                str(fault) or "the workflow raised CancelledError without having been cancelled"
            )
        return ac.FailWorkflow(self._payloads.encode_failure(fault))

    def _encoded_result(self, result: object) -> bytes:
        what = f"the result of workflow {self._definition.name!r}"
        # the test of `isinstance(result, Awaitable)`, at a quarter of its cost
        if hasattr(type(result), "__await__"):
            raise errors.NotAwaited(
                f"{self._definition.place}: {what} is {result!r}, which was not awaited: write `return await "
                "...`"
            )
        try:
            return self._payloads.encode(result, self._definition.returns, what=what)
        except errors.PayloadError as error:
            raise type(error)(f"{self._definition.place}: {error}") from None

    def _end(self, action: ac.AnyAction) -> None:
        self.has_ended = True
        self._loop.actions.items.append(action)
