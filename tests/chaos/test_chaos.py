"""Orders on three brokers while brokers, engines and workers are killed, stopped and frozen:
nothing is lost, nothing happens twice.

The seed is the day's; CHAOS_SEED gives another, CHAOS_MINUTES makes it longer. `make chaos SEED=…`
runs one again.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest

from tests.chaos.run import Chaos
from tests.kafka.broker import running
from tests.kafka.conftest import entered

MINUTES = float(os.environ.get("CHAOS_MINUTES", "2"))
SEED = int(os.environ.get("CHAOS_SEED", date.today().strftime("%Y%m%d")))
RATE = 5.0


@pytest.mark.timeout(MINUTES * 60 + 420)
def test_nothing_is_lost_and_nothing_happens_twice(tmp_path: Path) -> None:
    print(f"SEED={SEED}; make chaos SEED={SEED} MINUTES={MINUTES:g}")
    with ExitStack() as stack:
        cluster = entered(stack, running(3))
        outcome = Chaos(
            cluster, SEED, MINUTES * 60, RATE, tmp_path, lambda line: print(line, flush=True)
        ).run()
    verdict = outcome.as_json()
    print(json.dumps(verdict, indent=2))
    assert verdict["violations"] == []
    assert outcome.faults >= MINUTES * 5, "too little went wrong: the test proves too little"
    assert outcome.counts["ended"] == outcome.counts["orders"] >= MINUTES * 60 * RATE / 3
    assert outcome.counts["orders_cancelled"] > 0
    assert verdict["counts"]["commits"] > 0, "the engines' commits could not be read"
