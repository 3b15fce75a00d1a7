"""Two hubs: one of whole states, one of outlines for callers that may not see payloads. So events
are encoded once per kind of reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.api.hub import Hub
from perdure.api.json_views import outline
from perdure.codec.readable import PLAIN, Readable

if TYPE_CHECKING:
    from perdure.api.feeds import Change, Feed


class Hubs:
    """The two hubs of a server. Belongs to the server's loop.

    Args:
        readable: decodes what the app's codec has encoded.

    Attributes:
        whole: publishes whole states.
        outlines: publishes states without payloads.
    """

    def __init__(self, readable: Readable = PLAIN) -> None:
        self.whole = Hub(readable)
        self.outlines = Hub(readable)

    def __len__(self) -> int:
        """Number of subscribers."""
        return len(self.whole) + len(self.outlines)

    def start(self, feed: Feed) -> None:
        """Publish every change from now on."""
        feed.start(self.publish)

    def publish(self, changes: Sequence[Change]) -> None:
        """Publish changes to both hubs."""
        self.whole.publish(changes)
        self.outlines.publish(
            [(each, outline(state) if state is not None else None) for each, state in changes]
        )

    def say_goodbye(self) -> None:
        """Tell all subscribers that the server stops."""
        self.whole.say_goodbye()
        self.outlines.say_goodbye()
