"""Triggers: records of a topic that start or signal a workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeVar, cast, get_args, overload

from msgspec import Struct

from perdure.authoring.members import Member, Run, RunRef, Signal
from perdure.authoring.produce import TOPIC
from perdure.errors import UsageError
from perdure.model.source import calling_place, place_of

T = TypeVar("T")
R = TypeVar("R")
X = TypeVar("X")

Format = Literal["json", "avro", "cloudevents"]
FORMATS: Final = get_args(Format)


class TriggerSpec(Struct, frozen=True, eq=False):
    """A `@workflow.trigger(…)`.

    Attributes:
        topic: the topic that is read.
        value: what a record decodes to.
        id: returns the workflow id for a value.
        when: returns whether a value triggers anything; None: every value does.
        starts: for a signal: start a run if none is open.
        format: of the records; empty: detected from their headers, JSON otherwise.
        schema: of Avro without a registry, JSON text; empty: none.
        place: `file:line`.
    """

    topic: str
    value: Any
    id: Callable[[Any], str]
    when: Callable[[Any], bool] | None
    starts: bool
    format: str
    schema: str
    place: str


class Trigger(Generic[T]):
    """The decorator, to be put above `@workflow.run`, `@workflow.signal`, or the `@workflow.defn`
    of a function.
    """

    def __init__(self, spec: TriggerSpec) -> None:
        self._spec = spec

    @overload
    def __call__(self, target: Run[[T], R], /) -> Run[[T], R]: ...
    @overload
    def __call__(self, target: Signal[[T], X], /) -> Signal[[T], X]: ...
    @overload
    def __call__(self, target: RunRef[None, [T], R], /) -> RunRef[None, [T], R]: ...
    def __call__(self, target: Any, /) -> Any:
        spec, member = self._spec, target
        if isinstance(member, Member) and isinstance(member, Run | Signal):
            _see_that_it_takes_one(member.fn, spec, skip=1)
            if spec.starts and not isinstance(member, Signal):
                raise UsageError(
                    f"{spec.place}: workflow.trigger: start=True is for signals; a trigger on a run always "
                    "starts one."
                )
            _add(triggers_of(cast("Member", member)), spec)
        elif isinstance(member, RunRef) and not spec.starts:
            definition = cast("Any", member).definition
            _see_that_it_takes_one(definition.run_fn, spec, skip=0)
            _add([each for each, _ in definition.triggers], spec)
            definition.triggers.append((spec, ""))
        else:
            raise UsageError(
                f"{spec.place}: workflow.trigger goes above @workflow.run, @workflow.signal, or "
                "@workflow.defn of a function, not above "
                f"{target!r}."
            )
        return target


def trigger(
    topic: str,
    value: type[T],
    *,
    id: Callable[[T], str],
    when: Callable[[T], bool] | None = None,
    start: bool = False,
    format: Format | None = None,
    schema: str = "",
) -> Trigger[T]:
    """Start or signal workflows by the records of a topic, each exactly once, regardless of their
    producer.

    Args:
        topic: any topic except perdure's own.
        value: the type that a record is decoded to. It is the one argument of the run or the
            signal: a dataclass, a Struct, `dict[str, Any]`, or `perdure.triggers.CloudEvent[…]`.
        id: a plain function that returns the workflow id for a value.
        when: a plain function that returns whether a value triggers anything; by default every
            value does.
        start: of a signal: signal-with-start. When no run is open, one is started, whose run takes
            nothing, or the same value.
        format: of the records; by default CloudEvents and Avro are detected from their headers, and
            everything else is JSON.
        schema: the Avro schema, JSON text, of records that name none; with a registry they do.

    Raises:
        UsageError: the trigger is invalid; the message names the line.
    """
    place = calling_place()
    name: Any = topic
    if not isinstance(name, str) or not TOPIC.fullmatch(name):
        raise UsageError(f"{place}: workflow.trigger: {topic!r} cannot be a topic.")
    functions: Any = (id, when)
    if not callable(functions[0]) or (functions[1] is not None and not callable(functions[1])):
        raise UsageError(
            f"{place}: workflow.trigger: id and when are functions of a value: id=lambda order: order.id."
        )
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"{place}: workflow.trigger: invalid format={format!r}: must be one of {', '.join(FORMATS)}."
        )
    return Trigger(
        TriggerSpec(
            topic, value, id, when=when, starts=start, format=format or "", schema=schema, place=place
        )
    )


def triggers_of(member: Member) -> list[TriggerSpec]:
    """The triggers of a run or a signal, the nearest decorator first."""
    found: list[TriggerSpec] = member.__dict__.setdefault("_triggers", [])
    return found


def _add(known: list[TriggerSpec], spec: TriggerSpec) -> None:
    if any(each.topic == spec.topic for each in known):
        raise UsageError(
            f"{spec.place}: workflow.trigger: topic {spec.topic!r} is already bound here; put both "
            "conditions in one `when`."
        )
    known.append(spec)


def _see_that_it_takes_one(fn: Callable[..., Any], spec: TriggerSpec, skip: int) -> None:
    parameters = list(inspect.signature(fn).parameters.values())[skip:]
    if not parameters or any(each.default is each.empty for each in parameters[1:]):
        raise UsageError(
            f"{spec.place}: workflow.trigger: {fn.__qualname__} ({place_of(fn)}) must take one argument, "
            "the value of the record."
        )
