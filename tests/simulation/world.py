"""A whole platform in one thread, with its own clock and dice: the same script gives the same
history, always.

Activities and steps run between batches, in the order of their dispatch. `crash` forgets everything
but the medium.
"""

from __future__ import annotations

import asyncio
import atexit
import random
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import structs

from perdure.adapters.memory.log import MemoryLog
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.store import MemoryStore
from perdure.adapters.process.channel import Channel
from perdure.adapters.sqlite.file import SqliteFile, connect
from perdure.adapters.sqlite.log import SqliteLog
from perdure.adapters.sqlite.store import SqliteStore
from perdure.authoring.attempt import Outlet, outlet
from perdure.codec.payloads import JsonPayloads
from perdure.core.run import fold
from perdure.core.state import RunState
from perdure.engine.ports import Log, Store
from perdure.engine.processor import Engine, Settings
from perdure.model import commands as cm
from perdure.model.events import EventRecord
from perdure.model.inline import InlineTask
from perdure.model.replies import Accepted, AnyReply
from perdure.model.tasks import Task, claim_of
from perdure.registry import Registry
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.inline import run_inline, run_once
from perdure.worker.steps import _unknown as unknown_step
from perdure.worker.stopping import stopped
from tests.simulation.invariants import assert_live_is_folded

START: Final = 1_700_000_000_000_000
SETTINGS: Final = Settings(join_s=1.0, retry_s=0.0, batch_s=float("inf"))
_THREADS: Final = ActivityThreads(1)
_runner: asyncio.Runner | None = None


def run_attempt(attempts: Attempts, task: Task, submit: Any = None) -> cm.AnyCommand:
    """An attempt, run to its end here and now.

    Args:
        attempts: runs it.
        task: of the attempt.
        submit: takes what it writes to streams.
    """

    async def attempted() -> cm.AnyCommand:
        outlet.set(Outlet(submit))
        return await attempts.run(task, lambda details: None, lambda: None)

    return _run(attempted())


def run_claimed(attempts: Attempts, task: Task) -> cm.AnyCommand:
    """The same of an activity that may not run twice, and that was claimed."""
    return _run(run_once(attempts, task, lambda details: None, lambda: None))


def run_step(attempts: Attempts, step: InlineTask) -> cm.AnyCommand:
    """The same of an inline step."""
    return _run(run_inline(attempts, step, lambda details: None, lambda: None))


def _run(coroutine: Coroutine[Any, Any, cm.AnyCommand]) -> cm.AnyCommand:
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
        atexit.register(_runner.close)
    report = _runner.run(coroutine)
    if isinstance(report, cm.DeferActivity):
        return structs.replace(report, ran_us=0)  # of the machine's clock, which would be in the history
    return report


class VirtualClock:
    """A clock that the test moves.

    Attributes:
        at: the monotonic clock, microseconds.
        wrong_by: the time of day minus `at`.
    """

    def __init__(self) -> None:
        self.at = START
        self.wrong_by = 0

    def now(self) -> int:
        return self.at + self.wrong_by

    def elapsed(self) -> int:
        return self.at


class CountedIds:
    """Ids that count, each kind for itself; they continue over crashes."""

    def __init__(self) -> None:
        self.run_ids = self.tokens = self.seeds = self.secrets = 0

    def run_id(self) -> str:
        self.run_ids += 1
        return f"run-{self.run_ids}"

    def token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    def secret(self) -> str:
        self.secrets += 1
        return f"{self.secrets:032x}"

    def seed(self) -> int:
        self.seeds += 1
        return self.seeds


class Medium(Protocol):
    """The data that survives a crash."""

    def adapters(self, channel: Channel) -> tuple[Log, Store]:
        """A log and a store on it, as a new process would make them."""
        ...

    def records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Topic, key and value of the records that workflow code has produced, in order."""
        ...


class InMemory:
    """A `MemoryMedium`."""

    def __init__(self) -> None:
        self.medium = MemoryMedium()

    def adapters(self, channel: Channel) -> tuple[Log, Store]:
        return MemoryLog(channel, self.medium), MemoryStore(self.medium)

    def records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Topic, key and value of the records that workflow code has produced, in order."""
        return [(each.topic, each.key, each.value) for each in self.medium.records]


