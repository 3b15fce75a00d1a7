"""The codec endpoint: whom it decodes for; and what is shown when it does not."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from perdure.adapters.http import codec_endpoint
from perdure.adapters.http.codec_endpoint import CodecEndpoint, RemoteReadable
from perdure.api.auth.api_keys import ApiKeys
from perdure.api.auth.key_file import create_key
from perdure.api.auth.security import Security, Unsecured
from perdure.api.codec_server import MOST, create_codec_app
from perdure.api.roles import Role
from perdure.api.server import ApiServer
from perdure.cli.app import app as cli
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure, ValueUnavailable
from perdure.model import events as ev
from perdure.model.failure import FailureInfo


class Reversed:
    """A codec with keys."""

    name = "reversed"

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    @property
    def key_id(self) -> str:
        return self.keys[-1]

    def encode(self, data: bytes, key_id: str) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, key_id: str) -> bytes:
        if key_id not in self.keys:
            raise KeyError(key_id)
        return data[::-1]


codec = Reversed("k1")
PAYLOADS = JsonPayloads(codec)
SEALED = PAYLOADS.encode({"card": 4111}, what="x")
OF_OTHER_KEY = JsonPayloads(Reversed("k2")).encode(1, what="x")


def _unsaid(message: str, /, **where: str | int) -> None:
    """Drops what an operator should know."""


ORIGIN = "https://perdure.shop.example"


def text(*payloads: bytes) -> dict[str, list[str]]:
    return {"payloads": [b64encode(each).decode() for each in payloads]}


def asked(scenario: Callable[[httpx.AsyncClient], Any], security: Any = None, **options: Any) -> None:
    async def main() -> None:
        app = create_codec_app(PAYLOADS, security or Unsecured(), **options)
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost"
        )
        async with http:
            await scenario(http)

    asyncio.run(main())


@pytest.fixture
def security(tmp_path: Path) -> tuple[Security, Callable[..., dict[str, str]]]:
    """Security, and the headers of someone with a role."""
    path = tmp_path / "keys.toml"

    def headers(role: Role, namespace: str = "shop") -> dict[str, str]:
        return {"authorization": f"Bearer {create_key(path, 'someone', role, [namespace])[0]}"}

    headers(Role.VIEWER)
    return Security("shop", api_keys=ApiKeys(path, _unsaid)), headers


def test_it_decodes_and_encodes_with_the_codec_of_the_app() -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        done = (await http.post("/decode", json=text(SEALED, b"[1]"))).json()["payloads"]
        assert [json.loads(b64decode(each["data"])) for each in done] == [{"card": 4111}, [1]]
        (sealed,) = (await http.post("/encode", json=text(b'{"card":4111}'))).json()["payloads"]
        assert b64decode(sealed["data"]) == SEALED
        assert (await http.get("/health/live")).status_code == 200

    asked(scenario)


def test_a_payload_that_it_cannot_decode_does_not_hide_the_others() -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        given = text(OF_OTHER_KEY, b"\0zip\0data", SEALED)
        given["payloads"].append("no base64!")
        one, other, good, bad = (await http.post("/decode", json=given)).json()["payloads"]
        assert "the key 'k2'" in one["error"]
        assert "'zip'" in other["error"]
        assert json.loads(b64decode(good["data"])) == {"card": 4111}
        assert "not base64" in bad["error"]

    asked(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b'{"payloads": [1]}', 422),
        (b'{"payloads": [], "other": 1}', 422),
        (json.dumps({"payloads": [""] * (MOST + 1)}).encode(), 413),
        (b'{"payloads": ["' + b"A" * 1_500_000 + b'"]}', 413),
    ],
)
def test_a_bad_request_is_refused(body: bytes, status: int) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        answer = await http.post("/decode", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    asked(scenario)


def test_readers_may_decode_and_operators_may_encode(
    security: tuple[Security, Callable[..., dict[str, str]]],
) -> None:
    admits, headers = security

    async def scenario(http: httpx.AsyncClient) -> None:
        async def status(path: str, **options: Any) -> int:
            return (await http.post(path, json=text(SEALED), **options)).status_code

        assert await status("/decode") == 401
        assert await status("/decode", headers=headers(Role.VIEWER)) == 403
        assert await status("/decode", headers=headers(Role.ADMIN, "other")) == 403
        assert await status("/decode", headers=headers(Role.READER)) == 200
        assert await status("/encode", headers=headers(Role.READER)) == 403
        assert await status("/encode", headers=headers(Role.OPERATOR)) == 200

    asked(scenario, admits)


def test_pages_of_the_allowed_site_may_call_it_and_no_others(
    security: tuple[Security, Callable[..., dict[str, str]]],
) -> None:
    admits, headers = security
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    async def scenario(http: httpx.AsyncClient) -> None:
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None), ("null", None)):
            preflight = await http.request("OPTIONS", "/decode", headers={**asks, "origin": origin})
            answer = await http.post(
                "/decode", json=text(SEALED), headers={**headers(Role.READER), "origin": origin}
            )
            for each in (preflight, answer):
                assert each.headers.get("access-control-allow-origin") == allowed
                assert "access-control-allow-credentials" not in each.headers
        refused = await http.post("/decode", json=text(SEALED), headers={"origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN

    asked(scenario, admits, origins=[ORIGIN])


# ---- the reader


class Endpoint:
    """Answers each connection with bytes, or leaves it open."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self._kept.append(connection)
            if not connection.recv(1):
                return
            self.asked += 1
            head, body = b"", b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            # all of the request: what is not read resets the connection
            head, _, body = head.partition(b"\r\n\r\n")
            while len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
                body += connection.recv(65536)
            if self.answer:
                with suppress(OSError):
                    connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_WR)

    def says(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        self.answer = f"HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n".encode() + body

    def close(self) -> None:
        with closing(socket.create_connection(self._socket.getsockname())):
            pass
        self._thread.join()
        for each in (*self._kept, self._socket):
            each.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with closing(Endpoint()) as made:
        yield made


def answer(*items: dict[str, str]) -> bytes:
    return json.dumps({"payloads": items}).encode()


def data(value: bytes) -> dict[str, str]:
    return {"data": b64encode(value).decode()}


COMPLETED = ev.WorkflowCompleted(SEALED)


def shown(url: str, timeout_s: float = 20.0) -> tuple[ev.WorkflowCompleted, dict[str, int]]:
    """The event as the reader shows it, and its reasons."""
    readable = RemoteReadable(CodecEndpoint(url, timeout_s=timeout_s))
    return readable.struct(COMPLETED), readable.reasons


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "not that of a codec endpoint"),
        (b"", "not that of a codec endpoint"),
        (b"[" * 100_000, "not that of a codec endpoint"),
        (b'{"payloads": [7]}', "not that of a codec endpoint"),
        (answer(), "0 values for 1 payloads"),
        (answer(data(b"1"), data(b"2")), "2 values for 1 payloads"),
        (answer({"error": "no key\n\x1b[31m k9"}), "no key  [31m k9"),
        (answer({}), "gave no value"),
        (answer({"data": "????"}), "not base64"),
        (answer(data(b"\x1b[31m")), "not JSON"),
        (answer(data(b"\xff")), "not JSON"),
    ],
)
def test_a_useless_answer_leaves_the_value_as_it_is_and_says_why(
    endpoint: Endpoint, body: bytes, why: str
) -> None:
    endpoint.says(body)
    event, reasons = shown(endpoint.url)
    assert event == COMPLETED
    ((reason, count),) = reasons.items()
    assert count == 1
    assert reason.startswith(f"codec endpoint {endpoint.url}: ")
    assert why in reason
    assert reason.isprintable()


