"""Reports how batches end: failures and dead letters of committed ones, and the reason when one was
aborted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.failure_log import FailureLog
from perdure.engine.operator_log import Report, ThrottledReport
from perdure.engine.quarantine import Poison, Reaction
from perdure.engine.run_log import explain
from perdure.model.described import described

if TYPE_CHECKING:
    from perdure.engine.counts import Counts
    from perdure.engine.outbox import BatchOutbox
    from perdure.engine.ports import RefusedCommand
    from perdure.model.commands import AnyCommand


class BatchLog:
    """The batch reports of one engine.

    Args:
        report: receives the messages.
        counts: counts dead letters.
    """

    __slots__ = ("_counts", "_failures", "_report", "_report_letter")

    def __init__(self, report: Report, counts: Counts) -> None:
        self._report = report
        self._report_letter = ThrottledReport(report)
        self._counts = counts
        self._failures = FailureLog()

    def committed(self, outbox: BatchOutbox) -> None:
        """Log a committed batch: its events, its failures, and its dead letters."""
        batch = outbox.batch
        explain(batch)
        self._failures.write(outbox.failures, outbox.refused)
        for refused in batch.letters:
            self._counts.letters[refused.reason] += 1
            self._report_letter(
                _notice(refused),
                workflow_id=refused.command.workflow_id,
                run_id=refused.command.run_id,
            )

    def aborted(self, verdict: Reaction | Poison, error: Exception) -> str:
        """Report an aborted batch.

        Args:
            verdict: what the engine does next.
            error: the cause.

        Returns:
            The message; empty when the error is raised instead.
        """
        where: dict[str, str] = {}
        message: str
        match verdict:
            case Reaction.RETRY:
                message = f"{error}; no data lost, retrying"
            case Reaction.WITHOUT_EXTRAS:
                message = (
                    f"a batch cannot be written: {described(error)}; retrying it without replies to waiting "
                    "clients, and without removing closed runs"
                )
            case Reaction.ONE_BY_ONE:
                message = f"a batch cannot be written: {described(error)}; retrying its commands one by one"
            case Poison(command, fault, _):
                message = _condemnation(command, fault)
                where = {"workflow_id": command.workflow_id, "run_id": command.run_id}
            case Reaction.RAISE:
                return ""
        self._report(message, **where)
        return message


def _condemnation(command: AnyCommand, message: str) -> str:
    return (
        f"{type(command).__name__} for workflow {command.workflow_id!r} cannot be handled: {message}. It "
        "becomes a dead letter; the others continue. Unless your code or codec raised this, it is a bug in "
        "perdure: please report it"
    )


def _notice(refused: RefusedCommand) -> str:
    command = refused.command
    about = (
        f"{type(command).__name__} for workflow {command.workflow_id!r} has become a dead letter "
        f"({refused.reason})"
    )
    return f"{about}: {refused.message}"
