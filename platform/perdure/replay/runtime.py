"""The runtime of workflow code: activities, conditions, records, time, random numbers."""

from __future__ import annotations

from contextvars import copy_context
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from perdure import context
from perdure.core import flags
from perdure.errors import UsageError
from perdure.model.actions import CancelActivity, ProduceRecord, ScheduleActivity
from perdure.model.dead_letters import RecordHeader
from perdure.model.runtime import WorkflowRuntime
from perdure.replay.attributes import Attributes
from perdure.replay.awaited import Awaited
from perdure.replay.compensations import Compensations
from perdure.replay.conditions import Condition
from perdure.replay.deadlines import LATEST
from perdure.replay.futures import ActionFuture, InertFuture, RunFuture, reject
from perdure.replay.notes import Notes
from perdure.replay.others import OtherRuns
from perdure.replay.patches import Patches
from perdure.replay.pending import Pending
from perdure.replay.run_random import RunRandom
from perdure.replay.streams import Streams
from perdure.replay.tokens import Tokens, no_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from perdure.model.actions import AnyAction
    from perdure.model.events import CarriedToken
    from perdure.model.info import Info
    from perdure.model.options import ActivityOptions
    from perdure.model.payloads import AvroSchema, Payloads
    from perdure.model.runtime import ActivitySpec, Child, ChildOptions, WorkflowSpec
    from perdure.replay.futures import TimerHandle
    from perdure.replay.loop import RunLoop


