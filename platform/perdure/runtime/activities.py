"""What engine and worker of one process share: the side loop, the threads and the providers that activities need."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from perdure.codec.payloads import JsonPayloads
from perdure.worker.attempt import Attempts
from perdure.worker.providers import Provided
from perdure.worker.side_loop import SideLoop

if TYPE_CHECKING:
    from perdure.codec.payloads import PayloadCodec
    from perdure.registry import Registry

CLOSE_S: Final = 5.0


class Activities:
    """Runs attempts, from `open` to `close`.

    Args:
        registry: which there are.
        codec: encrypts or compresses payloads.
        threads: for sync functions.

    Attributes:
        side: the asyncio loop they run on.
        payloads: the same for the workflows' code.
        attempts: runs one.
    """

    def __init__(self, registry: Registry, codec: PayloadCodec | None, threads: int) -> None:
        self.side = SideLoop("perdure-side")
        self.payloads = JsonPayloads(codec=codec, validate_on_encode=False)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="perdure-activity")
        self._provided = Provided(registry.providers)
        self.attempts = Attempts(registry.activities, self.payloads, self._threads, self._provided.instances)

    def open(self) -> None:
        """Start the loop and open what is provided.

        Raises:
            Exception: what a provider raised.
        """
        self.side.start()
        self.side.call(self._provided.open())

    def close(self) -> None:
        """Idempotent."""
        if self.side.is_running:
            try:
                self.side.call(self._provided.close(), CLOSE_S)
            finally:
                self.side.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
