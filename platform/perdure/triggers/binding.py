"""Binds records to commands."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.context import HEADER
from perdure.errors import PayloadError, UsageError
from perdure.model.addresses import DeadLetter
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.model.described import described
from perdure.model.limits import ID_BYTES, fault_of_context, fault_of_id
from perdure.triggers.decoding import BadRecord, value_of

if TYPE_CHECKING:
    from perdure.authoring.trigger import TriggerSpec
    from perdure.model.commands import AnyCommand
    from perdure.model.payloads import Payloads
    from perdure.registry import Registry
    from perdure.triggers.decoding import SchemaOf
    from perdure.workflow import Definition


@dataclass(frozen=True, slots=True)
class Source:
    """A record, as it was found.

    Attributes:
        topic: where; with `partition` and `offset`.
        partition: the same.
        offset: the same.
        key: of the record.
        value: of the record.
        headers: of the record.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class _Bound:
    definition: Definition
    spec: TriggerSpec
    signal: str


class Bindings:
    """Of all workflows of an app.

    Args:
        registry: the app's.
        payloads: encodes arguments.
    """

    def __init__(self, registry: Registry, payloads: Payloads) -> None:
        self._payloads = payloads
        self._by_topic: dict[str, list[_Bound]] = {}
        for definition in registry.workflows.values():
            for spec, signal in definition.triggers:
                self._by_topic.setdefault(spec.topic, []).append(_Bound(definition, spec, signal))

    @property
    def topics(self) -> list[str]:
        """Those that are bound."""
        return sorted(self._by_topic)

    def in_words(self) -> list[str]:
        """One line a binding."""
        return [
            f"{topic} {'signals' if bound.signal else 'starts'} "
            f"{bound.definition.name}{f'.{bound.signal}' if bound.signal else ''}"
            for topic, each in sorted(self._by_topic.items())
            for bound in each
        ]

    def commands_of(self, source: Source, schema_of: SchemaOf | None = None) -> list[AnyCommand]:
        """The commands of a record: one for each trigger of its topic whose `when` matches.

        Each has a request id that is the record's own, so that a record that is read or offered
        twice acts once.

        Raises:
            BadRecord: it means nothing to one of them; `commands` is what the others make of it.
            Exception: what says that it may pass, such as a registry that is down.
        """
        commands: list[AnyCommand] = []
        fault: BadRecord | None = None
        for bound in self._by_topic.get(source.topic, ()):
            try:
                command = self._command(bound, source, schema_of)
            except BadRecord as bad:
                fault = fault or bad
                continue
            if command is not None:
                commands.append(command)
        if fault is not None:
            fault.commands = commands
            raise fault
        return commands

    def _command(self, bound: _Bound, source: Source, schema_of: SchemaOf | None) -> AnyCommand | None:
        spec, definition, signal = bound.spec, bound.definition, bound.signal
        try:
            value = value_of(spec, source.value, source.headers, schema_of and partial(_ask, schema_of))
            if spec.when is not None and not spec.when(value):
                return None
            workflow_id: Any = spec.id(value)
            fault = fault_of_id(workflow_id)
        except BadRecord:
            raise
        except _Passing as passing:
            raise passing.error from None
        except BaseException as error:
            raise BadRecord(
                "trigger_failed", f"{spec.place}: the trigger raised {described(error)}"
            ) from error
        if fault:
            raise BadRecord("bad_id", f"{spec.place}: {fault}")
        place = f"{source.topic}/{source.partition}/{source.offset}"
        request_id = _request_id(f"{place}/{definition.name}/{signal}")
        reply_to = str(DeadLetter(source.topic, source.partition, source.offset))
        if signal and not spec.starts:
            payload = self._encoded(definition.signals[signal], value, f"signal {signal!r}")
            return SignalWorkflow(workflow_id, "", request_id, reply_to, name=signal, input=payload)
        given = (
            self._encoded(definition.run_fn, value, f"workflow {definition.name!r}")
            if _takes_value(bound)
            else b"[]"
        )
        if not signal:
            return StartWorkflow(
                workflow_id,
                request_id=request_id,
                reply_to=reply_to,
                type=definition.name,
                input=given,
                if_closed="refuse",
                context=_context_of(spec, source),
            )
        return StartWorkflow(
            workflow_id,
            request_id=request_id,
            reply_to=reply_to,
            type=definition.name,
            input=given,
            if_running="attach",
            signal_name=signal,
            signal_input=self._encoded(definition.signals[signal], value, f"signal {signal!r}"),
            context=_context_of(spec, source),
        )

    def _encoded(self, fn: Any, value: Any, what: str) -> bytes:
        try:
            # of the record's types, not yet of those of the function
            payload = self._payloads.encode([value], what=what)
            self._payloads.decode_arguments(fn, payload, what=what)
        except (PayloadError, UsageError) as error:
            raise BadRecord("undecodable", str(error)) from None
        except BaseException as error:
            raise BadRecord(
                "undecodable", f"{what}: its arguments cannot be written: {described(error)}"
            ) from error
        return payload


class _Passing(Exception):
    """An exception of the schema registry: temporary, and not the record's fault."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _ask(schema_of: SchemaOf, number: int) -> str | None:
    try:
        return schema_of(number)
    except Exception as error:
        raise _Passing(error) from error


def _context_of(spec: TriggerSpec, source: Source) -> bytes:
    """The context values that a record brings."""
    data = next((value for name, value in source.headers if name == HEADER and value), b"")
    if fault := fault_of_context(data):
        raise BadRecord("undecodable", f"{spec.place}: {fault} (header {HEADER})")
    return data


def _request_id(text: str) -> str:
    """It fits, and is of this record and this trigger alone: each part may be so long that the
    others would be cut off.
    """
    if len(text) <= ID_BYTES:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[: ID_BYTES - len(digest) - 1]}/{digest}"


def _takes_value(bound: _Bound) -> bool:
    """Whether the run takes the record's value; a run started by a signal may take nothing."""
    fn = bound.definition.run_fn
    return len(inspect.signature(fn).parameters) > (1 if bound.definition.cls is not None else 0)
