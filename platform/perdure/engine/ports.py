"""The ports of the engine: its requirements on a log, a store and a clock. The adapters are in
`perdure.adapters`.

Ownership: an engine has one of each and calls them from its own thread only. Other threads may call
`Log.submit` and `Log.wake`.

The contract of a batch, in this order :

1. `Log.take` commands; due timers and finished steps;
2. stamp `at` and fresh ids;
3. decide and evolve, running workflow code; steps start immediately, and those that finish while
   the batch is open join it; those that may not run twice start after the commit;
4. `Log.commit(batch)`: atomically and durably;
5. committed: `Store.apply(batch)`, then timers are armed;
6. aborted (`CommitAborted`): the touched runs are evicted, and `Log.abort()` hands the commands out
   again.

If a batch cannot be handled or written for any other reason, it is aborted, too, and the engine
looks for the command that fails it (`engine.quarantine`): that one becomes a dead letter
(`Batch.letters`), the others are handled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from perdure.codec.paging import PAGE_EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perdure.model.commands import AnyCommand
    from perdure.model.events import EventRecord, RecordProduced
    from perdure.model.inline import InlineTask
    from perdure.model.replies import AnyReply, History
    from perdure.model.retention import ClosedRun, RemovedRun
    from perdure.model.states import WorkflowState
    from perdure.model.streams import StreamRecord
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


class RefusedCommand(NamedTuple):
    """A command that becomes a dead letter, as part of a batch.

    Attributes:
        command: as `Log.take` handed it out, or as the engine made it.
        reason: one word: `refused`, because no client waits for the answer; `unanswerable`, because
            the answer is for a workflow and this version does not know that kind of answer; or
            `poisoned`, because it could not be handled or written.
        message: what is wrong, for people.
        is_bare: keep only the place and the reason, since the command itself could not be written.
    """

    command: AnyCommand
    reason: str
    message: str
    is_bare: bool = False


@dataclass(slots=True)
class Batch:
    """Everything that one transaction makes durable.

    Attributes:
        at: the stamp of the batch, microseconds.
        events: records in the order they were decided, each with its encoded bytes.
        states: the public states that changed, by workflow id.
        tasks: to dispatch, by (run id, activity number); a task of a queue is delivered to workers
            after the commit, a step's (empty queue) is only kept until it has ended, so that it is
            found again after a crash.
        tasks_ended: tasks to be forgotten, by the same key. A key is never in both.
        timers: timers to store.
        timers_ended: timers to remove. A timer is never in both.
        cancelled: tokens of attempts whose results are not wanted any more; workers that run one
            are asked to stop it, after the commit.
        records: records for your topics, each with the id of its workflow, in order.
        commands: commands for workflows of any partition, in order. The `Log.take` of the
            partition's owner hands out each once.
        replies: pairs of address (`reply_to`) and answer; delivered after the commit.
        letters: commands that become dead letters.
        closed: the runs that close in the batch, for the store's index of closed runs.
        followed: closed runs whose workflow id has another run from now on.
        removed: runs whose records are removed.
        states_ended: workflow ids whose state is removed; none of them is in `states`.
        streams: values for those who read streams, in order; one that is there is not written a
            second time, where the log can see that.
    """

    at: int = 0
    events: list[tuple[EventRecord, bytes]] = field(default_factory=list["tuple[EventRecord, bytes]"])
    states: dict[str, WorkflowState] = field(default_factory=dict[str, "WorkflowState"])
    tasks: dict[tuple[str, int], Task] = field(default_factory=dict[tuple[str, int], "Task"])
    tasks_ended: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    timers: set[Timer] = field(default_factory=set["Timer"])
    timers_ended: set[Timer] = field(default_factory=set["Timer"])
    cancelled: list[str] = field(default_factory=list[str])
    records: list[tuple[str, RecordProduced]] = field(default_factory=list["tuple[str, RecordProduced]"])
    commands: list[AnyCommand] = field(default_factory=list["AnyCommand"])
    replies: list[tuple[str, AnyReply]] = field(default_factory=list["tuple[str, AnyReply]"])
    letters: list[RefusedCommand] = field(default_factory=list[RefusedCommand])
    streams: list[StreamRecord] = field(default_factory=list["StreamRecord"])
    closed: list[ClosedRun] = field(default_factory=list["ClosedRun"])
    followed: list[ClosedRun] = field(default_factory=list["ClosedRun"])
    removed: list[RemovedRun] = field(default_factory=list["RemovedRun"])
    states_ended: set[str] = field(default_factory=set[str])


class Owner(Protocol):
    """The owner of a log's partitions: the engine. The log calls it on the engine's thread, within
    `take`, while no batch is open.
    """

    @property
    def has_open_batch(self) -> bool:
        """Whether taken commands are being handled. Ownership must not change until the batch is
        committed or aborted.
        """
        ...

    def partitions_gained(self, partitions: Collection[int]) -> None:
        """This engine owns the partitions from now on. The store is up to date with the log, and
        their commands follow.
        """

    def partitions_lost(self, partitions: Collection[int]) -> None:
        """Forget these partitions: another engine owns them now. The store has released them."""


class Log(Protocol):
    """Hands out commands and commits batches, exactly once."""

    def open(self, owner: Owner | None = None) -> None:
        """Take ownership of the partitions that are available, and call the owner whenever one is
        gained or lost. A log that is owned as a whole has called `partitions_gained` when this
        returns. Unfinished tasks of a crashed owner are delivered again.

        Args:
            owner: called about gained and lost partitions.

        Raises:
            InfrastructureError: another process owns it, or it cannot be read or written; the
                message says what to do.
        """

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        """The next commands: waits for the first for up to `timeout_s`, then adds those that are
        already there, up to `limit`.

        A command is handed out once, unless `abort` is called before the commit that covers it. May
        be called several times before a commit. Returns early, perhaps with nothing, when `wake`
        was called.
        """
        ...

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        """The partition of a workflow id, and the offset of the last command taken from it; -1:
        none.

        Since a batch is committed as a whole, each of its records covers every command up to that
        offset.
        """
        ...

    def commit(self, batch: Batch) -> None:
        """Commit the batch, and the positions of all commands handed out so far, in one
        transaction.

        Afterwards replies and tasks are delivered. The batch is not kept.

        A reply to an address that does not parse is dropped. `replies` has none for workflows: the
        engine has turned those into commands.

        Raises:
            CommitAborted: nothing was recorded; call `abort`.
            InfrastructureError: a retry would not help now; the message says what to do.
            Exception: the batch cannot be written. Nothing was recorded; call `abort`. Once the
                batch is durable, nothing is raised.
        """

    def can_answer(self, address: str, command: AnyCommand) -> bool:
        """Whether a client waits for the reply at the address, as far as this log knows; never
        raises.

        False for a client that has died or has stopped waiting.

        Args:
            address: the address of the reply.
            command: as handed out by `take`; an old one may have outlived its client.
        """
        ...

    def abort(self) -> None:
        """Hand out again, in order, all commands that were taken since the last commit."""

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands from any thread of this process; `take` returns them in this order.

        They become durable with the batch that handles them; wait for the reply, or for the end of
        the task, to know that.
        """

    def wake(self) -> None:
        """Make `take` return; any thread may call it."""

    def close(self) -> None:
        """Give up ownership. Idempotent."""


