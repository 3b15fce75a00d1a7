"""A run's loop with a driver's hands: outcomes are put in place one by one, actions are looked
at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

from perdure.model.options import ActivityOptions
from perdure.replay import eviction
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

if TYPE_CHECKING:
    from perdure.model.actions import AnyAction

NOW: Final = 1_700_000_000_123_457
SECOND: Final = 1_000_000
OPTIONS: Final = ActivityOptions()


class ReprPayloads:
    def encode_arguments(self, fn: object, args: tuple[Any, ...], kwargs: object, *, what: str) -> bytes:
        if "unencodable" in args:
            raise ValueError(what)
        return repr(args).encode()


class Driven:
    """One run, and what it logged."""

    def __init__(self, run_id: str = "run", seed: int = 7) -> None:
        payloads: Any = ReprPayloads()
        info: Any = lambda: "the info"
        self.logged: list[dict[str, Any]] = []
        self.loop = RunLoop(run_id, self.logged.append)
        self.runtime = RunRuntime(self.loop, seed, payloads, info)
        self.loop.now = NOW

    def begin(self, program: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Start the program and let it run as far as it can; its task."""
        task = self.loop.create_task(program())
        self.loop.run()
        return task

    def act(self, name: str = "charge", *args: object) -> Any:
        """For programs: schedule an activity."""
        activity: Any = SimpleNamespace(name=name, fn=len)
        return self.runtime.schedule_activity(activity, args, {}, OPTIONS)

    def wanted(self) -> list[AnyAction]:
        """The actions since the last look."""
        return self.loop.actions.take()

    def resolve(self, number: int, value: object = "done") -> bool:
        """An activity has completed; an activation."""
        awaited = self.runtime.resolve_activity(number, value)
        self.loop.run()
        return awaited

    def reject(self, number: int, error: BaseException) -> bool:
        """An activity has failed; an activation."""
        awaited = self.runtime.reject_activity(number, error)
        self.loop.run()
        return awaited

    def fire(self, number: int, after_us: int = 0) -> bool:
        """A timer has fired; an activation."""
        self.loop.now += after_us
        awaited = self.loop.fire_timer(number)
        self.loop.run()
        return awaited


@pytest.fixture(autouse=True, scope="session")
def async_generator_hooks() -> None:
    """As in an engine's thread."""
    eviction.install_hooks()


@pytest.fixture
def driven() -> Driven:
    """A run that has not begun."""
    return Driven()


@pytest.fixture
def new_run() -> Callable[..., Driven]:
    """For tests with more than one run."""
    return Driven
