"""The streams that the code of a run writes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.errors import UsageError
from perdure.model.streams import BYTES_AT_ONCE, VALUES_AT_ONCE

if TYPE_CHECKING:
    from perdure.model.payloads import Payloads
    from perdure.replay.loop import RunLoop


class Streams:
    """Streams of one run.

    What the code writes is durable with the event that made it run: replayed, it is written no
    second time. Only what follows the event that suspended the run may not have been written, and
    is written when the run is resumed; its number tells a value that was.

    Args:
        loop: of the run.
        payloads: encodes values.

    Attributes:
        is_suspended: the run is going to be suspended at the end of the replay: keep what it
            writes from the event that suspended it on.
    """

    __slots__ = ("_counts", "_last", "_loop", "_payloads", "_size", "_written", "is_suspended")

    def __init__(self, loop: RunLoop, payloads: Payloads) -> None:
        self._loop = loop
        self._payloads = payloads
        self._counts: dict[str, int] = {}
        self._written: list[tuple[str, int, bytes]] = []
        self._last: list[tuple[str, int, bytes]] = []
        self._size = 0
        self.is_suspended = False

    def write(self, name: str, annotation: Any, value: object) -> None:
        """Write a value.

        Raises:
            UsageError: the loop is read only, or the run has written too much in one activation.
            PayloadError: the value cannot be encoded.
        """
        loop = self._loop
        loop.refuse_if_read_only("write to a stream")
        if loop.is_evicted:
            return
        self._counts[name] = number = self._counts.get(name, 0) + 1
        if loop.replaying and not self.is_suspended:
            return
        try:
            payload = self._payloads.encode(value, annotation, what=f"the value for stream {name!r}")
            self._size += len(payload)
            if len(self._written) >= VALUES_AT_ONCE or self._size > BYTES_AT_ONCE:
                raise UsageError(  # noqa: TRY301 - as one that is raised by the encoder
                    f"stream {name!r}: more than {VALUES_AT_ONCE} values or {BYTES_AT_ONCE} bytes are "
                    "written without an await between them, and all of them would be one transaction. Await "
                    "a step now and then, or write them in an activity: activity.stream"
                )
        except UsageError as error:
            raise loop.misuse(error) from None
        self._written.append((name, number, payload))

    def take(self) -> list[tuple[str, int, bytes]]:
        """The values written since the last call: stream, number and payload."""
        written, self._written = self._written, []
        self._size = 0
        return written

    # ---- while the history of a suspended run is replayed

    def turn(self, *, was_suspended: bool) -> None:
        """The code is going to see an event. What it wrote for those before is durable, unless the
        run was suspended by then.
        """
        written = self.take()
        self._last = [*self._last, *written] if was_suspended else []

    def resumed(self) -> None:
        """The history says that the run was resumed: what was kept is durable."""
        self.take()
        self._last = []

    def end(self) -> None:
        """The replay has ended."""
        self._written = [*self._last, *self._written]
        self._last = []
        self.is_suspended = False
