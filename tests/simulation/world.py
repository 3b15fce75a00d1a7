"""A whole platform in one thread, with its own clock and dice: the same script gives the same history, always.

Activities and steps run between batches, in the order of their dispatch. `crash` forgets everything but the medium.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from perdure.codec.payloads import JsonPayloads
from perdure.core.run import RunState, fold
from perdure.engine.processor import Engine, Settings
from perdure.log.channel import Channel
from perdure.log.memory import MemoryLog
from perdure.medium.memory import MemoryMedium
from perdure.model import commands as cm
from perdure.model.events import EventRecord
from perdure.model.replies import AnyReply
from perdure.model.tasks import Task
from perdure.registry import Registry
from perdure.store.memory import MemoryStore
from perdure.worker.attempt import Attempts

START = 1_700_000_000_000_000


class VirtualClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at


class CountedIds:
    """Ids that count; they go on over crashes."""

    def __init__(self) -> None:
        self.count = 0

    def run_id(self) -> str:
        self.count += 1
        return f"run-{self.count}"

    def token(self) -> str:
        self.count += 1
        return f"token-{self.count}"

    def seed(self) -> int:
        self.count += 1
        return self.count


class World:
    """Engine, worker and clients of one medium, moved by hand.

    Args:
        registry: what is served.
        settings: of the engine.
        wrap: put around the log and the store (to inject faults); by default nothing.
    """

    def __init__(self, registry: Registry, settings: Settings = Settings(join_s=1.0), wrap: Any = None) -> None:
        self.registry = registry
        self.settings = settings
        self.wrap = wrap or (lambda port, name: port)
        self.medium = MemoryMedium()
        self.clock = VirtualClock()
        self.ids = CountedIds()
        self.payloads = JsonPayloads(validate_on_encode=False)
        self.replies: dict[str, AnyReply] = {}
        self.reports: list[str] = []
        self.requests = 0
        self.serves_tasks = True
        self.boot()

    # ---- life and death

    def boot(self) -> None:
        """Start the engine, on what the medium holds."""
        self.channel = Channel()
        self.tasks: deque[Task] = deque()
        self.steps: deque[Task] = deque()
        self.log = self.wrap(MemoryLog(self.channel, self.medium), "log")
        self.store = self.wrap(MemoryStore(self.medium), "store")
        self.channel.subscribe_replies("me", self._reply)
        self.channel.subscribe_tasks(self.tasks.extend, self._cancelled)
        self.attempts = Attempts(self.registry.activities, self.payloads, ThreadPoolExecutor(1), {})
        self.engine = Engine(
            self.log, self.store, self.clock, self.ids, self, self.registry.workflows, self.payloads, self.settings, self.reports.append
        )
        self.engine.open()

    def crash(self) -> None:
        """Lose everything but the medium, and start again."""
        self.boot()

    # ---- engine.ports.Steps: inline, so that a step always joins its batch

    def start(self, tasks: Sequence[Task]) -> None:
        self.channel.submit([self._run(task) for task in tasks])

    def cancel(self, run_id: str, number: int) -> None:
        pass

    # ---- moving

    def settle(self, limit: int = 10_000) -> None:
        """Let everything happen that can happen now, without time passing."""
        for _ in range(limit):
            moved = self.engine.run_batch(0)
            if self.tasks and self.serves_tasks:
                self.channel.submit([self._run(self.tasks.popleft())])
                moved = True
            if not moved:
                return
        raise AssertionError("it does not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self.clock.at + round(seconds * 1e6)
        self.settle()
        while (timers := self.medium.stored.timers(None, 1)) and timers[0].fires_at <= until:
            self.clock.at = max(self.clock.at, timers[0].fires_at)
            self.settle()
        self.clock.at = max(self.clock.at, until)
        self.settle()

    # ---- asking

    def ask(self, command_type: Any, workflow_id: str, /, **fields: Any) -> str:
        """Send a request; its id."""
        self.requests += 1
        request_id = fields.pop("request_id", f"request-{self.requests}")
        self.channel.submit([command_type(workflow_id, request_id=request_id, reply_to="me", **fields)])
        return request_id

    def start_workflow(self, workflow_id: str, type: str, *args: Any, **fields: Any) -> Any:
        """Start a run and let it go as far as it can now; the reply."""
        request_id = self.ask(cm.StartWorkflow, workflow_id, type=type, input=self.payloads.encode(list(args), what="input"), **fields)
        self.settle()
        return self.replies.get(request_id)

    def signal(self, workflow_id: str, name: str, *args: Any, **fields: Any) -> Any:
        request_id = self.ask(cm.SignalWorkflow, workflow_id, name=name, input=self.payloads.encode(list(args), what="input"), **fields)
        self.settle()
        return self.replies.get(request_id)

    # ---- looking

    def history(self, workflow_id: str) -> list[EventRecord]:
        state = self.medium.stored.states[workflow_id]
        return [record for record in self.medium.stored.events(state.run_id) if record.workflow_id == workflow_id]

    def events(self, workflow_id: str) -> list[Any]:
        return [event for record in self.history(workflow_id) for event in record.events]

    def names(self, workflow_id: str) -> list[str]:
        return [type(event).__name__ for event in self.events(workflow_id)]

    def state(self, workflow_id: str) -> Any:
        return self.medium.stored.states.get(workflow_id)

    def folded(self, workflow_id: str) -> RunState:
        return fold(self.history(workflow_id))

    def value(self, workflow_id: str) -> Any:
        return self.payloads.decode(self.state(workflow_id).result, Any, what="result")

    # ---- private

    def _run(self, task: Task) -> cm.AnyCommand:
        if not self.attempts.serves(task.name):
            return cm.DeclineActivity(task.workflow_id, task.run_id, number=task.number, token=task.token, reason="nobody knows it")
        return asyncio.run(self.attempts.run(task, lambda details: None))

    def _reply(self, replies: list[AnyReply]) -> None:
        for reply in replies:
            self.replies[reply.request_id] = reply

    def _cancelled(self, tokens: list[str]) -> None:
        self.tasks = deque(task for task in self.tasks if task.token not in tokens)


def seeded(seed: int) -> random.Random:
    """Dice for a test."""
    return random.Random(seed)
