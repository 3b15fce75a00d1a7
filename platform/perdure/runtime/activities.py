"""What runs the attempts of one process: threads, providers, and the loop they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.codec.payloads import JsonPayloads
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.providers import Provided
from perdure.worker.side_loop import SideLoop

if TYPE_CHECKING:
    from perdure.codec.payloads import PayloadCodec
    from perdure.registry import Registry
    from perdure.worker.attempt import Alarm

CLOSE_S: Final = 5.0


class Activities:
    """Runs attempts on one asyncio loop.

    Args:
        registry: which there are.
        codec: encrypts or compresses payloads.
        threads: how many sync functions run at once.
        alarm: measures the attempts' timeouts; by default the loop's clock does.

    Attributes:
        payloads: the same for the workflows' code.
        provided: the objects whose methods are activities.
        attempts: runs one.
    """

    def __init__(self, registry: Registry, codec: PayloadCodec | None, threads: int, *, alarm: Alarm | None = None) -> None:
        self.payloads = JsonPayloads(codec=codec)
        self.provided = Provided(registry.providers)
        self.attempts = Attempts(
            registry.activities, self.payloads, ActivityThreads(threads), instances=self.provided.instances, alarm=alarm
        )


class SideActivities(Activities):
    """The same on a side loop, from `open` to `close`; both from another thread.

    Attributes:
        side: the loop and its thread.
    """

    def __init__(self, registry: Registry, codec: PayloadCodec | None, threads: int) -> None:
        super().__init__(registry, codec, threads)
        self.side = SideLoop("perdure-side")

    def start(self) -> None:
        """Start the loop."""
        self.side.start()

    def provide(self) -> None:
        """Open what is provided; before the first attempt.

        Raises:
            Exception: what a provider raised.
        """
        self.side.call(self.provided.open())

    def close(self) -> None:
        """Close what is provided and end the loop. Idempotent. Sync functions that still run are left behind."""
        try:
            if self.side.is_running:
                self.side.call(self.provided.close(), CLOSE_S)
        finally:
            self.side.stop()
            self.attempts.threads.close()
