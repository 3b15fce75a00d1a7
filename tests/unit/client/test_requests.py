"""What callers ask for is what the platform is asked: every option, of the run that the handle is
of; and what they get of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from perdure import errors, workflow
from perdure.client import Client
from perdure.client.description import describe, moment, run_of
from perdure.client.listing import ListQuery
from perdure.client.position import Position
from perdure.client.waits import NO_ENGINE, waits_for
from perdure.codec.paging import page_from
from perdure.codec.payloads import JsonPayloads
from perdure.errors import (
    Cancelled,
    EngineUnavailable,
    Failure,
    QueryFailed,
    ReadLags,
    RequestRefused,
    Terminated,
    TimedOut,
    WorkflowAlreadyStarted,
    WorkflowFailed,
    WorkflowNotFound,
)
from perdure.model import commands as cm
from perdure.model.events import ActivityScheduled
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions
from perdure.model.replies import Accepted, Answered, AskAgain, Closed, History, QueryRaised, Refused
from perdure.model.states import Status, Wait, WorkflowState
from tests.contract.samples import record

MOMENT = datetime(2039, 5, 17, 13, 7, 11, 123_457, tzinfo=UTC)


def at(number: int) -> datetime:
    """A moment whose microseconds no float of seconds holds exactly."""
    return MOMENT + timedelta(days=number, microseconds=number)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@workflow.defn
class Parcel:
    @workflow.run
    async def main(self, street: str) -> int:
        raise NotImplementedError

    @workflow.signal
    def weigh(self, grams: int) -> None: ...

    @workflow.query
    def is_heavier(self, grams: int) -> bool:
        raise NotImplementedError

    @workflow.view
    def shown(self) -> int:
        raise NotImplementedError


class Platform:
    """A transport and its reader: answers as a test says, and remembers what it was asked.

    Args:
        answers: to requests, in order; `Accepted` when there are no more.
        states: what the reader says of the workflow, one after the other; the last one stays.
        reached: how far the reader is.
    """

    def __init__(
        self,
        *answers: Any,
        states: list[WorkflowState | None] | None = None,
        reached: int = 0,
        is_reader_near: bool = False,
    ) -> None:
        self.answers = list(answers)
        self.states = states or [None]
        self.reached = reached
        self.is_reader_near = is_reader_near
        self.asked: list[Any] = []
        self.timeouts: list[float] = []
        self.queries: list[Any] = []
        self.positions: list[tuple[Position, float]] = []

    # ---- a transport

    @property
    def reader(self) -> Any:
        return self

    async def read(self, question: Callable[[Any], Any]) -> Any:
        return question(self)

    async def request(self, command: Any, timeout_s: float) -> Any:
        self.asked.append(command)
        self.timeouts.append(timeout_s)
        return self.answers.pop(0) if self.answers else Accepted(command.request_id, "run-1")

    # ---- a reader

    def state(self, workflow_id: str) -> WorkflowState | None:
        assert workflow_id == "p-1"
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def list(self, query: ListQuery) -> list[WorkflowState]:
        self.queries.append(query)
        return []

    def counts(self, query: ListQuery) -> dict[tuple[str, str], int]:
        self.queries.append(query)
        return {}

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        self.positions.append((position, timeout_s))
        return position.offset <= self.reached


def state(
    status: Status = Status.RUNNING, run_id: str = "run-1", view: bytes = b"", **fields: Any
) -> WorkflowState:
    return WorkflowState(
        "p-1", run_id, "Parcel", status, 10, 20, 20 if status.is_closed else 0, 2, view, **fields
    )


def client_of(platform: Platform) -> Client:
    transport: Any = platform
    return Client(transport, payloads=JsonPayloads())


def run(program: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(program)


def one_of(platform: Platform) -> Any:
    (command,) = platform.asked
    return command


# ---- starts


def test_a_start_asks_for_all_that_its_options_say() -> None:
    platform = Platform()
    client = client_of(platform).options(
        if_running="attach",
        if_closed="after_failure",
        delay="2s",
        timeout="3h",
        attributes={"city": "Bari"},
        request_id="r-1",
    )
    handle = run(client.start("p-1", Parcel.main, "Via Sparano"))
    assert one_of(platform) == cm.StartWorkflow(
        "p-1",
        request_id="r-1",
        type="Parcel",
        input=b'["Via Sparano"]',
        if_running="attach",
        if_closed="after_failure",
        delay_us=2_000_000,
        timeout_us=3 * 3_600_000_000,
        attributes=b'{"city":"Bari"}',
    )
    assert (handle.id, handle.run_id) == ("p-1", "run-1")


def test_a_start_at_a_time_carries_that_time() -> None:
    platform = Platform()
    at = datetime(2030, 1, 1, 9, tzinfo=timezone(timedelta(hours=1)))
    run(client_of(platform).options(start_at=at).start("p-1", Parcel.main, "Via Sparano"))
    assert one_of(platform).start_at == 1_893_484_800_000_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start_at": datetime(2030, 1, 1)}, "has no time zone"),
        ({"start_at": "2030-01-01"}, "must be a datetime"),
        ({"start_at": datetime.now(UTC), "delay": "1s"}, "not both"),
    ],
)
def test_a_start_time_that_means_nothing_is_refused(options: Any, said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        client_of(Platform()).options(**options)


def test_a_signal_that_starts_asks_for_the_same() -> None:
    platform = Platform()
    client = client_of(platform).options(
        if_closed="refuse", delay="2s", timeout="3s", attributes={"a": 1}, request_id="r-1"
    )
    run(client.with_start("p-1", Parcel.main, "Via Sparano").signal(Parcel.weigh, 7))
    assert one_of(platform) == cm.StartWorkflow(
        "p-1",
        request_id="r-1",
        type="Parcel",
        input=b'["Via Sparano"]',
        if_running="attach",
        if_closed="refuse",
        delay_us=2_000_000,
        timeout_us=3_000_000,
        attributes=b'{"a":1}',
        signal_name="weigh",
        signal_input=b"[7]",
    )


def test_without_options_a_start_refuses_an_open_run_follows_a_closed_one_and_is_a_request_of_its_own() -> (
    None
):
    platform = Platform()
    for _ in range(2):
        run(client_of(platform).start_by_name("p-1", "Parcel", ["Via Sparano"]))
    first, second = platform.asked
    assert (first.if_running, first.if_closed, first.delay_us, first.timeout_us) == ("refuse", "start", 0, 0)
    assert (first.type, first.input, first.attributes) == ("Parcel", b'["Via Sparano"]', b"")
    assert first.request_id != second.request_id


# ---- one run, or the current one


ASK: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "signal": lambda handle: handle.signal(Parcel.weigh, 7),
    "signal_by_name": lambda handle: handle.signal_by_name("weigh", [7]),
    "query": lambda handle: handle.query(Parcel.is_heavier, 7),
    "query_by_name": lambda handle: handle.query_by_name("is_heavier", [7]),
    "cancel": lambda handle: handle.cancel("too heavy"),
    "terminate": lambda handle: handle.terminate("too heavy"),
    "pause": lambda handle: handle.pause("look", by="ann"),
    "unpause": lambda handle: handle.unpause("go", by="ann"),
    "retry": lambda handle: handle.activity(3).retry(
        "up again", by="ann", timeout="2s", maximum_attempts=4, queue="q"
    ),
    "complete": lambda handle: handle.activity(3).complete(7, reason="by phone", by="ann"),
    "fail": lambda handle: handle.activity(3).fail("lost", reason="it is", by="ann"),
    "result": lambda handle: handle.result(),
}
ANSWERS: dict[str, Any] = {
    "query": Answered("", b"true"),
    "query_by_name": Answered("", b"true"),
    "result": Closed("", "run-7", Status.COMPLETED, b"3"),
}
WANTED: dict[str, dict[str, Any]] = {
    "signal": {"name": "weigh", "input": b"[7]"},
    "signal_by_name": {"name": "weigh", "input": b"[7]"},
    "query": {"name": "is_heavier", "input": b"[7]"},
    "query_by_name": {"name": "is_heavier", "input": b"[7]"},
    "cancel": {"reason": "too heavy"},
    "terminate": {"reason": "too heavy"},
    "pause": {"reason": "look", "by": "ann"},
    "unpause": {"reason": "go", "by": "ann"},
    "retry": {
        "number": 3,
        "reason": "up again",
        "by": "ann",
        "timeout_us": 2_000_000,
        "maximum_attempts": 4,
        "queue": "q",
    },
    "complete": {"number": 3, "value": b"7", "reason": "by phone", "by": "ann"},
    "fail": {"number": 3, "reason": "it is", "by": "ann"},
    "result": {},
}


@pytest.mark.parametrize("what", ASK)
@pytest.mark.parametrize("run_id", ["run-7", ""])
def test_a_handle_asks_about_its_own_run_or_about_the_current_one(what: str, run_id: str) -> None:
    platform = Platform(
        *([Accepted("", "run-7")] if run_id else []), ANSWERS.get(what, Accepted("", "run-7"))
    )
    client = client_of(platform)

    async def program() -> Any:
        handle = (
            await client.start("p-1", Parcel.main, "Via Sparano")
            if run_id
            else client.get("p-1", Parcel.main)
        )
        return await ASK[what](handle)

    answer = run(program())
    command = platform.asked[-1]
    assert (command.workflow_id, command.run_id) == ("p-1", run_id)
    assert {name: getattr(command, name) for name in WANTED[what]} == WANTED[what]
    assert command.request_id
    assert answer == {"query": True, "query_by_name": True, "result": 3}.get(what)


# ---- results


def test_a_waiting_result_request_is_repeated_when_the_engine_releases_the_run() -> None:
    platform = Platform(AskAgain(""), AskAgain(""), Closed("", "run-1", Status.COMPLETED, b"3"))
    assert run(client_of(platform).get("p-1", Parcel.main).result()) == 3
    assert len({command.request_id for command in platform.asked}) == 3


ENDS: list[tuple[Closed, type[BaseException], str]] = [
    (Closed("", "run-1", Status.CANCELLED, reason="too heavy"), Cancelled, "cancelled: too heavy"),
    (Closed("", "run-1", Status.CANCELLED), Cancelled, "cancelled: cancelled"),
    (Closed("", "run-1", Status.TERMINATED, reason="too heavy"), Terminated, "terminated: too heavy"),
    (Closed("", "run-1", Status.TIMED_OUT), TimedOut, "timed out: the run's timeout expired"),
    (
        Closed("", "run-1", Status.FAILED, failure=FailureInfo("perdure.errors:Failure", "no street")),
        Failure,
        "failed: Failure: no street",
    ),
]


@pytest.mark.parametrize(("closed", "cause", "said"), ENDS)
def test_a_run_that_ended_without_a_result_says_how_and_why(
    closed: Closed, cause: type[BaseException], said: str
) -> None:
    with pytest.raises(WorkflowFailed, match=f"workflow 'p-1' {said}$") as caught:
        run(client_of(Platform(closed)).get("p-1", Parcel.main).result())
    assert type(caught.value.cause) is cause
    assert str(caught.value.cause) in said


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("already_started", WorkflowAlreadyStarted),
        ("not_found", WorkflowNotFound),
        ("closed", WorkflowNotFound),
        ("unknown_type", RequestRefused),
        ("unknown_name", RequestRefused),
        ("bad_input", RequestRefused),
        ("limit", RequestRefused),
    ],
)
def test_a_refusal_is_raised_as_what_it_is(code: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="not today") as caught:
        run(
            client_of(Platform(Refused("", code, "not today")))
            .get("p-1", Parcel.main)
            .signal(Parcel.weigh, 7)
        )
    assert type(caught.value) is error


@pytest.mark.parametrize("code", ["bad_input", "suspended"])
def test_a_query_that_cannot_be_answered_has_failed(code: Any) -> None:
    with pytest.raises(QueryFailed, match="not today"):
        run(
            client_of(Platform(Refused("", code, "not today")))
            .get("p-1", Parcel.main)
            .query(Parcel.is_heavier, 7)
        )


def test_a_query_that_raised_has_the_users_exception_as_its_cause() -> None:
    raised = QueryRaised("", FailureInfo("builtins:KeyError", "'scales'", b'["scales"]'))
    with pytest.raises(QueryFailed, match="query 'is_heavier' raised KeyError: 'scales'") as caught:
        run(client_of(Platform(raised)).get("p-1", Parcel.main).query(Parcel.is_heavier, 7))
    assert repr(caught.value.__cause__) == "KeyError('scales')"


def test_a_near_readers_end_counts_only_for_the_run_of_the_handle() -> None:
    later = state(Status.COMPLETED, run_id="run-2", result=b"5")
    platform = Platform(
        Accepted("", "run-1"),
        Closed("", "run-1", Status.COMPLETED, b"3"),
        states=[later],
        is_reader_near=True,
    )
    client = client_of(platform)

    async def program() -> tuple[int, int]:
        handle = await client.start("p-1", Parcel.main, "Via Sparano")
        return await handle.result(), await client.get("p-1", Parcel.main).result()

    assert run(program()) == (3, 5)
    assert len(platform.asked) == 2, "of the current run the reader knows"


# ---- reads


def test_a_list_is_asked_for_with_every_filter() -> None:
    platform = Platform()
    last = state()
    run(
        client_of(platform).list(
            type=["Parcel", "Letter"],
            status=Status.FAILED,
            id_prefix="p-",
            started_after=at(1),
            started_before=at(2),
            closed_after=at(3),
            closed_before=at(4),
            updated_after=at(5),
            updated_before=at(6),
            attributes={"city": "Bari", "express": True},
            sort="updated_at",
            order="oldest",
            limit=7,
            after=last,
        )
    )
    assert platform.queries == [
        ListQuery(
            types=("Parcel", "Letter"),
            statuses=("failed",),
            id_prefix="p-",
            started_after=microseconds(at(1)),
            started_before=microseconds(at(2)),
            closed_after=microseconds(at(3)),
            closed_before=microseconds(at(4)),
            updated_after=microseconds(at(5)),
            updated_before=microseconds(at(6)),
            attributes=(("city", "Bari"), ("express", True)),
            sort="updated_at",
            order="oldest",
            limit=7,
            after=(last.updated_at, "p-1"),
        )
    ]


def test_moments_are_asked_for_to_the_microsecond() -> None:
    platform = Platform()
    for number in range(100):
        run(client_of(platform).list(started_after=at(number)))
    assert [query.started_after for query in platform.queries] == [
        microseconds(at(number)) for number in range(100)
    ]


def test_without_filters_a_list_is_the_hundred_newest() -> None:
    platform = Platform()
    run(client_of(platform).list())
    assert platform.queries == [ListQuery(sort="started_at", order="newest", limit=100)]


def test_counts_are_of_the_types_and_statuses_asked_for() -> None:
    platform = Platform()
    run(client_of(platform).counts(type="Parcel", status=["failed", Status.RUNNING]))
    assert platform.queries == [ListQuery(types=("Parcel",), statuses=("failed", "running"))]


READS: dict[str, Callable[[Client, Any], Coroutine[Any, Any, Any]]] = {
    "state": lambda client, after: client.state("p-1", after=after, within="2s"),
    "view": lambda client, after: client.get("p-1", Parcel.main).view(Parcel.shown, after=after, within="2s"),
}


@pytest.mark.parametrize("what", READS)
def test_what_is_read_after_a_position_waits_for_it(what: str) -> None:
    platform = Platform(states=[state(view=b"7")], reached=5)
    run(READS[what](client_of(platform), "0-5"))
    run(READS[what](client_of(platform), None))
    assert platform.positions == [(Position(0, 5), 2.0)]
    with pytest.raises(ReadLags):
        run(READS[what](client_of(platform), Position(0, 6)))


def test_a_watched_view_is_given_once_a_change_and_the_last_one_though_the_run_has_closed() -> None:
    states = [state(view=b"10"), state(view=b"10"), state(view=b"20"), state(Status.COMPLETED, view=b"30")]

    async def program() -> list[int]:
        return [
            view
            async for view in client_of(Platform(states=[*states]))
            .get("p-1", Parcel.main)
            .watch(Parcel.shown)
        ]

    assert run(program()) == [10, 20, 30]


def test_a_view_that_is_not_there_says_why() -> None:
    with pytest.raises(WorkflowNotFound, match="has no view yet: it is broken"):
        run(
            client_of(Platform(states=[state(reason="it is broken")]))
            .get("p-1", Parcel.main)
            .view(Parcel.shown)
        )
    with pytest.raises(WorkflowNotFound, match="no workflow has the id 'p-1'"):
        run(client_of(Platform()).get("p-1", Parcel.main).view(Parcel.shown))


def test_a_description_says_why_a_run_waits_and_which_timer_fires_next() -> None:
    waits = (Wait("timer", "", 1, due_at=50), Wait("timer", "", 2, due_at=40))
    found = describe(state(Status.SUSPENDED, reason="it diverged", waits=waits), None, 7, {"city": "Bari"})
    assert (found.reason, found.view, found.attributes, found.closed_at) == (
        "it diverged",
        7,
        {"city": "Bari"},
        None,
    )
    assert [(timer.number, timer.fires_at) for timer in found.timers] == [(2, moment(40)), (1, moment(50))]


def test_a_description_of_a_closed_run_says_when_it_ended_and_of_what() -> None:
    found = describe(
        state(Status.FAILED, failure=FailureInfo("builtins:KeyError", "no oven")), None, None, {}
    )
    assert (found.reason, found.started_at, found.closed_at) == ("KeyError: no oven", moment(10), moment(20))


def test_a_description_has_the_activities_of_every_page_of_the_history() -> None:
    scheduled = [
        ActivityScheduled(number, name, b"[]", ActivityOptions(), "t")
        for number, name in ((1, "weigh"), (2, "seal"))
    ]
    records = [record(), *(record("run-1", 3 + number, each) for number, each in enumerate(scheduled))]

    class Paged:
        def history(self, workflow_id: str, run_id: str, from_event_id: int) -> History:
            assert (workflow_id, run_id) == ("p-1", "run-1")
            return page_from(records, from_event_id, 1)

    reader: Any = Paged()
    shown = state(waits=(Wait("activity", "weigh", 1),))
    found = describe(shown, run_of(shown, reader), None, {})
    assert [each.name for each in found.activities] == ["weigh", "seal"]


@pytest.mark.parametrize(("run_id", "is_ended"), [("", True), ("run-2", True), ("run-1", False)])
def test_who_waits_for_another_run_than_the_one_that_closed_learns_that_no_engine_answers(
    run_id: str, is_ended: bool
) -> None:
    """Only an engine knows how the other one ended."""

    class Unserved(Platform):
        async def request(self, command: Any, timeout_s: float) -> Any:
            raise EngineUnavailable("start one")

    transport: Any = Unserved(states=[state(Status.COMPLETED, "run-2")])
    assert run(waits_for(transport, "p-1", run_id)) == ("" if is_ended else f"{NO_ENGINE}start one")
