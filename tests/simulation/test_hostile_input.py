"""Whatever authors and clients send: each mistake hits its own run or request, and the engine and
all others continue."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.errors import Failure
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.world import InFile, Medium, World

SURROGATE = "\ud800"
HUGE = 2**63 - 1
RAISED: list[Any] = [
    KeyboardInterrupt,
    SystemExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    RecursionError,
    MemoryError,
]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise KeyboardInterrupt


class Unmentionable(BaseException, metaclass=Nameless):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class FromBelow(BaseException):
    """A direct subclass, as no sensible code has it."""


RAISED.extend([Unspeakable, FromBelow])


class Raiser:
    """The exception that the workflow below raises, and its place."""

    where = ""
    what: type[BaseException] = ValueError


def perhaps(where: str) -> None:
    if Raiser.where == where:
        raise Raiser.what


@activity.defn
async def plain(value: Any) -> Any:
    perhaps("activity")
    return value


@activity.defn(
    timeout=timedelta.max, retry=activity.Retry(give_up_after=timedelta.max, maximum_interval=timedelta.max)
)
async def everlasting() -> str:
    if activity.info().attempt == 1:
        raise ConnectionError
    return "done"


@activity.defn
def in_thread(value: Any) -> Any:
    perhaps("thread")
    return value


@dataclass
class Box:
    """A user's type whose constructor may raise."""

    where: str

    def __post_init__(self) -> None:
        perhaps(self.where)


@workflow.defn
class Decoding:
    """Takes and gives values that raise while they are read."""

    def __init__(self, box: Box) -> None:
        self.boxes = [box]

    @workflow.run
    async def run(self, box: Box) -> str:
        self.boxes.append(await give("result"))
        await workflow.wait_until(lambda: len(self.boxes) > 2)
        return "over"

    @workflow.signal
    def put(self, box: Box) -> None:
        self.boxes.append(box)

    @workflow.query
    def count(self, box: Box) -> int:
        return len(self.boxes)


@activity.defn
async def give(where: str) -> Box:
    if Raiser.where == where:
        return {"where": where}  # type: ignore[return-value]  # raises where it is read, not here
    return Box(where)


@workflow.defn
class Background:
    """Raises in an unawaited task and in a callback."""

    @workflow.run
    async def run(self) -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(perhaps, "callback")
        await asyncio.sleep(1)
        task = asyncio.create_task(self.work())
        await asyncio.wait([task])
        return type(task.exception()).__name__

    async def work(self) -> None:
        perhaps("task")


class Sour(asyncio.Future[None]):
    """Waiting for it cannot be cancelled in peace."""

    def cancel(self, msg: Any = None) -> bool:
        perhaps("cancel")
        return super().cancel(msg)


@workflow.defn
async def sour() -> None:
    await Sour(loop=asyncio.get_running_loop())


@workflow.defn
class Hostile:
    def __init__(self) -> None:
        perhaps("init")
        self.is_over = False

    @workflow.run
    async def run(self) -> str:
        perhaps("run")
        await workflow.wait_until(self.is_met)
        await plain(1)
        await in_thread(1)
        return "over"

    def is_met(self) -> bool:
        perhaps("condition")
        return self.is_over

    @workflow.signal
    def end(self) -> None:
        perhaps("signal")
        self.is_over = True

    @workflow.query
    def question(self) -> str:
        perhaps("query")
        return "answer"

    @workflow.view
    def view(self) -> str:
        perhaps("view")
        return "seen"


@workflow.defn
async def long_lasting() -> None:
    await everlasting()


@workflow.defn
async def long_sleep() -> None:
    await workflow.sleep(timedelta.max)


@workflow.defn
async def odd_text(text: str) -> str:
    raise Failure(text)


@workflow.defn
async def odd_options() -> str:
    return str(await plain.options(summary=SURROGATE, idempotency_key=SURROGATE)(1))


REGISTRY = Registry.of(
    [Hostile, Decoding, Background, sour, long_lasting, long_sleep, odd_text, odd_options],
    [plain, in_thread, give, everlasting],
)


