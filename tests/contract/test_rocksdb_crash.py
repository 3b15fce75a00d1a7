"""Real processes, killed with SIGKILL between writes and within them: what is left is what some
number of batches lead to."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from time import monotonic

import pytest

from tests.contract.chronicle import Chronicle
from tests.contract.rocks import contents, in_memory, opened, take_over
from tests.contract.rocks_crasher import history

ROOT = Path(__file__).parents[2]
SEED, BATCHES = 7, 1_500


def crasher(path: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.rocks_crasher", str(path), mode, str(SEED), str(BATCHES)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def as_found(path: Path) -> tuple[int, dict[str, object]]:
    """How many batches are in the store, and what it holds; it opens without a report."""
    chronicle, batches = history(SEED, BATCHES)
    store, restorer = opened(path, chronicle)
    offset = restorer.open(0, len(chronicle.topic[0]))
    restorer.restored(0, offset or 0)
    found = contents(store, chronicle)
    store.close()
    ends = list(accumulate((len(batch.events) for batch in batches), initial=0))
    return ends.index(offset or 0), found


def expected_after(count: int) -> dict[str, object]:
    everyone, batches = history(SEED, BATCHES)
    return contents(in_memory(batches[:count]), everyone)


def test_a_process_killed_while_it_applies_leaves_whole_batches_and_continues(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    before = 0
    for _ in range(4):
        process = crasher(tmp_path, "apply")
        until = monotonic() + chance.uniform(0.0, 0.06)
        while monotonic() < until:  # a kill at any moment is the point; there is nothing to wait for
            pass
        process.kill()
        process.communicate(timeout=60)
        done, found = as_found(tmp_path)
        assert done >= before
        assert found == expected_after(done)
        before = done
    output, _ = crasher(tmp_path, "apply").communicate(timeout=100)
    assert output == "done\n"
    done, found = as_found(tmp_path)
    assert done == BATCHES
    assert found == expected_after(BATCHES)


def test_a_process_killed_while_it_restores_is_followed_by_one_that_ends_it(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for _ in range(4):
        process = crasher(tmp_path, "restore")
        until = monotonic() + chance.uniform(0.0, 0.03)
        while monotonic() < until:
            pass
        process.kill()
        process.communicate(timeout=60)
    everyone, batches = history(SEED, BATCHES)
    told: list[str] = []
    store, restorer = opened(tmp_path, everyone, told.append)
    take_over(restorer, 0, everyone.topic[0])
    assert contents(store, everyone) == contents(in_memory(batches), everyone)
    assert all("it has no checkpoint" in each for each in told), "killed in its first round"
    store.close()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.77, 0.999])
def test_a_write_ahead_log_that_was_cut_leaves_whole_batches(tmp_path: Path, share: float) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chronicle, batches = history(SEED, 200)
    store, restorer = opened(whole, Chronicle())
    take_over(restorer, 0, [])
    end = 0
    for batch in batches:
        end += len(batch.events)
        restorer.reached({0: end})
        store.apply(batch)
    shutil.copytree(whole, cut)  # as a machine that lost its power has it
    store.close()
    (log,) = (cut / "0").glob("*.log")
    with log.open("r+b") as file:
        file.truncate(int(log.stat().st_size * share))
    told: list[str] = []
    store, restorer = opened(cut, chronicle, told.append)
    offset = restorer.open(0, end)
    restorer.restored(0, offset or 0)
    ends = list(accumulate((len(batch.events) for batch in batches), initial=0))
    done = ends.index(offset or 0)
    assert (done == 0) == (share == 0.0)
    assert done < len(batches)
    assert contents(store, chronicle) == contents(in_memory(batches[:done]), chronicle)
    store.close()
