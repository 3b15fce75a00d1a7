"""What authors use beside activities: context, children, attributes, tokens, patches, processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from perdure import activity, context, workflow

IS_NEW: Final = os.environ.get("AUTHORS_CODE") == "new"
"""Whether the process has the code of the next release."""
ANSWERS: Final = ("by record", "over HTTP", "by the client")


@dataclass
class Told:
    """What a refund has learned."""

    context: list[str]
    child: list[str]
    digits: tuple[int, int]
    fee: int = 0
    answers: list[int] = field(default_factory=list[int])
    notes: int = 0


@activity.defn
async def account(of: str) -> str:
    return f"{of} of {context.get('tenant')}"


@activity.step
async def tenant() -> str:
    return str(context.get("tenant"))


@activity.defn(executor="process")
def digits(power: int) -> tuple[int, int]:
    """The process that computes, and what it computes."""
    return os.getpid(), len(str(2**power))


@workflow.defn
async def child() -> list[str]:
    return [str(context.get("tenant")), await tenant(), await account("child")]


@workflow.defn
class Refund:
    """Runs all of it, and then waits in two runs for three answers."""

    def __init__(self, cents: int, told: Told | None = None) -> None:
        self.texts: list[str] = []
        self.notes = 0

    @workflow.run
    async def run(self, cents: int, told: Told | None = None) -> Told:
        if told is None:
            workflow.set_attributes(cents=cents, city="Bari" if cents < 500 else "Rome")
            workflow_id = workflow.info().workflow_id
            told = Told(
                [str(context.get("tenant")), await tenant(), await account("run")],
                await workflow.execute(f"{workflow_id}/child", child),
                await digits(1_000),
            )
            tokens = [workflow.token(int, name=name) for name in ANSWERS]
            told.fee = 2 if IS_NEW and workflow.patched("fee") else 1
            self.texts = [token.text for token in tokens]
            await workflow.wait_until(lambda: self.notes)
            workflow.continue_as_new(self.run, cents, told)
        tokens = [workflow.token(int, name=name) for name in ANSWERS]
        told.answers = [await token for token in tokens]
        told.notes = self.notes
        return told

    @workflow.signal
    def note(self) -> None:
        self.notes += 1

    @workflow.view
    def issued(self) -> list[str]:
        return self.texts