@pytest.fixture(autouse=True)
def _calm() -> Any:
    Raiser.where = ""
    yield
    Raiser.where = ""


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    medium: Medium | None = InFile(tmp_path / "hostile.db") if request.param == "file" else None
    world = World(REGISTRY, medium=medium, checks_fold=True)
    world.start_workflow("bystander", "Hostile")
    yield world
    Raiser.where = ""
    assert_others_go_on(world)
    world.close()


def assert_others_go_on(world: World) -> None:
    """The bystander, now and after a restart."""
    world.crash()
    world.signal("bystander", "end")
    assert world.state("bystander").status is Status.COMPLETED
    histories = {key: records for key, records in world.histories().items() if records}
    check_everything(histories, world.store_port, {}, world.payloads)


@pytest.mark.parametrize("what", RAISED, ids=lambda what: what.__name__)
@pytest.mark.parametrize("where", ["init", "run", "condition", "signal", "activity", "thread"])
def test_whatever_code_raises_fails_its_run(world: World, where: str, what: type[BaseException]) -> None:
    Raiser.where, Raiser.what = where, what
    assert isinstance(world.start_workflow("w", "Hostile"), Accepted)
    world.signal("w", "end")
    world.advance(0)
    if where in {"activity", "thread"} and issubclass(what, Exception):
        assert world.state("w").status is Status.RUNNING, "it is retried"
        assert "ActivityAttemptFailed" in world.names("w"), "at once, not when its time is up"
    elif where in {"activity", "thread"} or (where, what) == ("signal", asyncio.CancelledError):
        assert world.state("w").status in {Status.FAILED, Status.RUNNING}, "somebody may have cancelled it"
    else:
        assert world.state("w").status is Status.FAILED
    assert not [report for report in world.reports if "bug" in report]


@pytest.mark.parametrize("what", RAISED, ids=lambda what: what.__name__)
def test_any_exception_of_a_view_is_shown_and_the_run_continues(
    world: World, what: type[BaseException]
) -> None:
    Raiser.where, Raiser.what = "view", what
    world.start_workflow("w", "Hostile")
    assert what.__name__ in world.state("w").reason
    Raiser.where = ""
    world.signal("w", "end")
    assert world.state("w").status is Status.COMPLETED
    assert not world.reports


@pytest.mark.parametrize("what", RAISED, ids=lambda what: what.__name__)
def test_whatever_a_query_raises_is_answered(world: World, what: type[BaseException]) -> None:
    world.start_workflow("w", "Hostile")
    Raiser.where, Raiser.what = "query", what
    request_id = world.ask(cm.QueryWorkflow, "w", name="question")
    world.settle()
    assert request_id in world.replies
    Raiser.where = ""
    assert not world.reports


@pytest.mark.parametrize(
    "what", [*RAISED, Unmentionable], ids=lambda what: type.__dict__["__name__"].__get__(what)
)
@pytest.mark.parametrize("where", ["argument", "signalled", "asked", "result"])
def test_whatever_is_raised_while_a_value_is_read_hits_the_one_who_sent_it(
    world: World, where: str, what: type[BaseException]
) -> None:
    Raiser.where, Raiser.what = where, what
    started = world.start_workflow("w", "Decoding", {"where": "argument"})
    if where == "argument":
        assert isinstance(started, Refused)
        return
    assert isinstance(started, Accepted)
    if where == "result":
        assert world.state("w").status in {Status.FAILED, Status.SUSPENDED}, (
            "suspended, if it says that it is no such value"
        )
        return
    if where == "signalled":
        assert isinstance(world.signal("w", "put", {"where": where}), Refused)
    else:
        request_id = world.ask(cm.QueryWorkflow, "w", name="count", input=world.encoded([{"where": where}]))
        world.settle()
        assert request_id in world.replies
    assert world.state("w").status is Status.RUNNING
    assert not [report for report in world.reports if "bug" in report]


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_an_unawaited_callback_ends_its_run(world: World, what: type[BaseException]) -> None:
    Raiser.where, Raiser.what = "callback", what
    world.start_workflow("w", "Background")
    assert world.state("w").status is Status.FAILED
    assert world.state("w").failure.type == f"builtins:{what.__name__}"
    Raiser.where = "task"
    world.start_workflow("v", "Background")
    world.advance(1)
    assert world.value("v") == what.__name__, "a task holds what it raised, for the one who looks"


