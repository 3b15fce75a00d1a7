"""What is sent to the engine for a request, field by field, and what its answers become; without an
engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from starlette.datastructures import QueryParams

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.api import limits
from perdure.api.app import create_app
from perdure.api.audit import AuditLog
from perdure.api.auth.rates import RateLimit
from perdure.api.auth.security import Unsecured
from perdure.api.backend import Backend
from perdure.api.json_views import letter, outline, payload, state
from perdure.api.parameters import list_query, timeout_s, whole
from perdure.api.problems import Problem
from perdure.api.request_locks import RequestLocks
from perdure.client.position import Position
from perdure.errors import EngineUnavailable, ReadLags
from perdure.model.commands import (
    CancelWorkflow,
    QueryWorkflow,
    SignalWorkflow,
    StartWorkflow,
    TerminateWorkflow,
)
from perdure.model.dead_letters import DeadLetter
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Answered, Refused
from perdure.model.states import Status, Wait, WorkflowState
from perdure.ports.dead_letters import LetterPage, OpenLetter

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDED = WorkflowState("p-1", "r-2", "Parcel", Status.COMPLETED, 1, 5, 5, 9, result=b'"home"')


class Engine:
    """Takes commands down, and answers each with the same."""

    is_reader_near = True

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self.found: WorkflowState | None = None

    @property
    def reader(self) -> Any:
        return self

    def state(self, workflow_id: str) -> WorkflowState | None:
        return self.found

    async def position(self, workflow_id: str) -> Position:
        return Position(3, 1042)

    async def request(self, command: Any, timeout_s: float) -> Any:
        self.asked.append(command)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        pass


class Feed:
    """That tells nothing."""

    def __init__(self, positions: Sequence[Position] = ()) -> None:
        self._positions = list(positions)

    def start(self, listener: Any) -> None:
        pass

    async def begun(self) -> None:
        pass

    async def positions(self) -> list[Position]:
        return self._positions

    async def close(self) -> None:
        pass


class Tables:
    """A reader that has reached some positions, later than others."""

    def __init__(self, *reached: Position, looks: int = 0) -> None:
        self.reached = reached
        self.looks = looks
        self.is_closed = False

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        self.looks -= 1
        return self.looks < 0 and position in self.reached

    def close(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def api(engine: Engine, audit: AuditLog | None = None) -> AsyncGenerator[httpx.AsyncClient]:
    app = create_app(Backend("shop", engine, Feed()), Unsecured(), audit)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    http = httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1")
    async with app._app.router.lifespan_context(app._app), http:
        yield http


def run(answer: Any, test: Callable[[httpx.AsyncClient, Engine], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = Engine(answer)
        async with asyncio.timeout(60), api(engine) as http:
            await test(http, engine)

    asyncio.run(main())


def test_every_field_of_a_start_arrives() -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        options = {
            "if_running": "attach", "if_closed": "after_failure", "delay": "2s", "timeout": "1h",
            "attributes": {"tenant": "a"}, "memo": {"__proto__": None, "": [1]},
        }  # fmt: skip
        signal = {"name": "move", "args": ["van"]}
        body = {"type": "Parcel", "id": "p-1", "args": ["box"], "options": options, "signal": signal}
        answer = await http.post("/workflows", json=body, headers={"traceparent": TRACE})
        assert answer.status_code == 201
        assert answer.headers["perdure-position"] == answer.json()["position"] == "3-1042"
        (sent,) = engine.asked
        assert sent == StartWorkflow(
            "p-1", "", sent.request_id, type="Parcel", input=b'["box"]', if_running="attach",
            if_closed="after_failure",
            delay_us=2_000_000, timeout_us=3_600_000_000, attributes=b'{"tenant":"a"}', trace=TRACE,
            memo=b'{"__proto__":null,"":[1]}', signal_name="move",
            signal_input=b'["van"]',
        )  # fmt: skip

    run(Accepted("r", "run-1"), test)


def test_a_request_for_a_run_is_for_that_run_only() -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        run_id = {"run_id": "run-7"}
        headers = {"traceparent": TRACE}
        assert (
            await http.post("/workflows/p-1/signals/move", json={"args": [1], **run_id}, headers=headers)
        ).status_code == 202
        assert (
            await http.post("/workflows/p-1/cancel", json={"reason": "late", **run_id})
        ).status_code == 202
        assert (
            await http.post("/workflows/p-1/terminate", json={"reason": "lost", **run_id})
        ).status_code == 202
        engine.answer = Answered("r", b'"van"')
        answer = await http.post("/workflows/p-1/queries/where", json={"args": [2], **run_id})
        assert answer.json() == {"result": "van"}
        ids = [each.request_id for each in engine.asked]
        assert len(set(ids)) == 4
        assert engine.asked == [
            SignalWorkflow("p-1", "run-7", ids[0], name="move", input=b"[1]", trace=TRACE),
            CancelWorkflow("p-1", "run-7", ids[1], reason="late"),
            TerminateWorkflow("p-1", "run-7", ids[2], reason="lost"),
            QueryWorkflow("p-1", "run-7", ids[3], name="where", input=b"[2]"),
        ]

    run(Accepted("r", "run-7"), test)


def test_a_start_that_attached_is_answered_200_and_a_refusal_names_the_run() -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        answer = await http.post("/workflows", json={"type": "Parcel", "id": "p-1"})
        assert (answer.status_code, answer.json()["is_new"]) == (200, False)
        engine.answer = Refused("r", "already_started", "it runs", "run-3")
        answer = await http.post("/workflows", json={"type": "Parcel", "id": "p-1"})
        assert (answer.status_code, answer.json()["run_id"]) == (409, "run-3")

    run(Accepted("r", "run-1", is_new=False), test)


@pytest.mark.parametrize(("run_id", "status"), [("", 200), ("r-2", 200), ("r-1", 204)])
def test_without_an_engine_the_result_that_is_kept_is_that_of_the_last_run(run_id: str, status: int) -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        engine.found = ENDED
        answer = await http.get("/workflows/p-1/result", params={"run_id": run_id})
        assert answer.status_code == status, answer.text
        if status == 200:
            assert (answer.json()["run_id"], answer.json()["result"]) == ("r-2", "home")
        engine.found = replace(ENDED, status=Status.RUNNING, closed_at=0)
        assert (await http.get("/workflows/p-1/result")).status_code == 204
        engine.found = None
        assert (await http.get("/workflows/p-1/result")).status_code == 404

    run(EngineUnavailable("nobody answers"), test)


def test_a_key_is_decoded_and_is_the_same_however_it_was_encoded() -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        for path, key in [
            ("p-1/signals/move", "a b"), ("p-1/signals/move", "a%20b"), ("p-1/signals/move", "a%2520b"),
            ("p-1/cancel", "a b"),
        ]:  # fmt: skip
            assert (
                await http.post(f"/workflows/{path}", headers={"Idempotency-Key": key})
            ).status_code == 202
        first, encoded, other, of_another_operation = [each.request_id for each in engine.asked]
        assert first == encoded
        assert len({first, other, of_another_operation}) == 3

    run(Accepted("r", "run-1"), test)


def test_a_body_without_a_length_is_limited_like_any_other() -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        async def body(size: int) -> AsyncGenerator[bytes]:
            # the spaces that follow are no part of the arguments, whose limit is a smaller one
            start = b'{"args":[]'
            end = b"}"
            yield start
            for _ in range(3):
                yield b" " * ((size - len(start) - len(end)) // 3)
            yield b" " * ((size - len(start) - len(end)) % 3)
            yield end

        headers = {"content-type": "application/json"}
        for size, status in ((limits.BODY_BYTES, 202), (limits.BODY_BYTES + 1, 413)):
            answer = await http.post("/workflows/p-1/signals/move", content=body(size), headers=headers)
            assert answer.status_code == status, answer.text

    run(Accepted("r", "run-1"), test)


def test_the_audit_trail_is_read_page_by_page_and_has_the_command_of_each_entry() -> None:
    async def main() -> None:
        engine = Engine(Accepted("r", "run-1"))
        async with api(engine, AuditLog(MemoryAuditTrail())) as http:
            for number in range(5):
                await http.post(f"/workflows/p-{number}/cancel")
            await http.post(f"/workflows/{'x' * 600}/cancel")
            numbers: list[int] = []
            entries: list[Any] = []
            before: str | None = ""
            while before is not None:
                page = (await http.get("/audit", params={"limit": 2, "before": before})).json()
                assert len(page["entries"]) <= 2
                assert len(entries) <= 6, "there is no further page"
                entries += page["entries"]
                before = page["next"]
            numbers = [each["number"] for each in entries]
            assert numbers == sorted(set(numbers), reverse=True), "latest first, each once"
            assert [each["target"] for each in entries] == ["x" * 500, "p-4", "p-3", "p-2", "p-1", "p-0"]
            assert [each["request_id"] for each in entries[::-1]][:5] == [
                each.request_id for each in engine.asked
            ][:5]
            assert entries[0]["status"] == 422
            assert entries[0]["outcome"] == "refused"
            engine.answer = RuntimeError("a fault of ours")
            await http.post("/workflows/p-1/cancel")
            (last,) = (await http.get("/audit?limit=1")).json()["entries"]
            assert (last["status"], last["outcome"]) == (500, "failed")

    asyncio.run(main())


class Letters:
    """Dead letters of a platform, two at least."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def page(self, limit: int, after: str) -> LetterPage:
        self.asked.append((limit, after))
        found = OpenLetter(
            "1/2", DeadLetter("shop.commands", 3, 17, 1_500, "undecodable", "no", 2_000_000, b"k", b"v"), 1
        )
        return LetterPage([found], "" if after else "1/2")