@pytest.mark.parametrize(
    ("status", "headers", "body", "why"),
    [
        ("401 Unauthorized", "", b'{"detail": "send a key"}', "it answered 401: send a key"),
        ("500 Oops", "", b"{", "it answered 500"),
        ("302 Found", "location: http://127.0.0.1:1/\r\n", b"", "it answered 302"),
        ("200 OK", "content-length: 10\r\n", b"{", "cannot be reached"),
        ("nonsense", "", b"", "cannot be reached"),
    ],
)
def test_a_refusal_or_a_redirect_says_why(
    endpoint: Endpoint, status: str, headers: str, body: bytes, why: str
) -> None:
    endpoint.says(body, status, headers)
    event, reasons = shown(endpoint.url)
    assert event == COMPLETED
    assert why in next(iter(reasons))
    assert endpoint.asked == 1


def test_an_endpoint_that_is_silent_or_down_is_not_waited_for(endpoint: Endpoint) -> None:
    event, reasons = shown(endpoint.url, 0.05)
    assert event == COMPLETED
    assert "did not answer within 0.05 s" in next(iter(reasons))
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    event, reasons = shown(url)
    assert event == COMPLETED
    assert "cannot be reached" in next(iter(reasons))


def test_a_huge_answer_is_not_read(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_endpoint, "ANSWER_BYTES", 1 << 20)
    endpoint.says(b" " * (2 << 20))
    event, reasons = shown(endpoint.url)
    assert event == COMPLETED
    assert "larger than 1 MiB" in next(iter(reasons))