class RunRuntime(WorkflowRuntime):
    """The runtime of one run.

    Args:
        loop: the run's loop; its `runtime` is set to this object.
        seed: seeds the run's stream of random numbers.
        payloads: encodes the arguments of activities.
        info: returns the facts about the run; called when the code asks for them.
        definition: of the run's type.
        secret: makes the secret of a token.
        rules: the engine flags that the run began under.

    Attributes:
        activities: the activities whose outcomes the code awaits.
        carried: the tokens of the run that this one continues.
        definition: of the run's type.
        handlers: the handlers of signals and updates.
        main: the task of the run itself; None until it begins.
        memo: that of its start, a payload, or empty.
        records: the number of the last record that was produced.
        used_notes: as `notes`; None when the code has asked for none.
        used_streams: as `streams`; None when the code has written to none.
        uses: how often each name of an inline step was used.
    """

    __slots__ = (
        "_attributes",
        "_awaited",
        "_compensations",
        "_info",
        "_loop",
        "_others",
        "_patches",
        "_payloads",
        "_random",
        "_rules",
        "_secret",
        "_seed",
        "_tokens",
        "activities",
        "carried",
        "definition",
        "handlers",
        "main",
        "memo",
        "records",
        "used_notes",
        "used_streams",
        "uses",
    )

    def __init__(
        self,
        loop: RunLoop,
        seed: int,
        payloads: Payloads,
        info: Callable[[], Info],
        definition: WorkflowSpec | None = None,
        *,
        secret: Callable[[], str] = no_secret,
        rules: int = flags.CURRENT,
    ) -> None:
        self._loop = loop
        self._rules = rules
        self._seed = seed
        self._payloads = payloads
        self._info = info
        self.definition = definition
        self.main: Any = None
        self.handlers: Any = None
        self._random: Random | None = None
        self.activities: Pending[tuple[ActivitySpec, ActionFuture]] = Pending(
            loop.actions, ScheduleActivity, CancelActivity
        )
        self._secret = secret
        self._attributes: Attributes | None = None
        self._awaited: Awaited | None = None
        self._others: OtherRuns | None = None
        self._patches: Patches | None = None
        self._tokens: Tokens | None = None
        self.carried: tuple[CarriedToken, ...] = ()
        self.memo = b""
        self.used_notes: Notes | None = None
        self.used_streams: Streams | None = None
        self._compensations: Compensations | None = None
        self.records = 0
        self.uses: dict[str, int] = {}
        loop.runtime = self

    # Created on first use: many runs use none of them, and every object of a run costs the garbage
    # collector time.

    @property
    def others(self) -> OtherRuns:
        """Children, and messages to other workflows."""
        if self._others is None:
            self._others = OtherRuns(self._loop, self._payloads, self.awaited)
        return self._others

    @property
    def awaited(self) -> Awaited:
        """Actions that one event answers."""
        if self._awaited is None:
            self._awaited = Awaited(self._loop)
        return self._awaited

    @property
    def patches(self) -> Patches:
        """The patches of the run."""
        if self._patches is None:
            self._patches = Patches(self._loop)
        return self._patches

    @property
    def tokens(self) -> Tokens:
        """The tokens of the run."""
        if self._tokens is None:
            self._tokens = Tokens(self._loop, self._payloads, self._info, self._secret, carried=self.carried)
        return self._tokens

    def left_tokens(self) -> tuple[CarriedToken, ...]:
        """The tokens that move to the run that continues this one."""
        return self.carried if self._tokens is None else self._tokens.left()

    @property
    def streams(self) -> Streams:
        """That the code writes to."""
        if self.used_streams is None:
            self.used_streams = Streams(self._loop, self._payloads)
        return self.used_streams

    @property
    def notes(self) -> Notes:
        """Its memo, and its details."""
        if self.used_notes is None:
            self.used_notes = Notes(self._loop, self._payloads, self.memo)
        return self.used_notes

    @property
    def compensations(self) -> Compensations:
        """Of its sagas."""
        if self._compensations is None:
            are_recorded = flags.has(self._rules, flags.Flag.COMPENSATIONS)
            self._compensations = Compensations(self._loop, self._payloads, are_recorded=are_recorded)
        return self._compensations

    @property
    def is_read_only(self) -> bool:
        """See `WorkflowRuntime`."""
        return self._loop.is_read_only

    def suspend_for(self, error: BaseException) -> None:
        """See `WorkflowRuntime`."""
        self._loop.suspend_for(error)

    def misuse(self, error: UsageError) -> UsageError:
        """See `WorkflowRuntime`."""
        return self._loop.misuse(error)

    def unawaited(self, what: str, name: str, frame: FrameType) -> bool:
        """See `WorkflowRuntime`."""
        return self._loop.unawaited(what, name, frame)

    # ---- asked by workflow code

    def schedule_activity(
        self,
        activity: ActivitySpec,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ActivityOptions,
    ) -> RunFuture:
        """Schedule an activity, and return the future of its result. See `WorkflowRuntime`."""
        loop = self._loop
        loop.refuse_if_read_only("schedule an activity")
        if loop.is_evicted:
            return InertFuture(loop, 0)
        try:
            payload = self._payloads.encode_arguments(
                activity.fn, args, kwargs, what=f"activity {activity.name!r}"
            )
        except UsageError as error:
            raise loop.misuse(error) from None
        pending = self.activities
        pending.count = number = pending.count + 1
        loop.actions.items.append(ScheduleActivity(number, activity.name, payload, options))
        future = ActionFuture(loop, loop.next_hash(), pending, number, options)
        pending.waiting[number] = (activity, future)
        return future

    async def wait_until(self, condition: Callable[[], Any], timeout_us: int | None) -> Any:
        """Wait for a condition. Returns its first truthy result, or the last falsy one on a
        timeout. See `WorkflowRuntime`.
        """
        loop = self._loop
        loop.refuse_if_read_only("wait")
        waiter = Condition(condition, copy_context(), loop.create_future())
        value = waiter.evaluate(loop)
        if value or (timeout_us is not None and timeout_us <= 0):
            return value
        loop.conditions.append(waiter)
        timer: TimerHandle | None = None
        if timeout_us is not None:
            timer = loop.start_timer(
                min(loop.now + timeout_us, LATEST), 0.0, waiter.give_up, (), waiter.context
            )
        try:
            return await waiter.future
        finally:
            waiter.future.cancel()  # the wait is over, however it ended
            if timer is not None:
                timer.cancel()

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: object,
        headers: list[RecordHeader],
        avro: AvroSchema | None,
    ) -> None:
        """Write a record to a topic. See `WorkflowRuntime`."""
        loop = self._loop
        loop.refuse_if_read_only("produce a record")
        if loop.is_evicted:
            return
        try:
            data, content_type = self._payloads.encode_record(
                value, avro, what=f"the record for topic {topic!r}"
            )
        except UsageError as error:
            raise loop.misuse(error) from None
        typed = (*headers, RecordHeader("content-type", content_type)) if content_type else tuple(headers)
        if values := context.here():
            typed = (*typed, RecordHeader(context.HEADER, values))
        self.records = number = self.records + 1
        loop.actions.items.append(ProduceRecord(number, topic, key, data, typed))

    def ask(self, what: str, action: type[AnyAction], *fields: Any, **answered: Any) -> RunFuture:
        """Ask for an action that one event answers. See `WorkflowRuntime`."""
        return self.awaited.ask(what, action, *fields, **answered)

    def set_attributes(self, values: bytes) -> None:
        """Set attributes of the run. See `WorkflowRuntime`."""
        if self._attributes is None:
            self._attributes = Attributes(self._loop)
        self._attributes.set(values)

    def start_child(
        self,
        workflow: WorkflowSpec,
        workflow_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: ChildOptions,
    ) -> Child:
        """Start another workflow as a child. See `WorkflowRuntime`."""
        return self.others.start(workflow, workflow_id, args, kwargs, options)

    def cancel_child(self, child: Child) -> bool:
        """Ask a child to stop. See `WorkflowRuntime`."""
        return self.others.cancel(child)

    def send_message(
        self, what: str, workflow_id: str, name: str, payload: bytes, workflow: WorkflowSpec | None
    ) -> RunFuture:
        """Send a message to another workflow. See `WorkflowRuntime`."""
        return self.others.send(what, workflow_id, name, payload, workflow)

    def encode_arguments(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
    ) -> bytes:
        """The payload of a call. See `WorkflowRuntime`."""
        try:
            return self._payloads.encode_arguments(fn, args, kwargs, what=what)
        except UsageError as error:
            raise self._loop.misuse(error) from None

    def info(self) -> Info:
        """Facts about the run."""
        return self._info()

    def now_us(self) -> int:
        """The time of the event that is being handled, microseconds since 1970."""
        return self._loop.now

    def random(self) -> Random:
        """The run's own stream of random numbers."""
        refuse = self._loop.refuse_if_read_only
        refuse("draw a random number")
        if self._random is None:
            self._random = RunRandom(refuse, self._seed)  # the same numbers again on replay
        return self._random

    def uuid4(self) -> UUID:
        """From the run's own stream of random numbers."""
        return UUID(int=self.random().getrandbits(128), version=4)

    def is_replaying(self) -> bool:
        """Whether recorded events are being repeated."""
        return self._loop.replaying

    # ---- outcomes, applied by the driver

    def resolve_activity(self, number: int, value: Any) -> bool:
        """Resolve the activity's future; return whether the code still waits for it."""
        pending = self.activities.waiting.pop(number, None)
        if pending is not None:
            pending[1].set_result(value)
        return pending is not None

    def reject_activity(self, number: int, error: BaseException) -> bool:
        """Reject the activity's future; return whether the code still waits for it."""
        pending = self.activities.waiting.pop(number, None)
        if pending is not None:
            reject(pending[1], error)
        return pending is not None

    def stopped_activity(self, number: int) -> None:
        """The activity that was asked to stop has ended."""
        pending = self.activities.waiting.pop(number, None)
        if pending is not None:
            RunFuture.cancel(pending[1])

    def release(self) -> list[Any]:
        """Return the awaited futures of an evicted run, for `eviction`."""
        futures: list[Any] = [future for _, future in self.activities.waiting.values()]
        self.activities.waiting.clear()
        if self._others is not None:
            futures += self._others.release()
        if self._awaited is not None:
            futures += self._awaited.release()
        if self._tokens is not None:
            futures += self._tokens.release()
        return futures
