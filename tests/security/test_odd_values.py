"""Odd values at every door of the HTTP API and the command line: the answer is a problem that says
what is wrong, never a fault of ours."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any
from urllib.parse import quote

import pytest
import typer

from perdure.cli.commands.publish import publish
from perdure.cli.commands.workflow import values_of
from perdure.errors import UsageError
from tests.api.served import Caller, run

JSON = {"content-type": "application/json"}
DIGITS = b"9" * 5_000
PARCEL = b'{"type":"Parcel","id":"%b","args":["box"]%b}'
BODIES = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1",
    "text": b'"x"',
    "NaN": b"NaN",
    "infinite": b'{"args":[Infinity]}',
    "too large for a float": b'{"type":"Parcel","id":"i","args":[1e999]}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep argument": b'{"args":[' + b"[" * 3_000 + b"]" * 3_000 + b"]}",
    "lone surrogate": b'{"type":"Parcel","id":"\\ud800","args":["b"]}',
    "in an argument": b'{"args":["\\udfff x"]}',
    "no UTF-8": b'{"type":"Parcel","id":"\xff"}',
    "10 MB": b'{"args":["' + b"x" * 10_000_000 + b'"]}',
    "digits": b'{"args":[' + DIGITS + b"]}",
    "keys twice": b'{"type":"Nope","type":"None","id":"a","id":"b"}',
    "empty id": PARCEL % (b"", b""),
    "id with a newline": PARCEL % (b"a\\nb", b""),
    "id with a null": PARCEL % (b"a\\u0000b", b""),
    "timeout": PARCEL % (b"t", b',"options":{"timeout":"NaN"}'),
    "delay": PARCEL % (b"t", b',"options":{"delay":"-5s"}'),
    "delay in numbers": PARCEL % (b"t", b',"options":{"delay":1e308}'),
    "attribute without a name": PARCEL % (b"t", b',"options":{"attributes":{"":1}}'),
    "infinite attribute": PARCEL % (b"t", b',"options":{"attributes":{"a":1e400}}'),
    "surrogate in an attribute": PARCEL % (b"t", b',"options":{"attributes":{"a":"\\ud83d"}}'),
    "payload": b'{"type":"Parcel","id":"p","input":"%%%"}',
    "arguments by name": b'{"type":"Parcel","id":"o","args":{}}',
    "compressed": gzip.compress(PARCEL % (b"z", b"")),
}
NAMES = (
    "%00",
    "%ff",
    "%ed%a0%80",
    "..",
    "a\nb",
    "a/b",
    "%25",
    "x" * 70_000,
    "ü" * 300,
    " ",
    "\x7f",
    "%2e%2e%2f",
    "%0d%0aX: y",
)
NUMBERS = (
    "-1",
    "9223372036854775808",
    "18446744073709551616",
    "1e3",
    "NaN",
    "inf",
    "\u0663",
    "0x10",
    "1_000",
    "+1",
    "9" * 5_000,
)
CONDITIONS = (
    "(" * 5_000 + "a=1" + ")" * 5_000,
    "not " * 3_000 + "a=1",
    " and ".join(["a=1"] * 3_000),
    "a = 'x",
    "a starts with 3",
    "a in ()",
    "a in (" + ",".join("1" * 8_000) + ")",
    "a=NaN",
    "a=1e999",
    "''=1",
    "a=\x00",
    "a='" + "x" * 30_000 + "'",
    "and",
    "a=9" + "9" * 5_000,
)


async def refused(api: Caller, method: str, path: str, **options: Any) -> None:
    """It is a problem of the caller's, described in a few words."""
    async with asyncio.timeout(20):
        answer = await api.http.request(method, path, **options)
    said = method, path[:80], answer.status_code, answer.text[:200]
    assert answer.status_code < 500, said
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json", said
        assert answer.json()["detail"], said
        assert len(answer.content) < 20_000, said


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_odd_body_is_refused_at_every_door(body: bytes) -> None:
    async def test(api: Caller) -> None:
        await api.start("w")
        for path in (
            "/workflows",
            "/workflows/none/cancel",
            "/workflows/none/terminate",
            "/workflows/w/signals/move",
            "/workflows/w/queries/where",
            "/workflows/w/updates/relabel",
            "/tokens/abc",
            "/tokens/abc/fail",
        ):
            await refused(api, "POST", path, content=body, headers=JSON)
            await refused(api, "POST", path, content=body, headers={**JSON, "content-encoding": "gzip"})
            await refused(api, "POST", path, content=body, headers={"content-type": "text/plain"})

    run(test)


