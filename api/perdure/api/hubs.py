"""Two hubs: of whole states, and of their outlines for those who may see no payloads. What is
encoded once is shared by all who may see it.
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
    """Belongs to the server's loop.

    Args:
        readable: decodes what the app's codec has encoded.

    Attributes:
        whole: tells of states as they are.
        outlines: tells of what is left of them.
    """

    def __init__(self, readable: Readable = PLAIN) -> None:
        self.whole = Hub(readable)
        self.outlines = Hub(readable)

    def __len__(self) -> int:
        """Number of subscribers."""
        return len(self.whole) + len(self.outlines)

    def start(self, feed: Feed) -> None:
        """Tell of every change from here on."""
        feed.start(self.publish)

    def publish(self, changes: Sequence[Change]) -> None:
        """Tell of changes."""
        self.whole.publish(changes)
        self.outlines.publish(
            [(each, outline(state) if state is not None else None) for each, state in changes]
        )

    def say_goodbye(self) -> None:
        """Tell all who watch that the server stops."""
        self.whole.say_goodbye()
        self.outlines.say_goodbye()
