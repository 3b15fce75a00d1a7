"""What somebody may send of whom nothing is known: sizes and times of headers and bodies, and who
gives way when there are too many."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure.observability.accepting import HEADER_BYTES, ConnectionLimits
from tests.security.doors import Knocker, door, parts

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUICK = ConnectionLimits(header_s=0.2, body_s=0.2)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(size: int, sent: int, path: bytes = b"/") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path, size) + b"x" * sent


# ---- headers


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"GET / HTTP/1.1\r\nA: ", id="one header"),
        pytest.param(b"GET /", id="the path"),
        pytest.param(b"GET", id="the method"),
        pytest.param(b"", id="nothing but bytes"),
    ],
)
def test_an_endless_head_is_refused_at_little_cost(endless: bytes) -> None:
    with door() as at:
        before_s, before_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with at.knock(endless) as knocker:
            chunk, sent = b"A" * 262_144, 0
            while sent < 400_000_000 and knocker.send(chunk):
                sent += len(chunk)
            assert status_of(knocker.answer()) in {400, 431}
            assert knocker.is_closed()
        assert sent < 40_000_000, "it was read on"
        assert time.process_time() - before_s < 1.0, "both sides, and the rest of the process"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 8_192


def test_many_small_headers_are_counted_together() -> None:
    header = b"X-A: b\r\n"
    with (
        door() as at,
        at.knock(b"GET / HTTP/1.1\r\n" + header * (HEADER_BYTES // len(header) + 1)) as knocker,
    ):
        assert status_of(knocker.answer()) == 431


def test_headers_up_to_the_limit_are_taken_however_they_are_cut() -> None:
    value = b"v" * (HEADER_BYTES - 1_000)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + value + b"\r\n\r\n"
    with door() as at:
        for size in (len(request), 1_400, 65_535):
            with at.knock() as knocker:
                assert all(knocker.send(part) for part in parts(request, size))
                assert status_of(knocker.answer()) == 200


def test_too_large_headers_behind_another_request_are_refused_too() -> None:
    large = b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"v" * (HEADER_BYTES + 1) + b"\r\n\r\n"
    with door() as at, at.knock(GET + large) as knocker:
        statuses = [status_of(knocker.answer())]
        with contextlib.suppress(ConnectionError, IndexError):
            statuses.append(status_of(knocker.answer()))
        assert statuses[-1] == 431
        assert knocker.is_closed()


@pytest.mark.parametrize("part", ["trailer", "chunk extension"])
def test_what_is_sent_around_a_body_has_a_size_too(part: str) -> None:
    begun = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = b"0\r\nA: " if part == "trailer" else b"1;a="
    with door() as at, at.knock(begun + endless) as knocker:
        sent = 0
        while sent < 50_000_000 and knocker.send(b"A" * 262_144):
            sent += 262_144
        assert sent < 40_000_000
        at.until(lambda acceptor: acceptor.counts.too_large == 1 and not acceptor.open)


def test_a_body_of_tiny_chunks_is_a_body() -> None:
    begun = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with door() as at, at.knock(begun + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n") as knocker:
        assert knocker.answer().endswith(b"\r\n\r\n100000")


def test_input_that_is_not_http_is_answered_once_and_closed() -> None:
    with door() as at, at.knock(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n") as knocker:
        assert status_of(knocker.answer()) == 400
        assert knocker.is_closed()


# ---- times


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nA: b"], ids=["silent", "half a head"])
def test_a_request_whose_head_never_arrives_is_given_up(begun: bytes) -> None:
    with door(QUICK) as at, at.knock(begun) as knocker:
        assert status_of(knocker.answer()) == 408
        assert knocker.is_closed()
        assert at.acceptor.counts.timed_out == 1


def test_trickling_bytes_do_not_extend_the_time_limit_of_a_head() -> None:
    with door(QUICK) as at, at.knock() as knocker:
        knocker.socket.settimeout(0.02)
        for byte in parts(b"GET / HTTP/1.1\r\nA: " + b"b" * 5_000, 1):
            try:
                knocker.socket.sendall(byte)
                assert status_of(knocker.socket.recv(1_000)) == 408
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("it was taken on and on")


def test_the_second_request_of_a_connection_has_a_time_too() -> None:
    with door(QUICK) as at, at.knock(GET) as knocker:
        assert status_of(knocker.answer()) == 200
        knocker.send(b"GET / HT")
        assert status_of(knocker.answer()) == 408


def test_an_idle_connection_is_kept() -> None:
    with door(QUICK) as at, at.knock(GET) as knocker, at.knock() as silent:
        assert status_of(knocker.answer()) == 200
        assert status_of(silent.answer()) == 408, "so much time has passed"
        knocker.send(GET)
        assert status_of(knocker.answer()) == 200


def test_a_request_whose_body_never_arrives_is_given_up() -> None:
    with door(QUICK) as at, at.knock(post(1_000, 1)) as knocker:
        assert knocker.is_closed()
        at.until(lambda acceptor: not acceptor.open)


def test_a_request_that_takes_its_time_is_left_alone() -> None:
    async def slow(scope: object, receive: object, send: object) -> None:
        import asyncio

        if scope["type"] == "http":  # type: ignore[index]
            await asyncio.sleep(1.0)  # longer than all limits
        from tests.security.doors import echo

        await echo(scope, receive, send)

    with door(QUICK, slow) as at, at.knock(GET) as knocker:
        assert status_of(knocker.answer()) == 200


# ---- bodies that nobody reads


def test_the_body_of_a_refused_request_is_not_read() -> None:
    with door() as at, at.knock(post(400_000_000, 10, b"/early")) as knocker:
        answer = knocker.answer()
        assert status_of(answer) == 200
        assert b"connection: close" in answer
        sent = 0
        while sent < 400_000_000 and knocker.send(b"x" * 262_144):
            sent += 262_144
        assert sent < 40_000_000
        at.until(lambda acceptor: not acceptor.open)


def test_a_request_whose_body_has_come_keeps_its_connection() -> None:
    with door() as at, at.knock() as knocker:
        for _ in range(3):
            knocker.send(post(1_000, 1_000))
            answer = knocker.answer()
            assert answer.endswith(b"1000")
            assert b"connection: close" not in answer


# ---- many


def test_a_new_connection_replaces_the_oldest_idle_one() -> None:
    with door(ConnectionLimits(connections=20, per_address=0)) as at:
        silent = [at.knock() for _ in range(60)]
        at.until(lambda acceptor: acceptor.counts.gave_way >= 40)
        with at.knock(GET) as knocker:
            assert status_of(knocker.answer()) == 200
        assert at.acceptor.open <= 20
        assert silent[0].is_closed()
        for each in silent:
            each.close()
        at.until(lambda acceptor: not acceptor.open)


def test_one_address_has_its_own_limit() -> None:
    with door(ConnectionLimits(connections=100, per_address=10)) as at:
        silent = [at.knock() for _ in range(30)]
        at.until(lambda acceptor: acceptor.counts.gave_way == 20)
        with socket.socket() as elsewhere:
            elsewhere.bind(("127.0.0.2", 0))
            elsewhere.connect(("127.0.0.1", at.port))
            at.until(lambda acceptor: acceptor.open == 11)
        for each in silent:
            each.close()


def test_a_busy_connection_is_never_closed_and_the_next_one_gets_503() -> None:
    with door(ConnectionLimits(connections=2, per_address=0)) as at:
        served = [at.knock(post(2, 1)) for _ in range(2)]
        at.until(lambda acceptor: acceptor.open == 2 and not acceptor.waiting)
        with at.knock() as late:
            assert status_of(late.answer()) == 503
        for each in served:
            each.send(b"x")
            assert each.answer().endswith(b"2")
        with at.knock(GET) as knocker:
            assert status_of(knocker.answer()) == 200
        for each in served:
            each.close()


# ---- descriptors

STARVED = """
import resource, sys, threading, logging
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from perdure.observability import accepting
from perdure.observability.logs import configure
from tests.security.doors import door

