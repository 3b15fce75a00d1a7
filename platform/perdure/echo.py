"""A workflow that comes with perdure: `perdure echo` starts it to see that all of a platform works.
Engines and workers on Kafka serve it beside any app.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from perdure import activity, workflow
from perdure.registry import Registry

NAME: Final = "perdure.echo"


@dataclass
class EchoView:
    """The view of the echo.

    Attributes:
        text: its text.
        queues: whose workers have repeated it.
    """

    text: str
    queues: list[str]


@activity.defn(name="perdure.echo.say", timeout="30s")
async def say(text: str) -> str:
    """Repeat it."""
    return text


@workflow.defn(name=NAME)
class Echo:
    """Repeats its text, once on each queue."""

    def __init__(self, text: str, queues: list[str]) -> None:
        self.heard = EchoView(text, [])

    @workflow.run
    async def run(self, text: str, queues: list[str]) -> str:
        """The text, as the last of the queues has it."""
        for queue in queues:
            text = await say.options(queue=queue)(text)
            self.heard.queues.append(queue)
        return text

    @workflow.view
    def show(self) -> EchoView:
        """The view."""
        return self.heard


def with_echo(registry: Registry) -> Registry:
    """The app's definitions, plus the echo.

    Raises:
        UsageError: the app has another workflow of its name.
    """
    return Registry.of(
        [*registry.definitions, Echo],
        [*registry.activities.values(), say],
        registry.providers.values(),
        app=registry.app,
    )
