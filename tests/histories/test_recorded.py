"""Histories that were recorded once are replayed for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.codec.history import history_from_json, history_to_json
from perdure.errors import ReplayError
from perdure.model import events as ev
from tests.histories.record import RECORDED, SCENARIOS, play
from tests.histories.replay import replayed
from tests.simulation.invariants import check_history

FILES = sorted(RECORDED.glob("*.json"))
NAMES = [path.stem for path in FILES]
HOUSE = Path(__file__).parents[2]


def test_every_scenario_is_recorded() -> None:
    assert set(NAMES) >= set(SCENARIOS), "run `python -m tests.histories.record`"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_it_replays(path: Path) -> None:
    records = history_from_json(path.read_text(encoding="utf-8"))
    check_history(records, is_of_this_version=False)
    replayed(records)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_its_json_is_read_and_written_without_loss(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert history_to_json(history_from_json(text)) == text


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_beginning_of_it_replays(path: Path) -> None:
    """At every record the code was brought back somewhere, some day."""
    records = history_from_json(path.read_text(encoding="utf-8"))
    for count in range(1, len(records)):
        replayed(records[:count])


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_replay_that_is_changed_is_found_out(path: Path) -> None:
    """Each recorded wish of the code, left out, is missed."""
    records = history_from_json(path.read_text(encoding="utf-8"))
    for record in records:
        for number, event in enumerate(record.events):
            if isinstance(event, ev.ActivityScheduled | ev.TimerStarted):
                record.events.pop(number)
                with pytest.raises(ReplayError):
                    replayed(records)
                record.events.insert(number, event)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_they_replay_alike_in_a_fresh_process_with_another_hash_seed(hash_seed: str, tmp_path: Path) -> None:
    for name in SCENARIOS:
        (tmp_path / f"new-{name}.json").write_text(history_to_json(play(name)), encoding="utf-8")
    files = [str(path) for path in (*FILES, *tmp_path.iterdir())]
    command = [sys.executable, "-m", "tests.histories.replay", *files]
    outputs = {
        subprocess.run(
            command,
            cwd=HOUSE,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", hash_seed)
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == len(files)
