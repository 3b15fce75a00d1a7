"""Handles one command: dispatches it to the handler of starts, messages, reads or token answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.engine.deleting import Deleting
from perdure.engine.earlier_runs import EarlierRuns
from perdure.engine.messages import Messages
from perdure.engine.operating import Operating
from perdure.engine.reads import Reads
from perdure.engine.starting import Starting
from perdure.engine.token_answers import TokenAnswers
from perdure.model import commands as cm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perdure.engine.activation import Activation
    from perdure.engine.ports import Clock
    from perdure.engine.sources import CommandSources
    from perdure.engine.waiters import Waiters
    from perdure.workflow import Definition


class Handler:
    """Handles single commands in the open batch.

    Args:
        starting: handles starts.
        messages: handles commands for existing runs: every command that no other handler has.
        reads: handles requests that leave no event.
        tokens: handles answers to tokens.
        deleting: handles deletions.
        operating: handles what operators decide.
    """

    __slots__ = ("_handle", "_message")

    def __init__(
        self,
        starting: Starting,
        messages: Messages,
        reads: Reads,
        *,
        tokens: TokenAnswers,
        deleting: Deleting,
        operating: Operating,
    ) -> None:
        self._message: Callable[[Any], None] = messages.handle
        self._handle: dict[type[cm.Command], Callable[[Any], None]] = {
            cm.StartWorkflow: starting.start,
            cm.ResumeWorkflow: messages.resume,
            cm.QueryWorkflow: reads.query,
            cm.AwaitWorkflow: reads.wait,
            cm.ReadHistory: reads.read_history,
            cm.ResolveToken: tokens.answer,
            cm.FailToken: tokens.answer,
            cm.WriteStream: messages.write_stream,
            cm.DeleteWorkflow: deleting.delete,
            cm.UnpauseWorkflow: operating.unpause,
            cm.RetryActivityNow: operating.override,
            cm.ResolveActivity: operating.override,
            cm.RejectActivity: operating.override,
        }

    def handle(self, command: cm.AnyCommand) -> None:
        """Handle one command."""
        self._handle.get(type(command), self._message)(command)


def handler_of(
    activation: Activation,
    sources: CommandSources,
    waiters: Waiters,
    clock: Clock,
    definitions: Mapping[str, Definition],
) -> Handler:
    """Build the handler of an engine; the classes that it wires describe the arguments."""
    messages = Messages(activation, sources.leases, clock, definitions=definitions)
    starting = Starting(activation, messages, definitions)
    earlier_runs = EarlierRuns(activation)
    reads = Reads(activation, waiters, earlier_runs)
    tokens = TokenAnswers(activation, messages.take, earlier_runs)
    return Handler(
        starting,
        messages,
        reads,
        tokens=tokens,
        deleting=Deleting(activation, sources.remover, earlier_runs),
        operating=Operating(activation, messages),
    )