@pytest.mark.parametrize("what", RAISED, ids=lambda what: what.__name__)
def test_what_escapes_where_no_code_can_catch_it_suspends_its_run(
    world: World, what: type[BaseException]
) -> None:
    world.start_workflow("w", "sour")
    Raiser.where, Raiser.what = "cancel", what
    request_id = world.ask(cm.CancelWorkflow, "w")
    world.settle()
    assert isinstance(world.replies[request_id], Accepted)
    assert world.state("w").status is Status.SUSPENDED
    assert what.__name__ in world.state("w").reason


@pytest.mark.parametrize(
    "fields", [{"delay_us": HUGE}, {"timeout_us": HUGE}, {"delay_us": -HUGE}, {"timeout_us": -1}], ids=str
)
def test_a_start_with_impossible_times_is_refused(world: World, fields: dict[str, int]) -> None:
    reply = world.start_workflow("w", "Hostile", **fields)
    assert isinstance(reply, Refused)
    assert reply.code == "bad_input"


@pytest.mark.parametrize("type", ["long_lasting", "long_sleep"])
def test_workflow_code_may_wait_for_ever(world: World, type: str) -> None:
    assert isinstance(world.start_workflow("w", type), Accepted)
    assert world.state("w").status is Status.RUNNING
    assert not world.reports


def test_a_report_may_ask_for_a_very_long_delay(world: World) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Hostile")
    world.signal("w", "end")
    (task,) = [task for task in world.store_port.tasks() if task.workflow_id == "w"]
    failure = FailureInfo("builtins:OSError", retry_after_us=HUGE)
    world.log.submit([cm.FailActivity("w", number=1, token=task.token, failure=failure)])
    world.settle()
    assert world.state("w").status is Status.RUNNING
    assert not world.reports
    world.serves_tasks = True


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (cm.CancelWorkflow, {"reason": SURROGATE}),
        (cm.TerminateWorkflow, {"reason": SURROGATE}),
        (cm.SignalWorkflow, {"name": SURROGATE}),
        (cm.SignalWorkflow, {"name": "end", "request_id": SURROGATE}),
        (cm.QueryWorkflow, {"name": SURROGATE}),
    ],
    ids=str,
)
def test_text_that_is_no_unicode_is_refused(world: World, kind: Any, fields: dict[str, Any]) -> None:
    world.start_workflow("w", "Hostile")
    request_id = world.ask(kind, "w", **fields)
    world.settle()
    assert isinstance(world.replies[request_id], Refused)
    world.crash()
    assert world.state("w").status is Status.RUNNING


def test_a_workflow_type_that_is_no_unicode_is_unknown(world: World) -> None:
    assert isinstance(world.start_workflow("w", SURROGATE), Refused)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 50_000,
        b"[1e999]",
        b'["' + SURROGATE.encode("utf-8", "surrogatepass") + b'"]',
    ],
)
def test_arguments_that_are_no_json_are_refused(world: World, payload: bytes) -> None:
    request_id = world.ask(cm.StartWorkflow, "w", type="odd_text", input=payload)
    world.settle()
    reply = world.replies[request_id]
    assert isinstance(reply, Refused)
    assert reply.code == "bad_input"
    assert not world.reports


def test_options_that_are_not_unicode_are_a_usage_error(world: World) -> None:
    world.start_workflow("w", "odd_options")
    assert world.state("w").status is Status.SUSPENDED
    assert "not valid Unicode" in world.state("w").reason


def test_hostile_reports_of_a_worker_are_harmless(world: World) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Hostile")
    world.signal("w", "end")
    (task,) = [task for task in world.store_port.tasks() if task.workflow_id == "w"]
    where: dict[str, Any] = {"number": 1, "token": task.token}
    for command in (
        cm.DeclineActivity("w", reason=SURROGATE, **where),
        cm.StartActivity("w", worker=SURROGATE, **where),
        cm.HeartbeatActivity("w", details=b"\xff", **where),
        cm.CompleteActivity("w", result=b"{", number=-1, token=""),
        cm.CompleteActivity("w", result=b"{", **where),
    ):
        world.log.submit([command])
        world.settle()
    assert world.state("w").status is not Status.COMPLETED
    world.serves_tasks = True
    world.settle()


def test_python_is_new_enough_for_these_tests() -> None:
    assert sys.version_info >= (3, 11)
