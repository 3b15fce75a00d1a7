"""Reading one's own writes: a bounded wait for a position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.client.position import Position
from perdure.errors import ReadLags
from perdure.model.duration import Duration, argument_us

if TYPE_CHECKING:
    from perdure.client.ports import Transport


async def reached(transport: Transport, after: Position | str, within: Duration) -> None:
    """Wait until what the transport reads reflects a position.

    Args:
        transport: has the reader.
        after: the position, or its text.
        within: the longest wait.

    Raises:
        errors.RequestRefused: the text is not a position.
        errors.ReadLags: it still does not after that time.
    """
    position = Position.parse(after) if isinstance(after, str) else after
    seconds = argument_us("within", within) / 1e6
    if not await transport.read(lambda reader: reader.wait_for(position, seconds)):
        raise ReadLags(
            f"reads were still behind position {position} after {seconds:g} s; retry, or wait longer"
        )