class Store(Protocol):
    """The materialised state of the owned partitions, derived from the events."""

    def open(self) -> None:
        """Open the store and bring it up to date with the log.

        Raises:
            InfrastructureError: the store cannot be read; the message says what to do.
        """

    def apply(self, batch: Batch) -> None:
        """Apply a committed batch in one write. Applying the same batch twice changes nothing."""

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        ...

    def events(self, workflow_id: str, run_id: str) -> list[EventRecord]:
        """The history of a run, in order; empty when there is none."""
        ...

    def page(self, workflow_id: str, run_id: str, from_event_id: int, limit: int = PAGE_EVENTS) -> History:
        """A page of the history: `codec.paging.page_of` from the record that holds the event, or
        from the last one.

        Costs what the page costs, however long the history is.

        Args:
            workflow_id: of the run.
            run_id: the run.
            from_event_id: the id of the first event that is wanted.
            limit: the number of events from that one on; 1: the record that holds it.
        """
        ...

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        """`codec.records.hash_of` the bytes of the run's last record, as they were written; empty
        when there is none.

        It hashes the bytes, since a newer version of the schema may encode the record differently.
        """
        ...

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """Timers in their order, from the first, or from the one that follows `after`."""
        ...

    def tasks(self, partitions: Collection[int] = (0,)) -> Iterable[Task]:
        """Tasks of these partitions that have not ended, steps included."""
        ...

    def suspended(self, partitions: Collection[int] = (0,)) -> list[tuple[str, str]]:
        """(workflow id, run id) of the runs of these partitions that are suspended."""
        ...

    def running(self, partition: int, after: object, limit: int) -> tuple[list[tuple[str, str]], object]:
        """(workflow id, run id) of runs of a partition that are open and not suspended, page by
        page.

        Args:
            partition: one that is owned.
            after: what the last page returned beside its runs; None for the first page.
            limit: the most rows that are looked at; a page may have fewer runs, or none.

        Returns:
            The runs, and the value of `after` for the next page; None: this was the last page.
        """
        ...

    def closed_runs(self) -> ClosedRuns:
        """The index of closed runs."""
        ...

    def latest_at(self) -> int:
        """The `at` of the last batch, 0 if there was none. The engine's time never goes back before
        it.
        """
        ...

    def close(self) -> None:
        """Idempotent."""


