"""States, descriptions and histories as tables and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from perdure.cli.output import Format, local_time, print_facts, print_json, print_table, utc_time
from perdure.cli.printable import printable
from perdure.client.description import begins_at
from perdure.client.waits import CONDITION
from perdure.codec.wrapping import described_payload
from perdure.model.failure import FailureInfo, described, explained, place_of, text_of
from perdure.model.states import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from perdure.client.description import Description
    from perdure.model.events import AnyEvent, EventRecord
    from perdure.model.states import WorkflowState

CELL = 100
"""Characters of a value in a table."""


def print_states(states: Sequence[WorkflowState], output: Format) -> None:
    """Print one line a workflow."""
    if output is Format.JSON:
        print_json([_state(state) for state in states])
    elif not states:
        typer.echo("no workflows")
    else:
        print_table(
            ("ID", "TYPE", "STATUS", "STARTED", "ENDED", "REASON"),
            [
                (
                    state.workflow_id,
                    state.type,
                    "scheduled" if begins_at(state) else state.status,
                    local_time(begins_at(state) or state.started_at),
                    local_time(state.closed_at),
                    _reason(state),
                )
                for state in states
            ],
        )


def print_description(description: Description, state: WorkflowState, output: Format) -> None:
    """Print what one workflow is doing."""
    if output is Format.JSON:
        waits_for: dict[str, Any] = {
            "activities": description.activities,
            "timers": description.timers,
            "children": description.children,
            "messages": description.messages,
            "updates": description.updates,
            "tokens": description.tokens,
            "compensations": description.compensations,
            "others": description.others,
            "paused": description.paused,
        }
        print_json(
            {
                **_state(state),
                "history_length": description.history_length,
                "reason": description.reason,
                **waits_for,
            }
        )
        return
    print_facts(
        [
            ("id", description.workflow_id),
            ("run", description.run_id),
            ("type", description.type),
            ("parent", description.parent),
            ("status", "scheduled" if description.begins_at else description.status),
            ("started", _shown(description.started_at)),
            ("updated", _shown(description.updated_at)),
            ("ended", _shown(description.closed_at)),
            ("events", str(description.history_length)),
            ("attributes", _text(description.attributes) if description.attributes else ""),
            ("memo", _text(description.memo) if description.memo else _payload(state.memo)),
            ("view", _text(description.view) if description.view is not None else _payload(state.view)),
            ("result", _payload(state.result)),
            ("reason", description.reason),
            ("details", description.details),
        ]
    )
    if state.failure is not None:
        typer.echo()
        for line in explained(state.failure):
            typer.echo(line)
    waits = [*_waits(description)]
    if not waits and description.status is Status.RUNNING:
        waits.append(CONDITION)
    for each in waits:
        _say(f"waits for {each}")


def _waits(description: Description) -> Iterator[str]:
    """Each wait that the platform knows, as text."""
    from perdure.client.description import UNDECIDED

    if (paused := description.paused) is not None:
        by = f" by {paused.by}" if paused.by else f" by activity {paused.activity}" if paused.activity else ""
        yield f"unpause: paused{by} since {_shown(paused.since)}"
    if description.begins_at:
        yield f"its start: at {_shown(description.begins_at)}"
    for compensation in description.compensations:
        begins = "begins" if compensation.is_backing_off else "began"
        doing = f"attempt {compensation.attempt} {begins} at {_shown(compensation.retry_at)}"
        doing += f"; it has failed since {_shown(compensation.since)} ({compensation.reason})"
        yield f"compensation {compensation.name}: {doing}"
    for activity in description.activities:
        name = f"{activity.name}{_quoted(activity.summary)}"
        doing = f"{activity.doing}, attempt {activity.attempt}"
        if activity.expires_at:
            doing += f", until {_shown(activity.expires_at)}"
        if activity.retry_at:
            doing += f", next at {_shown(activity.retry_at)}"
        number = f" {activity.number}" if activity.doing == UNDECIDED else ""  # for `perdure activity`
        reason = f" ({activity.reason})" if activity.reason else ""
        yield f"activity{number} {name}: {doing}{reason}"
    for timer in description.timers:
        yield f"timer {timer.number}{_quoted(timer.summary)}: fires at {_shown(timer.fires_at)}"
    for child in description.children:
        yield f"child {child.workflow_id}{_quoted(child.summary)}: since {_shown(child.since)}"
    for update in description.updates:
        yield f"update {update.name} to end: since {_shown(update.since)}"
    for token in description.tokens:
        until = f"until {_shown(token.expires_at)}" if token.expires_at else "without a timeout"
        yield f"token {token.name or token.number}: since {_shown(token.since)}, {until}"
    for message in description.messages:
        yield f"an answer of workflow {message.workflow_id}: since {_shown(message.since)}"
    for each in description.others:
        since = f", since {_shown(each.since)}" if each.since else ""
        until = f", until {_shown(each.until)}" if each.until else ""
        yield f"{each.kind} {each.name or each.number}{since}{until}"


def _quoted(summary: str) -> str:
    return f' "{summary}"' if summary else ""


def _say(line: str) -> None:
    typer.echo(printable(line))


def print_history(records: Sequence[EventRecord], output: Format) -> None:
    """Print one line an event; as JSON without loss."""
    if output is Format.JSON:
        from perdure.codec.history import history_to_json

        typer.echo(history_to_json(records), nl=False)
        return
    print_table(
        ("#", "TIME", "EVENT", "DETAILS"),
        [
            (str(number), local_time(record.at), type(event).__name__, _details(event))
            for record in records
            for number, event in enumerate(record.events, record.first_event_id)
        ],
    )


def print_failure(error: BaseException) -> None:
    """Print to standard error where an exception of another process was raised, and its causes."""
    from perdure.codec.failures import recorded_of

    recorded = recorded_of(error)
    for line in explained(recorded) if recorded is not None else ():
        typer.echo(line, err=True)


def _state(state: WorkflowState) -> dict[str, Any]:
    return {
        "workflow_id": state.workflow_id,
        "run_id": state.run_id,
        "type": state.type,
        "parent": state.parent or None,
        "status": state.status,
        "started_at": utc_time(state.started_at),
        "updated_at": utc_time(state.updated_at),
        "closed_at": utc_time(state.closed_at),
        "begins_at": utc_time(begins_at(state)),
        "view": _raw(state.view),
        "attributes": _raw(state.attributes),
        "memo": _raw(state.memo),
        "details": state.details or None,
        "result": _raw(state.result),
        "failure": failure_json(state.failure) if state.failure else None,
        "reason": state.reason,
    }


def _reason(state: WorkflowState) -> str:
    return state.reason or (_cut(text_of(state.failure)) if state.failure else "")


def failure_json(failure: FailureInfo) -> dict[str, Any]:
    """A failure as JSON; empty fields are omitted, except type and message."""
    others: dict[str, Any] = {
        "place": place_of(failure),
        "notes": failure.notes,
        "traceback": failure.traceback,
        "cause": failure_json(failure.cause) if failure.cause is not None else None,
        "exceptions": [failure_json(each) for each in failure.exceptions or ()],
    }
    return {
        "type": failure.type,
        "message": failure.message,
        **{name: value for name, value in others.items() if value},
    }


def _chain(failure: FailureInfo) -> str:
    """The lines of an exception: type, message and place, then those of its causes and of the
    members of a group.
    """
    text = described(msgspec.structs.replace(failure, message=_cut(failure.message)))
    if failure.exceptions:
        text += f" [{'; '.join(map(_chain, failure.exceptions))}]"
    return f"{text}, caused by {_chain(failure.cause)}" if failure.cause is not None else text


_NOT_SHOWN: Final = frozenset({"token", "secret", "seed", "request_id", "python", "flags"})
"""Fields of events that say nothing to a reader; the JSON has them."""


def _details(event: AnyEvent) -> str:
    return " ".join(f"{name}={value}" for name, value in _fields(event))


def _fields(event: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """The fields worth showing: without secrets and defaults."""
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name in _NOT_SHOWN or value == field.default:
            continue
        if isinstance(value, bytes):
            yield field.name, _payload(value)
        elif isinstance(value, FailureInfo):
            yield field.name, _chain(value)
        elif field.name in ("fires_at", "retry_at", "delayed_until", "start_at"):
            yield field.name, local_time(value)
        elif isinstance(value, msgspec.Struct):
            yield from _fields(value)
        elif field.name == "requests":
            yield field.name, str(len(value))
        elif field.name == "tokens":
            yield field.name, ",".join(each.name for each in value)
        else:
            yield field.name, str(value)


def _payload(payload: bytes) -> str:
    if payload[:1] == b"\0":
        said = described_payload(payload)
        if "object" in said:
            return f"(object {said['object'][:12]}… of the store of large payloads)"
        key = f", key {said['key']}" if "key" in said else ""
        return f"({len(payload)} bytes, encoded by {said['codec']}{key})"
    return _cut(payload.decode("utf-8", "replace"))


def _raw(payload: bytes) -> msgspec.Raw | str | None:
    """A payload for embedding in JSON; an encoded payload stays encoded."""
    if not payload:
        return None
    return _payload(payload) if payload[:1] == b"\0" else msgspec.Raw(payload)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def _shown(when: datetime | None) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}" if when else ""