def test_dead_letters_are_read_page_by_page() -> None:
    async def main() -> None:
        letters: Any = Letters()
        backend = Backend("shop", Engine(None), Feed(), dead_letters=lambda: letters)  # type: ignore[arg-type]
        app = create_app(backend, Unsecured())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1")
        async with app._app.router.lifespan_context(app._app), http:
            first = (await http.get("/dead-letters?limit=1")).json()
            assert first["next"] == "1/2"
            second = (await http.get("/dead-letters", params={"limit": 1, "cursor": first["next"]})).json()
            assert second["next"] is None
            assert letters.asked == [(1, ""), (1, "1/2")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2027-01-31T12:00:00.000123Z", 1_801_396_800_000_123),
        ("2027-01-31T12:00:00+02:00", 1_801_389_600_000_000),
        ("2027-01-31T12:00:00 02:00", 1_801_389_600_000_000),  # a plus that was not encoded
        ("1801396800000123", 1_801_396_800_000_123),
        ("1969-12-31T23:59:59.999999Z", -1),
    ],
)
def test_a_moment_is_exact_to_the_microsecond(text: str, at: int) -> None:
    assert list_query(QueryParams([("updated_before", text)])).updated_before == at


def test_the_value_of_an_attribute_may_have_colons() -> None:
    assert list_query(QueryParams([("attribute", "at:12:30")])).attributes == (("at", "12:30"),)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 10.0),
        ("5", 5.0),
        ("0.25", 0.25),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1m", 60.0),
        ("2h", 60.0),
        ("3600", 60.0),
    ],
)
def test_a_wait_is_a_minute_at_most(text: str, seconds: float) -> None:
    assert timeout_s(QueryParams([("timeout", text)]), 10.0) == seconds