class ClosedRuns(Protocol):
    """Finds closed runs of the owned partitions, without a look at the others."""

    def kinds(self, before: int) -> list[tuple[str, str]]:
        """Types and statuses of which there are closed runs. An empty type: there are more that
        have closed before, whose type the store has not looked up yet; it does at the next call.

        Args:
            before: runs that closed later may be left out, microseconds.
        """
        ...

    def first(self, kind: tuple[str, str], limit: int) -> list[ClosedRun]:
        """The runs of a type and status that closed first, in that order."""
        ...

    def of(self, workflow_id: str) -> list[ClosedRun]:
        """Those of a workflow id, in any order. The type may be empty."""
        ...

    def current(self, workflow_id: str) -> str:
        """The run, open or closed, whose state is the workflow's; empty: there is none."""
        ...

    def event_ids(self, workflow_id: str, run_id: str) -> list[int]:
        """The first event id of each record of a run, in order."""
        ...


class Clock(Protocol):
    """The time of day, and a monotonic clock."""

    def now(self) -> int:
        """Microseconds since 1970. May step back or ahead: see `engine.hybrid_clock`."""
        ...

    def elapsed(self) -> int:
        """Microseconds on a monotonic clock that continues while the machine sleeps."""
        ...


class Ids(Protocol):
    """Fresh ids and secrets."""

    def run_id(self) -> str:
        """A new run's id, 1 to 40 characters of [0-9a-z-]."""
        ...

    def token(self) -> str:
        """An attempt's token, which cannot be guessed."""
        ...

    def seed(self) -> int:
        """A run's random seed, 63 bits."""
        ...

    def secret(self) -> str:
        """The secret of a token for outsiders: 128 bits, as hexadecimal digits."""
        ...


class Steps(Protocol):
    """Runs local activities outside the engine's thread. Each reports its end as a command, by
    `Log.submit`.
    """

    def start(self, tasks: Sequence[Task]) -> None:
        """Start these steps; returns immediately."""

    def start_inline(self, tasks: Sequence[InlineTask]) -> None:
        """Start these inline steps; returns immediately."""

    def cancel(self, run_id: str, number: int) -> None:
        """Ask a running step to stop; ignored if it has ended."""
