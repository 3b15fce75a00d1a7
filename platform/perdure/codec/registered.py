"""Checks at load that everything an app registers can be encoded and decoded by its annotations."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perdure.activity import Activity
from perdure.codec.arguments import Arguments
from perdure.codec.foreign import shown, undecodable
from perdure.codec.values import decoder_of
from perdure.errors import UsageError
from perdure.model.signature import hints_of
from perdure.model.source import place_of
from perdure.workflow import Definition


def check_registered(
    workflows: Iterable[Definition],
    activities: Iterable[Activity[..., Any]],
    provided: Iterable[type[Any]] | None,
) -> None:
    """Check the annotations of workflows and activities, and that every activity method has a
    provider.

    Args:
        workflows: with their signals, queries, views and triggers.
        activities: steps included.
        provided: the classes that have a provider; None: another process provides them.

    Raises:
        UsageError: the first that cannot work, with its file and line.
    """
    for each in workflows:
        _check_workflow(each)
    classes = None if provided is None else set(provided)
    for activity in activities:
        _check_function(activity.fn, f"activity {activity.name!r}", returns=True)
        if classes is not None and activity.owner is not None and activity.owner not in classes:
            owner = activity.owner.__name__
            raise UsageError(
                f"{place_of(activity.fn)}: activity {activity.name!r} is a method of {owner}, but no "
                "provider yields one: "
                f"write `@activity.provide async def name() -> AsyncIterator[{owner}]: yield ...`"
            )


def _check_workflow(definition: Definition) -> None:
    what = f"workflow {definition.name!r}"
    _check_function(definition.run_fn, what, returns=True)
    members: tuple[tuple[str, Mapping[str, Callable[..., Any]]], ...] = (
        ("signal", definition.signals),
        ("query", definition.queries),
        ("view", definition.views),
    )
    for kind, functions in members:
        for name, fn in functions.items():
            _check_function(fn, f"{kind} {name!r} of {what}", returns=kind != "signal")
    if definition.on_signal_arguments is not None:
        _check_function(definition.on_signal_arguments, f"on_signal of {what}", returns=False)
    for spec, _ in definition.triggers:
        arguments = typing.get_args(spec.value)
        _check(
            arguments[0] if _is_cloud_event(spec.value) and arguments else spec.value,
            spec.place,
            "the value of the trigger",
        )


def _check_function(fn: Callable[..., Any], what: str, *, returns: bool) -> None:
    place = place_of(fn)
    hints = hints_of(fn)
    for parameter in Arguments(fn).names:
        _check(hints.get(parameter, Any), place, f"{what}: argument {parameter!r}")
    if returns:
        _check(hints.get("return", Any), place, f"the result of {what}")


def _check(annotation: Any, place: str, what: str) -> None:
    try:
        decoder_of(annotation)
    except UsageError as error:
        raise UsageError(f"{place}: {what} {error}") from None
    if (odd := undecodable(annotation)) is not None:
        raise UsageError(
            f"{place}: {what} is of type {shown(odd)}, which cannot be decoded from JSON; use a dataclass, "
            "an enum, or a built-in type"
        )


def _is_cloud_event(annotation: Any) -> bool:
    origin: Any = typing.get_origin(annotation) or annotation
    return getattr(origin, "__module__", "") == "perdure.triggers.cloudevents"
