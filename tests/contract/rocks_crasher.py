"""Run as a process of its own: writes a RocksDB store until it is killed.

    python -m tests.contract.rocks_crasher DIRECTORY apply|restore SEED BATCHES

What it writes follows from the seed, so that the process that killed it knows what should be there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from perdure.adapters.rocksdb import rounds
from tests.contract.chronicle import Chronicle, random_moves
from tests.contract.rocks import opened

if TYPE_CHECKING:
    from perdure.engine.ports import Batch


def history(seed: int, count: int) -> tuple[Chronicle, list[Batch]]:
    """The batches, one by one."""
    chance, chronicle = Random(seed), Chronicle()
    return chronicle, [chronicle.batch(random_moves(chance)) for _ in range(count)]


def main(path: str, mode: str, seed: int, count: int) -> None:
    chronicle, batches = history(seed, count)
    topic = chronicle.topic[0]
    rounds.ROUND = 20  # type: ignore[misc]  # many writes, so that there are many moments between them
    store, restorer = opened(Path(path), chronicle)
    done = restorer.open(0, len(topic)) or 0
    print("open", flush=True)
    if mode == "restore":
        for first in range(done, len(topic), 3):
            restorer.restore(0, topic[first : first + 3])
        restorer.restored(0, len(topic))
    else:
        restorer.restored(0, done)
        end = 0
        for batch in batches:
            end += len(batch.events)
            if end > done:
                restorer.reached({0: end})
                store.apply(batch)
    store.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
