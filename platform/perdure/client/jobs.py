"""Jobs: activities without a workflow, as clients start them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

from msgspec import json

from perdure import context, errors
from perdure.activity import Activity
from perdure.builtin.job import JOB, JobCall, attributes_of, job_returning
from perdure.client.handle import Handle
from perdure.client.reading import state_of
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.client.start_options import encoded_attributes
from perdure.model import commands as cm
from perdure.model.options import ActivityOptions
from perdure.model.replies import Refused
from perdure.model.runtime import misuse
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.client.intercepted import InterceptedTransport
    from perdure.model.payloads import Payloads

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

REQUEST_TIMEOUT_S: Final = 15.0


class Jobs:
    """The part of a client that starts jobs.

    A job has an id, as a workflow has, and its result is kept like that of a workflow. It is
    started once: another call with its id gets the same job.
    """

    _transport: InterceptedTransport
    _payloads: Payloads
    _start_options: dict[str, Any]

    @overload
    async def submit(
        self, id: str, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[None, R]: ...
    @overload
    async def submit(
        self, activity: Callable[[Unpack[Ts]], Coroutine[object, None, R]], /, *args: *Ts, id: str
    ) -> Handle[None, R]: ...
    @overload
    async def submit(
        self, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[None, R]: ...
    async def submit(  # type: ignore[misc]
        self, first: Any, /, *args: Any, id: str = "", **kwargs: Any
    ) -> Handle[None, Any]:
        """Start a job; returns when that is durable: `submit(charge, "order-1")`, with an id
        `submit("charge-1", charge, "order-1")`, or `submit(charge, "order-1", id="charge-1")` where
        all parameters of the activity are given by position.

        `options` has its delay and attributes, and `if_closed="after_failure"` to run a job again
        that failed; `activity.options` has queue, timeout and retries.

        Args:
            first: what `@activity.defn` or `@activity.step` made; or the id, and then that.
            args: its arguments.
            id: of the job; by default it gets one of its own.
            kwargs: its keyword arguments.

        Returns:
            A handle: `result()`, `cancel()`, …

        Raises:
            errors.WorkflowAlreadyStarted: the id belongs to a workflow, or to the job of another
                activity.
            errors.RequestRefused: the id or an argument is refused.
            errors.EngineUnavailable: no engine answered in time.
        """
        if isinstance(first, str):
            id, first, args = first, args[0] if args else None, args[1:]  # noqa: A001 - the parameter
        if not isinstance(first, Activity):
            raise misuse(f"{first!r} is not an activity: give a function that is marked with @activity.defn")
        found = cast("Activity[..., Any]", first)
        what = f"activity {found.name!r}"
        call = self._call(found.name, found.fn, args, kwargs, found.defaults, what)
        return await self._submit(id, call, found.returns)

    @overload
    async def run(self, id: str, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(
        self, activity: Callable[[Unpack[Ts]], Coroutine[object, None, R]], /, *args: *Ts, id: str
    ) -> R: ...
    @overload
    async def run(self, activity: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def run(self, first: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Start a job, and wait for its result. Raises as `submit` and `Handle.result`."""
        handle = await self.submit(first, *args, **kwargs)
        return await handle.result()

    async def submit_by_name(
        self,
        activity: str,
        args: Sequence[object] = (),
        *,
        id: str = "",
        options: ActivityOptions | None = None,
    ) -> Handle[None, Any]:
        """Start a job whose activity is not imported here; arguments are JSON values. Raises as
        `submit`.

        Args:
            activity: its name.
            args: its arguments.
            id: of the job.
            options: of the activity; by default those of an activity without options.
        """
        call = JobCall(activity, list(args), options or ActivityOptions())
        return await self._submit(id, call, Any)

    def _call(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActivityOptions,
        what: str,
    ) -> JobCall:
        found: dict[str, Any] | list[Any] = json.decode(
            self._payloads.encode_plainly(fn, args, kwargs, what=what)
        )
        if isinstance(found, dict):
            return JobCall(name, found["args"], options, found["kwargs"])
        return JobCall(name, found, options)

    async def _submit(self, id: str, call: JobCall, returns: Any) -> Handle[None, Any]:
        job_id = id or f"job-{fresh_request_id()}"
        what = f"job {job_id!r}"
        fields: dict[str, Any] = {
            "request_id": fresh_request_id(),
            "context": context.here(),
            **self._start_options,
        }
        given: dict[str, Any] = json.decode(fields.get("attributes") or b"{}")
        fields["attributes"] = encoded_attributes(attributes_of(call.activity, given))
        if fields.get("if_running", "refuse") == "refuse":
            fields["if_running"] = "attach"
        if fields.get("if_closed", "start") == "start":
            fields["if_closed"] = "refuse"
        payload = self._payloads.encode_arguments(JOB.run_fn, (call,), {}, what=what)
        command = cm.StartWorkflow(job_id, type=JOB.name, input=payload, **fields)
        require_valid(command)
        reply = await self._transport.request(command, REQUEST_TIMEOUT_S)
        if isinstance(reply, Refused) and reply.code == "already_started" and reply.run_id:
            await self._check_same(job_id, call.activity, reply)
            run_id = reply.run_id
        else:
            found = accepted(reply)
            run_id = found.run_id
            if not found.is_new:
                await self._check_same(job_id, call.activity, None)
        return Handle(self._transport, self._payloads, job_id, run_id, job_returning(returns))

    async def _check_same(self, id: str, activity: str, refused: Refused | None) -> None:
        """Check that an id belongs to a job of this activity, as far as this reader knows it."""
        state = await state_of(self._transport, id)
        if state is None:
            return
        if state.type != JOB.name:
            message = refused.message if refused is not None else f"workflow {id!r} is not a job"
            raise errors.WorkflowAlreadyStarted(message)
        has: Any = json.decode(state.attributes or b"{}").get("activity", activity)
        if has != activity:
            raise errors.WorkflowAlreadyStarted(
                f"job {id!r} calls the activity {has!r}, not {activity!r}: use another id"
            )
