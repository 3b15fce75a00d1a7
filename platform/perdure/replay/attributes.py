"""The attributes of one run, as its code sets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.machines.attributes import merged
from perdure.errors import PayloadError
from perdure.model.actions import SetAttributes
from perdure.model.limits import ATTRIBUTES_BYTES

if TYPE_CHECKING:
    from perdure.replay.loop import RunLoop


class Attributes:
    """Keeps them, so that their limit is checked before anything is recorded.

    Args:
        loop: of the run; has those of its start.
    """

    __slots__ = ("_count", "_loop", "_values")

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._values = loop.attributes
        self._count = 0

    def set(self, values: bytes) -> None:
        """Set some; see `WorkflowRuntime`."""
        loop = self._loop
        loop.refuse_if_read_only("set attributes")
        if loop.is_evicted:
            return
        after = merged(self._values, values)
        if (size := len(after)) > ATTRIBUTES_BYTES:
            raise loop.misuse(
                PayloadError(
                    f"the attributes would be {size} bytes long, the limit is {ATTRIBUTES_BYTES}; "
                    "attributes are for finding a workflow, keep its data in its view"
                )
            )
        self._values = after
        self._count += 1
        loop.actions.items.append(SetAttributes(self._count, values))