def test_odd_names_are_refused_wherever_a_name_is_taken() -> None:
    async def test(api: Caller) -> None:
        await api.start("w")
        for name in NAMES:
            text = name if name.startswith("%") else quote(name, safe=".")
            if len(name) < 60_000:
                for door in ("", "/view", "/describe", "/history", "/position"):
                    await refused(api, "GET", f"/workflows/{text}{door}")
            for door in ("/workflows/w/streams", "/workflows/w/updates", "/dead-letters", "/positions"):
                await refused(api, "GET", f"{door}/{text}") if len(name) < 60_000 else None
            for door in ("signals", "queries", "updates"):
                await refused(api, "POST", f"/workflows/w/{door}/{text[:200]}", json={"args": []})
            for key in (
                "type",
                "status",
                "prefix",
                "attribute",
                "where",
                "sort",
                "order",
                "after",
                "position",
            ):
                await refused(api, "GET", f"/workflows?{key}={text[:5_000]}")

    run(test)


def test_odd_numbers_are_refused_wherever_a_number_is_taken() -> None:
    async def test(api: Caller) -> None:
        await api.start("w")
        for number in NUMBERS:
            for path in (
                "/workflows?limit=",
                "/workflows?started_after=",
                "/workflows/w/history?limit=",
                "/workflows/w/history?from=",
                "/workflows/none/streams/s?after=",
                "/workflows/none/streams/s?limit=",
                "/workflows/none/result?wait=",
                "/dead-letters?limit=",
                "/dead-letters/",
                "/positions/0-",
            ):
                await refused(api, "GET", path + number)
            for door in ("events", "streams/s"):
                headers = {"last-event-id": number.encode(), "accept": "text/event-stream"}
                await refused(api, "GET", f"/workflows/none/{door}", headers=headers)

    run(test)


def test_odd_conditions_are_refused() -> None:
    async def test(api: Caller) -> None:
        for condition in CONDITIONS:
            for door in ("/workflows", "/workflows/counts"):
                await refused(api, "GET", door, params={"where": condition})

    run(test)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "FOO", "get"])
def test_other_methods_are_refused(method: str) -> None:
    async def test(api: Caller) -> None:
        for path in (
            "/workflows",
            "/workflows/w/history",
            "/workflows/w/streams/s",
            "/tokens/a",
            "/none",
            "",
        ):
            await refused(api, method, path)

    run(test)


def test_a_flood_of_headers_and_parameters_is_taken_or_refused() -> None:
    async def test(api: Caller) -> None:
        await refused(api, "GET", "/workflows", headers=[(b"x-%d" % each, b"y") for each in range(3_000)])
        await refused(api, "GET", "/workflows?" + "a=1&" * 10_000)
        await refused(api, "GET", "/workflows", headers={"authorization": b"Bearer " + b"\xff" * 200})
        await refused(api, "GET", "/workflows", headers={"content-length": DIGITS})

    run(test)


@pytest.mark.parametrize(
    ("text", "why"), [("[" * 5_000, "nested too deeply"), ("\udcff", "not UTF-8"), ('"', "looks like JSON")]
)
def test_the_command_line_refuses_arguments_that_are_no_values(text: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        values_of([text])


@pytest.mark.parametrize(("value", "why"), [("[" * 5_000, "nested too deeply"), ("\udcff", "not UTF-8")])
def test_the_command_line_publishes_no_odd_values(value: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        publish("orders", value)


@pytest.mark.parametrize(
    "name", ["Authorization", "Content-Type", "Host", "Idempotency-Key", "Last-Event-ID", "Origin"]
)
def test_a_header_that_decides_about_a_request_may_not_be_there_twice(name: str) -> None:
    """Of two, a gateway in front of the API may have checked the other one."""

    async def test(api: Caller) -> None:
        for values in (("a", "b"), ("a", "a")):
            twice = [(name, value) for value in values]
            answer = await api.http.post("/workflows", json={"type": "Parcel", "id": "p"}, headers=twice)
            assert answer.status_code == 400, answer.text
            assert name.lower() in answer.json()["detail"]
        assert (
            await api.http.get("/workflows", headers=[("Accept", "a"), ("Accept", "b")])
        ).status_code == 200
        assert (await api.http.get("/workflows/p")).status_code == 404

    run(test)