configure(is_json=True)
taken = [open("/dev/null") for _ in range(int(sys.argv[1]))]
if len(taken) > 100:
    accepting.free_descriptors = lambda: 10_000  # whatever is counted: others may take descriptors afterwards
with door() as at:
    print(at.port, flush=True)
    sys.stdin.readline()
    print(at.acceptor.counts.pauses, at.acceptor.open, flush=True)
"""


@pytest.mark.parametrize("taken", [0, 150], ids=["few descriptors", "none left"])
def test_running_out_of_descriptors_is_reported_once_and_serving_continues(taken: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STARVED, str(taken)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert child.stdout
        port = int(child.stdout.readline())
        silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(400)]
        with Knocker(port, GET) as knocker:
            assert status_of(knocker.answer()) == 200
        for each in silent:
            each.close()
        with Knocker(port, GET) as knocker:
            assert status_of(knocker.answer()) == 200
        told, log = child.communicate("\n", timeout=30)
        assert (int(told.split()[0]) > 0) == bool(taken)
        assert len(log.splitlines()) <= 3, log
        assert "too many connections" in log
        assert "Traceback" not in log
    finally:
        child.kill()
        child.wait()


def test_five_thousand_connections_that_say_nothing_do_not_keep_health_waiting() -> None:
    with door() as at:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
        silent: list[socket.socket] = []
        try:
            for _ in range(5_000):
                silent.append(socket.create_connection(("127.0.0.1", at.port), timeout=20))  # noqa: PERF401 - those that are open are closed whatever happens
            took: list[float] = []
            for _ in range(5):
                began = time.perf_counter()
                with at.knock(GET) as knocker:
                    assert status_of(knocker.answer()) == 200
                took.append(time.perf_counter() - began)
            assert min(took) < 0.05, "the machine may be busy; five tries are not all slow"
            assert at.acceptor.open <= at.acceptor.limits.per_address
        finally:
            for each in silent:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
