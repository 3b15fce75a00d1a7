"""A warehouse, a card company and a carrier, behind a bad network: some questions are lost, and
some answers.

They write every request that reached them into a file, with its key, so that it can be counted what
they were asked for. Real ones do the same key once.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from perdure import activity

FAILURE_RATE: Final = float(os.environ.get("SHOP_FAILURE_RATE", "0.3"))
LEDGER: Final = os.environ.get("SHOP_LEDGER", "")


@contextmanager
def asked(whom: str, what: str, order_id: str) -> Generator[None]:
    """Ask one of them. When the answer is lost, the thing was done and nobody knows: it will be
    asked for again, under the same key."""
    luck = random.random()
    if luck < FAILURE_RATE / 2:
        raise ConnectionError(f"the {whom} did not answer")
    yield  # a refusal is raised here: it has an answer, and nothing was done
    if LEDGER:
        entry = {"what": what, "order": order_id, "key": activity.idempotency_key(), "at": time.time()}
        with Path(LEDGER).open("a") as book:
            book.write(json.dumps(entry) + "\n")
    if luck < FAILURE_RATE:
        raise ConnectionError(f"the {whom} may have done it, but its answer was lost")