def test_a_whole_number_is_within_its_bounds() -> None:
    assert [whole(QueryParams([("n", text)]), "n", 3, 1, 5) for text in ("", "1", "5")] == [3, 1, 5]
    for text in ("0", "6"):
        with pytest.raises(Problem, match="must be a whole number from 1 to 5"):
            whole(QueryParams([("n", text)]), "n", 3, 1, 5)


def test_requests_with_one_id_have_their_turns_one_after_the_other_and_are_forgotten() -> None:
    async def main() -> None:
        turns, inside, seen = RequestLocks(), set[int](), list[int]()

        async def take(number: int) -> None:
            async with turns.of("a"):
                assert not inside, "one at a time"
                inside.add(number)
                for _ in range(3):
                    await asyncio.sleep(0)
                seen.append(number)
                inside.remove(number)

        first = [asyncio.create_task(take(number)) for number in range(3)]
        while len(seen) < 2:
            await asyncio.sleep(0)
        await asyncio.gather(*first, take(3), take(4))
        assert seen[:3] == [0, 1, 2]
        assert len(turns) == 0

    asyncio.run(main())


def test_what_is_read_has_all_when_every_partition_has() -> None:
    async def main() -> None:
        first, second = Position(0, 7), Position(1, 9)
        for reached, has_all in (((first, second), True), ((second,), False), ((first,), False)):
            tables: Any = Tables(*reached)
            backend = Backend("shop", Engine(None), Feed([first, second]), reader=tables)  # type: ignore[arg-type]
            if has_all:
                await backend.has_all(0.01)
            else:
                with pytest.raises(ReadLags, match="behind"):
                    await backend.has_all(0.01)
            await backend.close()
            assert tables.is_closed

    asyncio.run(main())