class InFile:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def adapters(self, channel: Channel) -> tuple[Log, Store]:
        file = SqliteFile(self.path)
        return SqliteLog(file, channel), SqliteStore(file)

    def records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Topic, key and value of the records that workflow code has produced, in order."""
        with closing(connect(self.path, 5.0)) as connection:
            return connection.execute("SELECT topic, key, value FROM records ORDER BY position").fetchall()


def unwrapped(port: Any, name: str) -> Any:
    """No faults."""
    return port


class World:
    """Engine, worker and clients of one medium, moved by hand.

    Args:
        registry: the served workflow types.
        settings: of the engine.
        wrap: put around the log and the store, given their names (to inject faults); by default
            nothing.
        medium: by default memory.
        joins_steps: a step ends in the batch that starts it; else between batches, like an
            activity.
        checks_fold: after each batch the cached runs are compared with the fold of their histories.
        evicts: asked after each batch whether all runs are to be forgotten.
        payloads: of clients, code and attempts; by default plain JSON.

    Attributes:
        run_ids: of the runs that clients know, by workflow id.
        held: activities whose tasks the worker takes and keeps, in `held_tasks`.
        zombies: tasks of workers that outlived a crash of the engine: they are done a second time.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings = SETTINGS,
        wrap: Callable[[Any, str], Any] = unwrapped,
        medium: Medium | None = None,
        *,
        joins_steps: bool = True,
        checks_fold: bool = False,
        evicts: Callable[[], bool] | None = None,
        payloads: JsonPayloads | None = None,
    ) -> None:
        self.registry = registry
        self.settings = settings if joins_steps else replace(settings, join_s=0.0)
        self.wrap = wrap
        self._medium: Medium = medium or InMemory()
        self.joins_steps = joins_steps
        self.checks_fold = checks_fold
        self.evicts = evicts
        self.clock = VirtualClock()
        self.ids = CountedIds()
        self.payloads = payloads or JsonPayloads(validate_on_encode=False)
        self.replies: dict[str, AnyReply] = {}
        self.reports: list[str] = []
        self.requests = 0
        self.serves_tasks = True
        self.run_ids: dict[str, list[str]] = {}
        self._asked: dict[str, str] = {}
        self.held: set[str] = set()
        self.zombies: deque[Task] = deque()
        self.boots = 0
        self.boot()

    @property
    def medium(self) -> MemoryMedium:
        """Of a world in memory."""
        assert isinstance(self._medium, InMemory)
        return self._medium.medium

    # ---- life and death

    def boot(self) -> None:
        """Start the engine, on what the medium holds."""
        self.channel = Channel()
        self.tasks: deque[Task] = deque()
        self.boots += 1
        self.claims: dict[str, Task] = {}
        self.claimed: deque[Task] = deque()
        self.steps: deque[Any] = deque()
        self.held_tasks: list[Task] = []
        self._ports = self._medium.adapters(self.wrap(self.channel, "channel"))
        self.log: Log = self.wrap(self._ports[0], "log")
        self.store: Store = self.wrap(self._ports[1], "store")
        self.channel.deliveries.subscribe_replies("me", self._reply)
        self.channel.deliveries.subscribe_tasks(self._deliver, self._cancelled)
        self.attempts = Attempts(self.registry.activities, self.payloads, _THREADS, instances={})
        self.engine = Engine(
            self.log,
            self.store,
            self.clock,
            ids=self.ids,
            steps=self,
            definitions=self.registry.served,
            payloads=self.payloads,
            settings=self.settings,
            report=self._report,
        )
        self.engine.open()

    def crash(self, *, workers_live: bool = False) -> None:
        """Lose everything but the medium, and start again.

        Args:
            workers_live: what workers have taken they report later, too.
        """
        if workers_live:
            self.zombies.extend(self.tasks)
        self.engine.runs.clear()  # their coroutines would complain to the garbage collector
        self.close()
        self.boot()

    def close(self) -> None:
        """Release the medium."""
        log, store = self._ports
        store.close()
        log.close()

    def deploy(self, registry: Registry) -> None:
        """Start again, with other code."""
        self.registry = registry
        self.crash()

    # ---- engine.ports.Steps

    def start(self, tasks: Sequence[Task]) -> None:
        if self.joins_steps:
            self.log.submit([self._run(task) for task in tasks])
        else:
            self.steps.extend(tasks)

    def start_inline(self, tasks: Sequence[InlineTask]) -> None:
        if self.joins_steps:
            self.log.submit([self._run_step(each) for each in tasks])
        else:
            self.steps.extend(tasks)

    def cancel(self, run_id: str, number: int) -> None:
        def is_it(step: Task | InlineTask) -> bool:
            task = step.task if isinstance(step, InlineTask) else step
            return (task.run_id, task.number) == (run_id, number)

        stopping = [step for step in self.steps if is_it(step)]
        self.steps = deque(step for step in self.steps if not is_it(step))
        self._report_stopped(step.task if isinstance(step, InlineTask) else step for step in stopping)

    # ---- moving

    def settle(self, limit: int = 10_000) -> None:
        """Let everything happen that can happen now, without time passing."""
        for _ in range(limit):
            moved = self.engine.run_batch(0)
            if moved:
                self._after_batch()
            if self.steps:
                moved = True
                self.log.submit([self._run_step(self.steps.popleft())])
            if self.zombies and self.serves_tasks:
                moved = True
                self.log.submit([self._run(self.zombies.popleft())])
            if self.tasks and self.serves_tasks:
                moved = True
                self._work()
            if self.claimed:
                moved = True
                self.log.submit([run_claimed(self.attempts, self.claimed.popleft())])
            if not moved:
                return
        raise AssertionError("it does not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        self.advance_to(self.clock.at + round(seconds * 1e6))

    def advance_to(self, until: int) -> None:
        """Let time pass, timer by timer, until it is `until` microseconds."""
        self.settle()
        while (at := self._next_at()) is not None and at <= until:
            self.clock.at = at
            self.settle()
        self.clock.at = max(self.clock.at, until)
        self.settle()

    # ---- asking

    def ask(self, command_type: Any, workflow_id: str, /, **fields: Any) -> str:
        """Send a request; its id."""
        self.requests += 1
        request_id: str = fields.pop("request_id", f"request-{self.requests}")
        self._asked[request_id] = workflow_id
        self.log.submit([command_type(workflow_id, request_id=request_id, reply_to="me", **fields)])
        return request_id

    def start_workflow(self, workflow_id: str, type: str, *args: Any, **fields: Any) -> Any:
        """Start a run and let it go as far as it can now; the reply."""
        request_id = self.ask(cm.StartWorkflow, workflow_id, type=type, input=self.encoded(args), **fields)
        self.settle()
        return self.replies.get(request_id)

    def signal(self, workflow_id: str, name: str, *args: Any, **fields: Any) -> Any:
        """Send a signal and let the run go as far as it can now; the reply."""
        request_id = self.signal_later(workflow_id, name, *args, **fields)
        self.settle()
        return self.replies.get(request_id)

    def signal_later(self, workflow_id: str, name: str, *args: Any, **fields: Any) -> str:
        """Send a signal that the next batch takes; the request's id."""
        return self.ask(cm.SignalWorkflow, workflow_id, name=name, input=self.encoded(args), **fields)

    def encoded(self, args: Collection[Any]) -> bytes:
        """Arguments as a client of another language would encode them: without a look at what is
        allowed."""
        from perdure.codec.values import to_json

        return to_json(list(args))

    # ---- looking

    def history(self, workflow_id: str) -> list[EventRecord]:
        """Of the current or last run."""
        state = self.state(workflow_id)
        return self.store_port.events(workflow_id, state.run_id)

    def events(self, workflow_id: str) -> list[Any]:
        return [event for record in self.history(workflow_id) for event in record.events]

    def names(self, workflow_id: str) -> list[str]:
        return [type(event).__name__ for event in self.events(workflow_id)]

    def state(self, workflow_id: str) -> Any:
        return self.store_port.state(workflow_id)

    @property
    def store_port(self) -> Store:
        """The store without its wrapping."""
        return self._ports[1]

    def folded(self, workflow_id: str) -> RunState:
        return fold(self.history(workflow_id))

    def folded_run(self, records: Sequence[EventRecord]) -> RunState:
        return fold(records)

    def value(self, workflow_id: str) -> Any:
        return self.payloads.decode(self.state(workflow_id).result, Any, what="result")

    def records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Topic, key and value of the records that workflow code has produced, in order."""
        return self._medium.records()

    def histories(self) -> dict[tuple[str, str], list[EventRecord]]:
        """Of all runs that clients know."""
        found: dict[tuple[str, str], list[EventRecord]] = {}
        for workflow_id in sorted({*self._asked.values()}):
            state = self.state(workflow_id)
            known = dict.fromkeys([*self.run_ids.get(workflow_id, ()), *([state.run_id] if state else ())])
            for run_id in known:
                found[workflow_id, run_id] = self.store_port.events(workflow_id, run_id)
        return found

    # ---- private

    def _report(self, message: str, /, **where: str | int) -> None:
        self.reports.append(message)

    def _next_at(self) -> int | None:
        """When something is due next, by the monotonic clock."""
        timers = self.store_port.timers(None, 1)
        sources = self.engine._sources
        others = sources.leases.next_at(), sources.unavailable.next_at()
        ahead = self.engine._time.now() - self.clock.at  # 0 but for a clock that is wrong
        found = [*(timer.fires_at - ahead for timer in timers), *(at for at in others if at is not None)]
        return max(self.clock.at, min(found)) if found else None

    def _after_batch(self) -> None:
        if self.checks_fold:
            for active in self.engine.runs._runs.values():
                assert_live_is_folded(active, self.store_port)
        if self.evicts is not None and self.evicts():
            self.engine.runs.clear()

    def _work(self) -> None:
        task = self.tasks.popleft()
        if task.name in self.held:
            self.held_tasks.append(task)
        elif task.is_at_most_once:
            self.claims[task.token] = task
            self.log.submit(
                [
                    cm.StartActivity(
                        task.workflow_id,
                        task.run_id,
                        number=task.number,
                        token=task.token,
                        worker=self._claimant,
                    )
                ]
            )
        else:
            self.log.submit([self._run(task)])

    def _run_step(self, step: Task | InlineTask) -> cm.AnyCommand:
        return run_step(self.attempts, step) if isinstance(step, InlineTask) else self._run(step)

    def _run(self, task: Task) -> cm.AnyCommand:
        if not self.attempts.serves(task.name):
            if not task.queue:
                return unknown_step(task)
            return cm.DeclineActivity(
                task.workflow_id,
                task.run_id,
                number=task.number,
                token=task.token,
                reason=f"nobody knows {task.name!r}",
            )
        written: list[cm.AnyCommand] = []
        report = run_attempt(self.attempts, task, written.extend)
        if written:
            self.log.submit(written)
        return report

    def _reply(self, replies: list[AnyReply]) -> None:
        for reply in replies:
            self.replies[reply.request_id] = reply
            if isinstance(reply, Accepted) and (workflow_id := self._asked.get(reply.request_id)):
                known = self.run_ids.setdefault(workflow_id, [])
                if reply.run_id not in known:
                    known.append(reply.run_id)

    def _deliver(self, tasks: list[Task]) -> None:
        self.tasks.extend(tasks)

    def _report_stopped(self, tasks: Iterable[Task]) -> None:
        if reports := [stopped(task) for task in tasks if task.reports_stop]:
            self.log.submit(reports)

    @property
    def _claimant(self) -> str:
        return f"worker {self.boots}"

    def _cancelled(self, tokens: list[str]) -> None:
        for claim in filter(None, map(claim_of, tokens)):
            task = self.claims.pop(claim[0], None)
            if task is not None and claim[1] == self._claimant:
                self.claimed.append(task)
        self._report_stopped(task for task in self.tasks if task.token in tokens)
        self.tasks = deque(task for task in self.tasks if task.token not in tokens)


def seeded(seed: int) -> random.Random:
    """Dice for a test."""
    return random.Random(seed)
