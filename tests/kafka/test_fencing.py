"""An engine that was stopped and continues, or is replaced, commits nothing twice; nothing is
missing."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.kafka.namespace import Namespace, wait_until

QUICK = {"session_timeout_ms": 6000, "transaction_timeout_ms": 10_000}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("where", "longer_than"),
    [("in_batch", "session"), ("in_transaction", "session"), ("in_transaction", "transaction")],
)
def test_an_engine_stopped_in_mid_batch_and_continued_commits_nothing_twice(
    namespace: Namespace, where: str, longer_than: str
) -> None:
    trap: dict[str, Any] = {where: "STOP@20"}
    with namespace.process("zombie", **QUICK, **trap) as zombie, namespace.process("peer", **QUICK) as peer:
        with namespace.load():
            zombie.wait_for("trapped")
            wait_until(lambda: peer.owned() == {0, 1, 2, 3}, 60)  # the session has passed
            assert zombie.owned(), "it believes so still"
            told = len(zombie.lines)
            if where == "in_transaction":
                peer.wait_for(f"engine {namespace.name}.zombie has left a transaction open")
            if longer_than == "transaction":
                sent = len(namespace.sent)
                wait_until(lambda: len(namespace.sent) > sent + 4_000, 60)
            zombie.signal(signal.SIGCONT)
            wait_until(lambda: any("aborted" in line for line in zombie.lines[told:]), 60)
            wait_until(lambda: any("lost" in line for line in zombie.lines[told:]), 60)
            wait_until(lambda: bool(zombie.owned()), 60)
            zombie.end()
            wait_until(lambda: peer.owned() == {0, 1, 2, 3}, 60)
        namespace.until_applied()
        peer.end()
    namespace.audit().assert_exactly_once()


@pytest.mark.timeout(240)
def test_the_older_of_two_engines_with_one_name_stops_and_says_why(namespace: Namespace) -> None:
    """One is fenced for the fourth time within a minute; a rebalance between two fences may take a
    while on a busy machine."""
    with namespace.process("twin") as older, namespace.process("twin") as younger:
        older.wait_for("open")
        younger.wait_for("open")
        with namespace.load():
            wait_until(lambda: any("give each" in line for line in older.lines + younger.lines), 150)
        namespace.until_applied()
    namespace.audit().assert_exactly_once()