def test_a_failure_that_was_decoded_to_garbage_stays_as_it_is(endpoint: Endpoint) -> None:
    failed = ev.WorkflowFailed(PAYLOADS.encode_failure(Failure("secret")))
    for garbage in (b"1", b"x\x9c", b"\x78\x9c\x03\x00\x00\x00\x00\x01"):
        endpoint.says(answer(data(garbage)))
        assert RemoteReadable(CodecEndpoint(endpoint.url)).struct(failed) == failed


def test_what_is_encoded_of_a_failure_may_be_damaged() -> None:
    for fields in (b'{"$encoded":7}', b'{"$encoded":"?"}', b'{"$encoded":"QUFB"}', b'{"$encoded":'):
        info = FailureInfo("a:B", fields=fields)
        try:
            opened = PAYLOADS.open_failure(info)
        except ValueUnavailable:
            continue
        assert opened == info


# ---- together


@pytest.fixture
def served() -> Iterator[str]:
    server = ApiServer(create_codec_app(PAYLOADS, Unsecured()), "127.0.0.1", 0)
    server.start()
    yield server.url
    server.stop()
    server.join()


def test_a_history_is_decoded_in_few_requests(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_endpoint, "BATCH", 3)
    token = ev.CarriedToken("n", "run-0", 1, "s", value=SEALED)
    events: list[ev.AnyEvent] = [
        ev.WorkflowStarted("T", PAYLOADS.encode([7], what="x"), 311, 1, tokens=(token,)),
        *(ev.SignalReceived("s", PAYLOADS.encode(number, what="x")) for number in range(7)),
        ev.SignalReceived("s", OF_OTHER_KEY),
        ev.SignalReceived("s", b"[1]"),
        ev.WorkflowFailed(PAYLOADS.encode_failure(Failure("no money"))),
    ]
    record = ev.EventRecord("w", "run-1", 1, 0, -1, -1, b"", events)
    readable = RemoteReadable(CodecEndpoint(served))
    ((found,), reasons) = readable.records([record]), readable.reasons
    assert isinstance(started := found.events[0], ev.WorkflowStarted)
    assert (started.input, started.tokens[0].value) == (b"[7]", b'{"card":4111}')
    inputs = [each.input for each in found.events if isinstance(each, ev.SignalReceived)]
    assert inputs == [*(b"%d" % number for number in range(7)), OF_OTHER_KEY, b"[1]"]
    assert isinstance(failed := found.events[-1], ev.WorkflowFailed)
    assert failed.failure.message == "no money"
    ((reason, count),) = reasons.items()
    assert "the key 'k2'" in reason
    assert count == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["tests.api.served"], "says no codec"),
        ([__name__], "no authentication is configured"),
        ([__name__, "--insecure", "--host", "0.0.0.0"], "loopback only"),
        ([__name__, "--insecure", "--cors-origin", ORIGIN], "--insecure admits no pages"),
        ([__name__, "--cors-origin", "*"], "is no origin"),
        ([__name__, "--cors-origin", f"{ORIGIN}/path"], "is no origin"),
    ],
)
def test_a_server_that_is_not_safe_does_not_start(arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(cli, ["codec", "serve", *arguments])
    assert result.exit_code != 0
    assert why in str(result.exception)
