"""How far behind an engine is, as metrics show it."""

from __future__ import annotations

from tests.kafka.namespace import Namespace


def test_lag_counts_commands_not_taken_and_is_computed_on_request(
    namespace: Namespace,
) -> None:
    tally = namespace.tally()
    tally.until(lambda: len(tally.owned) == namespace.partitions)
    status = tally.log.status
    namespace.send_numbers(40)
    tally.until(lambda: tally.handled == 40)
    assert status.lag == {}
    status.is_lag_wanted = True
    tally.until(lambda: set(status.lag) == tally.owned and not any(status.lag.values()))

    namespace.send_numbers(400)
    seen = 0
    while not seen and tally.handled < 440:
        tally.step(0.02, limit=1)
        seen = sum(status.lag.values())
    assert 0 < seen <= 400
    tally.until(lambda: tally.handled == 440)
    tally.until(lambda: not any(status.lag.values()))
