"""The handle of an open activity of a run, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure import errors
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.model import commands as cm
from perdure.model.duration import microseconds
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.duration import Duration
    from perdure.model.payloads import Payloads


class ActivityHandle:
    """An activity of a run: `handle.activity(3)`. `handle.waits_for()`, `client.describe()` and
    `perdure workflow show` say the numbers of those that are open.

    Each of its methods raises:
        errors.WorkflowNotFound: the run is not open.
        errors.RequestRefused: the activity is not in a state in which this can be done, or a value
            does not fit. Nothing has changed.
        errors.EngineUnavailable: no answer came; it may have been done.

    Args:
        transport: connects to the platform.
        payloads: encodes values.
        workflow_id: of the run.
        run_id: the run; empty: the current one.
        number: of the activity, from 1.
        timeout_s: how long to wait for an answer, seconds.
    """

    __slots__ = ("_payloads", "_run_id", "_timeout_s", "_transport", "_workflow_id", "number")

    def __init__(
        self,
        transport: Transport,
        payloads: Payloads,
        workflow_id: str,
        *,
        run_id: str,
        number: int,
        timeout_s: float,
    ) -> None:
        self._transport = transport
        self._payloads = payloads
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._timeout_s = timeout_s
        self.number = number

    async def retry(
        self,
        reason: str = "",
        *,
        by: str = "",
        timeout: Duration | None = None,  # noqa: ASYNC109 - the activity's
        maximum_attempts: int | None = None,
        queue: str | None = None,
    ) -> None:
        """Try it again now. Its retries begin again, as many as its policy has. A run that it has
        paused continues.

        Args:
            reason: why; recorded.
            by: who asks; recorded.
            timeout: of each attempt from now on.
            maximum_attempts: from now on.
            queue: of its tasks from now on.
        """
        if maximum_attempts is not None and maximum_attempts < 1:
            raise errors.RequestRefused(f"maximum_attempts must be at least 1, not {maximum_attempts}")
        timeout_us = 0 if timeout is None else microseconds(timeout)
        if timeout is not None and not timeout_us:
            raise errors.RequestRefused("timeout must be positive")
        command = cm.RetryActivityNow(
            self._workflow_id,
            self._run_id,
            fresh_request_id(),
            number=self.number,
            by=by,
            reason=reason,
            timeout_us=timeout_us,
            maximum_attempts=maximum_attempts or 0,
            queue=queue or "",
        )
        await self._ask(command)

    async def complete(self, value: object = None, /, *, reason: str = "", by: str = "") -> None:
        """Give it this result, in place of its function. An attempt that runs is asked to stop.

        Args:
            value: must fit the return type of the activity.
            reason: why; recorded.
            by: who asks; recorded.
        """
        payload = self._payloads.encode(value, what=f"the result of activity {self.number}")
        command = cm.ResolveActivity(
            self._workflow_id,
            self._run_id,
            fresh_request_id(),
            number=self.number,
            value=payload,
            by=by,
            reason=reason,
        )
        await self._ask(command)

    async def fail(self, error: BaseException | str, /, *, reason: str = "", by: str = "") -> None:
        """Let it fail: the code gets an `ActivityFailed`, whose cause is the error.

        Args:
            error: an exception, or the message of one.
            reason: why; recorded.
            by: who asks; recorded.
        """
        raised = RuntimeError(error) if isinstance(error, str) else error
        command = cm.RejectActivity(
            self._workflow_id,
            self._run_id,
            fresh_request_id(),
            number=self.number,
            failure=self._payloads.encode_failure(raised),
            by=by,
            reason=reason,
        )
        await self._ask(command)

    async def _ask(self, command: cm.Request) -> None:
        require_valid(command)
        accepted(await self._transport.request(command, self._timeout_s))