def test_a_position_is_looked_for_until_it_is_reached() -> None:
    async def main() -> None:
        tables: Any = Tables(Position(0, 7), looks=3)
        backend = Backend("shop", Engine(None), Feed(), reader=tables)  # type: ignore[arg-type]
        assert await backend.reached(Position(0, 7), 20)
        assert not await backend.reached(Position(0, 8), 0.01)
        await backend.close()

    asyncio.run(main())


def test_a_rate_below_one_a_second_is_kept_and_says_when_to_ask_again() -> None:
    now = 0.0
    slow = RateLimit(0.25, now=lambda: now)
    assert (slow.take("a"), slow.take("a")) == (0, 4)
    now = 1.5
    assert slow.take("a") == 3, "whole seconds, never too early"
    now = 4.0
    assert (slow.take("a"), slow.take("a")) == (0, 4)


def test_a_state_shows_what_it_waits_for_and_why_it_failed() -> None:
    cause = FailureInfo(type="OSError", message="no road")
    failed = FailureInfo(type="ActivityFailed", message="fell", cause=cause)
    waits = (
        Wait("activity", "weigh", 2, 3, 1_000_000, 2_000_000),
        Wait("timer", "", 1, 0, 0, 3_000_000, "until **noon**"),
    )
    shown = msgspec.json.decode(msgspec.json.encode(state(replace(ENDED, failure=failed, waits=waits))))
    assert shown["failure"]["cause"]["message"] == "no road"
    assert shown["waits"] == [
        {"kind": "activity", "name": "weigh", "number": 2, "attempt": 3,
            "scheduled_at": "1970-01-01T00:00:01.000000Z",
         "due_at": "1970-01-01T00:00:02.000000Z", "summary": None},
        {"kind": "timer", "name": None, "number": 1, "attempt": None, "scheduled_at": None,
            "due_at": "1970-01-01T00:00:03.000000Z", "summary": "until **noon**"},
    ]  # fmt: skip


def test_a_group_is_shown_with_its_members() -> None:
    group = FailureInfo(
        type="builtins:ExceptionGroup",
        message="two",
        exceptions=(FailureInfo(type="app:Declined", message="no money"),),
    )
    shown = msgspec.json.decode(msgspec.json.encode(state(replace(ENDED, failure=group))))
    assert [each["message"] for each in shown["failure"]["exceptions"]] == ["no money"]
    assert shown["failure"]["exceptions"][0]["exceptions"] is None


