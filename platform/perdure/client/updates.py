"""Updates, as clients use them: writes with an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from msgspec.structs import replace

from perdure import errors
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.model import commands as cm
from perdure.model.duration import argument_us
from perdure.model.failure import described
from perdure.model.replies import Answered, AnyReply, AskAgain, Closed, QueryRaised
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.duration import Duration
    from perdure.model.payloads import Payloads

T = TypeVar("T")
REQUEST_TIMEOUT_S = 15.0


class UpdateHandle(Generic[T]):
    """An update that was accepted.

    Attributes:
        id: the update's id; repeats with the same id act once.
        workflow_id: the workflow's id.
        run_id: the run that accepted it.
    """

    def __init__(
        self,
        transport: Transport,
        payloads: Payloads,
        command: cm.UpdateWorkflow,
        *,
        run_id: str,
        returns: Any,
        asked: asyncio.Future[AnyReply] | None,
    ) -> None:
        self.id = command.request_id
        self.workflow_id = command.workflow_id
        self.run_id = run_id
        self._transport = transport
        self._payloads = payloads
        self._name = command.name
        self._returns = returns
        self._asked = asked

    async def result(self, timeout: Duration | None = None) -> T:  # noqa: ASYNC109 - authors pass durations
        """Wait for the answer.

        Args:
            timeout: how long to wait; None: for ever. The update continues in any case.

        Raises:
            errors.UpdateFailed: the handler raised, or the run ended before the handler.
            errors.NotClosed: there was no answer in time.
            errors.EngineUnavailable: no engine is running, or it stopped.
        """
        seconds = None if timeout is None else argument_us("timeout", timeout) / 1e6
        try:
            async with asyncio.timeout(seconds):
                reply = await self._answer()
        except TimeoutError:
            raise errors.NotClosed(
                f"update {self._name!r} of workflow {self.workflow_id!r} has no answer after {seconds:g} s"
            ) from None
        if isinstance(reply, Answered):
            what = f"the answer of update {self._name!r}"
            return cast("T", self._payloads.decode(reply.result, self._returns, what=what))
        if isinstance(reply, QueryRaised):
            failure = self._payloads.open_failure(reply.failure)
            message = f"update {self._name!r} of workflow {self.workflow_id!r} failed"
            raise errors.UpdateFailed(
                f"{message}: {described(failure)}", self._payloads.decode_failure(failure)
            )
        if isinstance(reply, Closed):
            ended = errors.Terminated(f"the run {reply.status.value.replace('_', ' ')} before the update did")
            raise errors.UpdateFailed(f"update {self._name!r} has no answer: {ended}", ended)
        accepted(reply)  # raises the reason why not
        raise errors.InfrastructureError(f"the engine answered with {type(reply).__name__}")

    async def _answer(self) -> Any:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            reply = await asked
            if isinstance(reply, (Answered, QueryRaised, Closed)):
                return reply
            # It was asked before the update was accepted, or of the run before: ask again.
        while True:
            command = cm.AwaitWorkflow(self.workflow_id, self.run_id, fresh_request_id(), update_id=self.id)
            reply = await self._transport.request(command, float("inf"))
            if not isinstance(reply, AskAgain):
                return reply


async def begun(
    transport: Transport,
    payloads: Payloads,
    command: cm.UpdateWorkflow,
    returns: Any,
    start: cm.StartWorkflow | None,
    *,
    is_awaited: bool,
) -> UpdateHandle[Any]:
    """Send an update, and wait until it is accepted.

    Args:
        transport: sends the request.
        payloads: decodes the answer.
        command: the update.
        returns: the annotation of the answer.
        start: the start that goes with it; None: none.
        is_awaited: the caller wants the answer next. It is asked for immediately after the update,
            so that one that ends in its batch costs one batch, not two.

    Raises:
        errors.ClientError: it was rejected or refused.
    """
    request: cm.Request = command
    if start is not None:
        request = replace(
            start,
            request_id=command.request_id,
            update_name=command.name,
            update_input=command.input,
        )
    require_valid(request)
    asked: asyncio.Future[AnyReply] | None = None
    try:
        sent = asyncio.ensure_future(transport.request(request, REQUEST_TIMEOUT_S))
        if is_awaited:
            ask = cm.AwaitWorkflow(
                command.workflow_id, command.run_id, fresh_request_id(), update_id=command.request_id
            )
            asked = asyncio.ensure_future(transport.request(ask, float("inf")))
            asked.add_done_callback(_retrieve)
        reply = accepted(await sent)
    except BaseException:
        if asked is not None:
            asked.cancel()
        raise
    command = replace(command, request_id=reply.request_id)
    return UpdateHandle(transport, payloads, command, run_id=reply.run_id, returns=returns, asked=asked)


def _retrieve(asked: asyncio.Future[AnyReply]) -> None:
    """Let no exception be reported as lost: a caller that still wants the answer asks again."""
    if not asked.cancelled():
        asked.exception()
