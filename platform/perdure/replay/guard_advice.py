"""Messages of the guard about rejected calls, and the run whose code makes them."""

from __future__ import annotations

from typing import Final

from perdure.replay.activation import running_loop
from perdure.replay.loop import RunLoop

CLOCK: Final = "a replay would see a different time. Use workflow.now()."
SLEEP: Final = (
    "it blocks the engine and all its runs. Use `await workflow.sleep(...)` or `await asyncio.sleep(...)`."
)
NO_SECRETS: Final = (
    "a replay would see a different value. Create it in an activity, or use workflow.random() and "
    "workflow.uuid4()."
)
UNSEEDED: Final = "without a seed it differs on replay. Use workflow.random(), or give a seed."
ENVIRONMENT: Final = (
    "another process may have a different environment. Read it in an activity, or pass it to the workflow."
)
TERMINAL: Final = (
    "it waits for the terminal, and all runs wait with it. Ask in an activity, or wait for a signal."
)
THREAD: Final = "its effect is not recorded. Use an activity, or asyncio.create_task()."


def running_workflow() -> RunLoop | None:
    """The run whose code this thread executes."""
    loop = running_loop()
    return loop if type(loop) is RunLoop else None