def test_a_failure_is_shown_with_its_place_and_notes_and_so_is_what_it_was_raised_from() -> None:
    traceback = (
        '  File "/srv/app.py", line 12, in run\n    await charge()\n  File "/srv/pay.py", line 31, in '
        "charge\n    raise Declined\n"
    )
    cause = FailureInfo("app:Declined", "no money", traceback=traceback, notes=("card 3", "second try"))
    failed = FailureInfo("builtins:ExceptionGroup", "both", cause=cause, exceptions=(cause,))
    shown = msgspec.json.decode(msgspec.json.encode(state(replace(ENDED, failure=failed))))["failure"]
    assert (shown["place"], shown["notes"]) == (None, [])
    for each in (shown["cause"], *shown["exceptions"]):
        assert (each["place"], each["notes"]) == ("pay.py:31", ["card 3", "second try"])
        assert "traceback" not in each


def test_a_viewer_is_shown_no_notes_and_no_place_of_a_failure() -> None:
    traceback = '  File "/srv/pay.py", line 31, in charge\n    raise Declined\n'
    failed = FailureInfo(
        "app:Declined",
        "no money",
        traceback=traceback,
        notes=("card 3",),
        cause=FailureInfo("app:Broke", "ada"),
    )
    shown = msgspec.json.decode(msgspec.json.encode(state(outline(replace(ENDED, failure=failed)))))[
        "failure"
    ]
    assert shown == {
        "type": "app:Declined", "message": "", "place": None, "notes": [], "fields": None, "cause": None,
        "exceptions": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"memo": [1]},
        {"memo": "x"},
        {"memo": {"x": "y" * 9_000}},
        {"encoded_memo": "not base64"},
        {"encoded_memo": "ünf"},
        {"encoded_memo": "W10="},
        {"memo": {"a": 1}, "encoded_memo": "e30="},
    ],
)
def test_a_memo_that_is_no_object_or_too_large_is_refused(options: dict[str, Any]) -> None:
    async def test(http: httpx.AsyncClient, engine: Engine) -> None:
        body = {"type": "Parcel", "id": "p-1", "args": ["box"], "options": options}
        answer = await http.post("/workflows", json=body)
        assert answer.status_code == 422
        assert "memo" in answer.json()["detail"]
        assert not engine.asked

    run(Accepted("r", "run-1"), test)


def test_a_viewer_is_shown_no_memo_no_details_and_no_summary() -> None:
    waits = (Wait("timer", "", 1, 0, 0, 3_000_000, "secret"), Wait("child", "parcel", 1))
    whole = replace(ENDED, memo=b'{"by":"secret"}', details="**secret**", waits=waits)
    encoded = msgspec.json.encode(state(outline(whole)))
    assert b"secret" not in encoded
    assert [each["summary"] for each in msgspec.json.decode(encoded)["waits"]] == [None, None]
    shown = msgspec.json.decode(msgspec.json.encode(state(whole)))
    assert (shown["memo"], shown["details"]) == ({"by": "secret"}, "**secret**")


def test_a_payload_of_a_codec_is_shown_with_its_name_and_its_bytes() -> None:
    assert payload(b"\0aes\0\x01\0\x02") == {"codec": "aes", "base64": "AQAC"}
    assert payload(b"") is None


def test_a_dead_letter_shows_when_its_record_was_written_and_when_it_was_found() -> None:
    found = OpenLetter(
        "1/2", DeadLetter("shop.commands", 3, 17, 1_500, "undecodable", "no", 2_000_000, b"k", b"v"), 1
    )
    shown = letter(found)
    assert shown["written_at"] == "1970-01-01T00:00:01.500000Z"
    assert shown["found_at"] == "1970-01-01T00:00:02.000000Z"
    assert (shown["key"], shown["value"]) == ("aw==", "dg==")
