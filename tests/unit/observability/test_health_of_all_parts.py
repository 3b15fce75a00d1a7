"""What each part of a process says of its health, to the second; what connections may do; what a
span and a log line carry."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import threads
from perdure.adapters.kafka.status import Status
from perdure.engine.counts import LoopPhase, Pulse
from perdure.observability import accepting, health, logs
from perdure.observability.accepting import Acceptor, Connection, ConnectionLimits, free_descriptors
from perdure.observability.health import HANGS_S, PROJECTOR_HANGS_S, STARVES_S, is_live, is_ready
from perdure.observability.observed import Observed


def seen(**parts: Any) -> Observed:
    return Observed(**parts)


def projector(silent_s: float = 0.0, *, waits: str = "", trouble: str = "", now: float = 10_000.0) -> Any:
    return SimpleNamespace(pulse=now - silent_s, waiting_for=waits, trouble=trouble)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "monotonic", lambda: 10_000.0)


def test_a_projector_hangs_after_three_minutes_and_one_that_has_not_begun_does_not() -> None:
    assert is_live(seen(projector=projector(PROJECTOR_HANGS_S - 1))).is_well
    (reason,) = is_live(seen(projector=projector(PROJECTOR_HANGS_S + 1))).reasons
    assert "no iteration for 181 s" in reason
    assert is_live(seen(projector=projector(10_000.0))).is_well


def test_a_projector_that_waits_is_alive_not_ready_and_says_for_what_and_why() -> None:
    assert is_ready(seen(projector=projector())).is_well
    waiting = seen(projector=projector(waits="waiting for PostgreSQL"))
    assert (is_live(waiting).is_well, is_ready(waiting).reasons) == (True, ("waiting for PostgreSQL",))
    why = seen(projector=projector(waits="waiting for PostgreSQL", trouble="connection refused"))
    assert is_ready(why).reasons == ("waiting for PostgreSQL (connection refused)",)


@pytest.mark.parametrize(
    ("oldest_s", "since_s", "is_well"),
    [
        (STARVES_S - 1, STARVES_S + 9, True),
        (STARVES_S + 9, STARVES_S - 1, True),
        (STARVES_S, STARVES_S, False),
        (90.0, 70.0, False),
    ],
)
def test_a_worker_starves_when_tasks_wait_and_none_begins(
    oldest_s: float, since_s: float, is_well: bool
) -> None:
    worker: Any = SimpleNamespace(oldest_waiting_s=oldest_s, since_last_begin_s=since_s, waiting=5, running=3)
    found = is_ready(seen(worker=worker))
    assert found.is_well is is_well
    assert is_live(seen(worker=worker)).is_well, "a restart would not help"
    if not is_well:
        assert found.reasons[0].startswith(
            f"5 tasks are waiting and none has started for {min(oldest_s, since_s):.0f} s: 3 running"
        )


def test_a_loop_that_is_silent_for_too_long_is_dead_and_one_in_trouble_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def beating(silent_s: float, trouble: str = "") -> None:
        monkeypatch.setattr(
            threads, "pulses", lambda: [SimpleNamespace(name="reader", silent_s=silent_s, trouble=trouble)]
        )

    beating(HANGS_S)
    assert is_ready(seen()).is_well
    beating(HANGS_S + 1, "no broker")
    assert is_live(seen()).reasons == ("the loop of reader hangs: no iteration for 61 s (no broker)",)
    assert is_ready(seen()).reasons == is_live(seen()).reasons, "said once"
    beating(1.0, "no broker")
    assert (is_live(seen()).is_well, is_ready(seen()).reasons) == (True, ("no broker",))


def test_a_thread_that_has_died_is_neither_alive_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "dead", lambda: ["the thread x has died"])
    assert is_live(seen()).reasons == is_ready(seen()).reasons == ("the thread x has died",)


def test_a_batch_that_takes_as_long_as_its_own_limit_does_not_hang() -> None:
    pulse = Pulse()
    pulse.turn(LoopPhase.HANDLING, 50.0)
    pulse.since_ns -= int((HANGS_S + 40) * 1e9)
    assert is_live(seen(engine=SimpleNamespace(pulse=pulse))).is_well
    pulse.since_ns -= int(20 * 1e9)
    assert not is_live(seen(engine=SimpleNamespace(pulse=pulse))).is_well


def test_every_restored_partition_is_reported_and_why_queues_are_not_joined() -> None:
    status = Status()
    status.restoring = {10: 5, 2: 7}
    status.owned = frozenset({2, 10})
    pulse = Pulse()
    pulse.turn(LoopPhase.TAKING, 1.0)
    assert is_ready(seen(engine=SimpleNamespace(pulse=pulse), kafka=status)).reasons == (
        "partition 2 is being restored, 7 events to go",
        "partition 10 is being restored, 5 events to go",
    )


class Client(Connection):
    def __init__(self, address: str) -> None:
        self.address = address
        self.has_given_way = False

    def give_way(self) -> None:
        self.has_given_way = True


class Listener:
    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)


def connected(acceptor: Acceptor, address: str) -> Client:
    client = Client(address)
    acceptor._opened(client)
    return client


def test_the_longest_idle_connection_is_closed_and_a_busy_one_never() -> None:
    acceptor = Acceptor(Listener(), ConnectionLimits(connections=3, per_address=0))  # type: ignore[arg-type]
    first, second, third = (connected(acceptor, "a") for _ in range(3))
    acceptor.works(first)
    acceptor.works(second)
    acceptor.waits(second)  # after the third
    assert (acceptor.open, acceptor.waiting) == (3, 2)
    assert acceptor._has_room("b")
    assert [each.has_given_way for each in (first, second, third)] == [False, False, True]
    connected(acceptor, "b")
    assert acceptor._has_room("b")
    assert second.has_given_way
    for client in list(acceptor._open):
        acceptor.works(client)
    connected(acceptor, "c")
    acceptor.works(next(reversed(acceptor._open)))
    assert not acceptor._has_room("d"), "every place is at work"
    acceptor.closed(first)
    acceptor.closed(first)
    assert acceptor.open == 2
    assert acceptor._has_room("d")


def test_an_address_makes_room_among_its_own_connections_only() -> None:
    acceptor = Acceptor(Listener(), ConnectionLimits(connections=100, per_address=2))  # type: ignore[arg-type]
    other = connected(acceptor, "b")
    first = connected(acceptor, "a")
    assert acceptor._has_room("a")
    assert not first.has_given_way, "two are allowed"
    second = connected(acceptor, "a")
    assert acceptor._has_room("a")
    assert (first.has_given_way, second.has_given_way, other.has_given_way) == (True, False, False)
    acceptor.works(second)
    connected(acceptor, "a")
    acceptor.works(next(reversed(acceptor._open)))
    assert not acceptor._has_room("a")
    assert acceptor._has_room("b")
    assert acceptor.counts.gave_way == 1


def test_descriptors_are_left_to_the_rest_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(soft: int) -> None:
        def limits(_: int) -> tuple[int, int]:
            return soft, soft

        monkeypatch.setattr("perdure.observability.accepting.resource.getrlimit", limits)

    limited(10_000)
    assert 9_000 < free_descriptors() <= 10_000 - accepting.RESERVED
    limited(accepting.RESERVED)
    assert free_descriptors() == accepting.FEWEST, "health must answer"


def test_a_line_of_json_has_its_logger_level_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None, isatty=lambda: False)
    )
    root = logging.getLogger()
    before, level, json_before = root.handlers[:], root.level, logs.writes_json
    hooks = sys.excepthook, sys.unraisablehook
    try:
        logs.configure(is_json=True, level=logging.INFO)
        logging.getLogger("shop").debug("not this")
        logging.getLogger("shop").warning("late: %s", "o-1", extra={"order": "o-1"})
        logging.getLogger("httpx").info("nor this")
        assert logs.announce("served")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logs.writes_json = json_before
        sys.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
    first, second = [json.loads(line) for line in "".join(written).splitlines()]
    assert (first["event"], first["logger"], first["level"], first["order"]) == (
        "late: o-1",
        "shop",
        "warning",
        "o-1",
    )
    assert first["timestamp"].endswith("Z"), "in UTC"
    assert (second["event"], second["level"]) == ("served", "info")
