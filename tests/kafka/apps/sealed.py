"""An app with a codec, a store of large payloads and an interceptor. Its keys are in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from perdure import activity, workflow
from perdure.app import App, LargePayloads
from perdure.interceptor import Interceptor
from perdure.model.commands import AttemptReport
from perdure.model.tasks import Task

PLACE = Path(os.environ.get("SEALED_PLACE", "."))


class FileKeys:
    """XOR with the key of a file, which is read each time."""

    name = "file-keys"

    @property
    def key_id(self) -> str:
        return list(self._keys())[-1]

    def encode(self, data: bytes, key_id: str) -> bytes:
        key = self._keys()[key_id]
        return bytes(byte ^ key for byte in data)

    def decode(self, data: bytes, key_id: str) -> bytes:
        return self.encode(data, key_id)

    def _keys(self) -> dict[str, int]:
        keys: dict[str, int] = json.loads((PLACE / "keys.json").read_text())
        return keys


class Noting(Interceptor):
    """Notes each attempt in a file."""

    async def attempt(self, task: Task, run: Callable[[Task], Awaitable[AttemptReport]]) -> AttemptReport:
        with (PLACE / "attempts").open("a") as file:
            file.write(f"{task.name} {task.workflow_id}\n")
        return await run(task)


app = App(FileKeys(), [Noting()], LargePayloads(f"file://{(PLACE / 'large').absolute()}", above_bytes=2_000))


@activity.defn(name="sealed_charge")
def charge(card: str) -> str:
    if card == "secret-stolen":
        raise ValueError(f"{card} was declined")
    return f"charged {card}"


@workflow.defn(name="SealedOrder")
class Order:
    def __init__(self) -> None:
        self.card = ""

    @workflow.run
    async def process(self, card: str) -> str:
        self.card = card
        await workflow.sleep("0.2s")
        return await charge.options(retry=activity.Retry(maximum_attempts=1))(card)

    @workflow.query
    def paid_with(self, prefix: str) -> str:
        return prefix + self.card

    @workflow.view
    def shown(self) -> dict[str, str]:
        return {"card": self.card}
