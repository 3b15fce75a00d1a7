"""The contract of the command line with programs: exit codes, one JSON document with `--json`.

With `--json`, standard output has exactly one document: the result, or `{"error": …}`. People read
the same error as a line on standard error. Kinds of errors have the names of the HTTP API's
problems (docs/howto/command-line.md lists them).
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from perdure import errors

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExitCode(IntEnum):
    """The end of a command."""

    DONE = 0
    FAILED = 1
    """Refused, failed, not there in time, or something was found (`check`, `topics check`). With
    `--json` the kind of the error says which."""
    USAGE = 2
    """The command line is wrong: nothing was tried."""


_KINDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.WorkflowAlreadyStarted, "already-started"),
    (errors.WorkflowNotFound, "workflow-not-found"),
    (errors.WorkflowFailed, "workflow-failed"),
    (errors.QueryFailed, "query-failed"),
    (errors.UpdateRejected, "update-rejected"),
    (errors.UpdateFailed, "update-failed"),
    (errors.TokenNotFound, "token-not-found"),
    (errors.TokenClosed, "token-closed"),
    (errors.NotAllowed, "not-allowed"),
    (errors.RequestRefused, "limit-exceeded"),
    (errors.NotClosed, "not-closed"),
    (errors.ReadLags, "read-lags"),
    (errors.EngineUnavailable, "engine-unavailable"),
    (errors.InfrastructureError, "unavailable"),
    (errors.ClientError, "invalid-request"),
    (errors.UsageError, "invalid-request"),
)
"""From the special to the general."""

USAGE: Final = "usage"

_NEXT: Final = {
    USAGE: ["perdure COMMAND --help"],
    "already-started": [
        "perdure workflow show ID",
        "perdure workflow start ID TYPE --if-running attach",
        "perdure workflow start ID TYPE --if-running terminate",
    ],
    "workflow-not-found": ["perdure workflow list", "perdure workflow list --prefix PREFIX"],
    "workflow-failed": ["perdure workflow history ID", "perdure workflow show ID"],
    "query-failed": ["perdure workflow show ID"],
    "update-rejected": ["perdure workflow show ID"],
    "update-failed": ["perdure workflow history ID"],
    "token-not-found": ["perdure workflow show ID"],
    "token-closed": ["perdure workflow history ID"],
    "not-allowed": ["set PERDURE_TOKEN to a key whose role allows it", "perdure api-keys create NAME"],
    "not-closed": ["perdure workflow show ID", "perdure workflow result ID --timeout 60s"],
    "engine-unavailable": ["perdure dev APP", "perdure engine APP", "repeat the command"],
    "read-lags": ["repeat the command"],
    "unavailable": ["repeat the command when the platform can be reached"],
}


def kind_of(error: BaseException) -> str:
    """The kind of an error; kinds never change their names."""
    return next((kind for each, kind in _KINDS if isinstance(error, each)), "internal")


def error_document(kind: str, message: str, error: BaseException | None = None) -> dict[str, Any]:
    """An error for programs.

    Args:
        kind: of `kind_of`.
        message: what is wrong, and what to do.
        error: the exception, if it may have the failure of a run as its cause.
    """
    found: dict[str, Any] = {
        "kind": kind,
        "message": message,
        "next": _NEXT.get(kind, []),
        "may_succeed_later": kind in _LATER,
    }
    if isinstance(error, errors.WorkflowFailed | errors.UpdateFailed):
        from perdure.cli.rendering import failure_json
        from perdure.codec.failures import recorded_of

        recorded = recorded_of(error.cause)
        found["failure"] = (
            failure_json(recorded)
            if recorded is not None
            else {"type": type(error.cause).__name__, "message": str(error.cause)}
        )
    return {"error": found}


_LATER: Final = frozenset({"engine-unavailable", "not-closed", "read-lags", "unavailable"})
"""Kinds of errors after which the same command may succeed."""


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, even one that is wrong otherwise."""
    given = list(arguments)
    if "--" in given:
        given = given[: given.index("--")]
    pairs = pairwise(given)
    return (
        "--json" in given
        or any(each in {"-ojson", "--output=json"} for each in given)
        or any(pair in {("-o", "json"), ("--output", "json")} for pair in pairs)
    )
