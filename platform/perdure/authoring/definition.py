"""Definition of a workflow type, read from your class or function and checked at import."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

from msgspec.structs import replace

from perdure.authoring.members import Member, OnSignal, Query, Run, RunRef, Signal, Update, View
from perdure.authoring.workflow_type import ATTRIBUTE, Definition, definition_of_class
from perdure.errors import UsageError
from perdure.model.duration import Duration
from perdure.model.generics import home_of, specialised
from perdure.model.limits import fault_of_id
from perdure.model.retention import NOTHING_SAID, Retention, retention_of
from perdure.model.signature import hints_of, remember_local_names, takes_self, without_first
from perdure.model.source import calling_place, is_ours, place_of

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

LARGEST_VERSION: Final = 1_000_000_000

RESERVED: Final = "perdure."
"""Prefix of the names of workflows that come with perdure, and of its modules."""

DEFINED: Final[list[Definition]] = []
"""Every workflow of this process, in the order of definition."""


class Decorator(Protocol):
    """`@workflow.defn(…)`."""

    @overload
    def __call__(self, cls: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> RunRef[None, P, R]: ...


@overload
def defn(cls: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]
@overload
def defn(fn: Callable[P, Coroutine[Any, Any, R]], /) -> RunRef[None, P, R]: ...
@overload
def defn(
    *, name: str | None = None, version: int = 1, retention: Retention | Duration | None = ...
) -> Decorator: ...
def defn(target: Any = None, /, **options: Any) -> Any:
    """Make a class, or an `async def`, a workflow. Use it bare, or with options.

    `__init__` takes nothing, or exactly what the run takes (checked at import).

    Args:
        target: the class or the function.
        options: `name`, by default that of the class or function; `version`, by default 1: of
            several with one name, new runs take the greatest, and open runs keep theirs;
            `retention`, how long a run is kept after it has closed: a duration, a `Retention` for
            one by outcome, None for ever. By default, what the engine's option says.

    Raises:
        UsageError: the target cannot be a workflow; the message names the line and what to change.
    """
    place = calling_place()
    if odd := options.keys() - {"name", "version", "retention"}:
        raise UsageError(
            f"{place}: workflow.defn has no option {min(odd)!r}, only name, version and retention."
        )
    name, version = options.get("name"), options.get("version", 1)
    if name is not None and (fault := fault_of_id(name, "name")):
        raise UsageError(f"{place}: workflow.defn: {fault}")
    if type(version) is not int or not 0 < version <= LARGEST_VERSION:
        raise UsageError(
            f"{place}: workflow.defn: version must be a whole number from 1 to {LARGEST_VERSION}, not "
            f"{version!r}."
        )
    try:
        retention = retention_of(options.get("retention", NOTHING_SAID))
    except UsageError as error:
        raise UsageError(f"{place}: workflow.defn: {error}") from None
    if target is None:
        return functools.partial(_define, name=name, version=version, retention=retention, place=place)
    return _define(target, name, version, retention, place)


def ours(target: Any, name: str) -> Definition:
    """The definition of a workflow that comes with perdure. It is not in `DEFINED`.

    Args:
        target: a class, or a coroutine function.
        name: of the type, which begins with `perdure.`.
    """
    if isinstance(target, type):
        definition = _of_class(target, name, 1, name)
        setattr(target, ATTRIBUTE, definition)
        return definition
    return _of_function(target, name, 1, name)


def definition_of(target: object) -> Definition:
    """The definition of a workflow class, of a run seen from its class, or of a function workflow.

    Raises:
        UsageError: it is not a workflow.
    """
    if isinstance(target, RunRef):
        return target.definition
    if isinstance(target, type):
        return definition_of_class(target)
    for definition in reversed(DEFINED):
        if definition.run_fn is target:
            return definition
    raise UsageError(
        f"{target!r} is not a workflow: give a class or a function that is marked with @workflow.defn."
    )


def _define(target: Any, name: str | None, version: int, retention: Retention, place: str) -> Any:
    if name is not None and name.startswith(RESERVED) and not is_ours(getattr(target, "__module__", "")):
        raise UsageError(f"{place}: workflow.defn: {name!r}: names of perdure's own begin with {RESERVED!r}.")
    if isinstance(target, type):
        definition = replace(_of_class(target, name or target.__name__, version, place), retention=retention)
        setattr(target, ATTRIBUTE, definition)
        result: Any = target
    else:
        definition = replace(_of_function(target, name, version, place), retention=retention)
        result = RunRef[Any, Any, Any](None, target, definition)
    DEFINED.append(definition)
    return result


def _of_function(fn: Any, name: str | None, version: int, place: str) -> Definition:
    if not isinstance(fn, FunctionType) or not inspect.iscoroutinefunction(fn):
        raise UsageError(f"{place}: a workflow is a class or an `async def`, not {fn!r}.")
    if takes_self(fn):
        raise UsageError(
            f"{place_of(fn)}: {fn.__qualname__} is a method: put @workflow.defn on the class and "
            "@workflow.run here."
        )
    remember_local_names(fn)
    return Definition(name or fn.__name__, None, fn, version=version)


def _of_class(cls: type[Any], name: str, version: int, place: str) -> Definition:
    members = _members(cls)
    runs: list[Member] = [m for m in members.values() if isinstance(m, Run)]
    if not runs:
        raise UsageError(
            f"{place}: the workflow {cls.__name__} has no run: put @workflow.run above its main method."
        )
    if len(runs) > 1:
        names = " and ".join(f"{m.name} ({place_of(m.fn)})" for m in runs)
        raise UsageError(f"{place}: the workflow {cls.__name__} has more than one run: {names}; keep one.")
    views = {n: m.of_class(cls) for n, m in members.items() if isinstance(m, View)}
    if len(views) > 1:
        raise UsageError(
            f"{place}: the workflow {cls.__name__} has more than one view: {' and '.join(views)}; return "
            "everything in one."
        )
    triggers = [
        (spec, m.wire_name if isinstance(m, Signal) else "")
        for m in members.values()
        for spec in getattr(m, "_triggers", ())
    ]
    run_fn = runs[0].of_class(cls)
    _see_that_a_start_fits(cls, triggers, run_fn)
    _see_that_validators_fit(members)
    others = [m.of_class(cls) for m in members.values() if isinstance(m, OnSignal)]
    if len(others) > 1:
        raise UsageError(f"{place}: the workflow {cls.__name__} has more than one on_signal; keep one.")
    return Definition(
        name,
        cls,
        run_fn,
        signals=_by_name(cls, members, Signal),
        on_signal=others[0] if others else None,
        on_signal_arguments=without_first(others[0]) if others else None,
        queries=_by_name(cls, members, Query),
        updates=_by_name(cls, members, Update),
        validators={
            m.wire_name: m.validates
            for m in members.values()
            if isinstance(m, Update) and m.validates is not None
        },
        views=views,
        init_takes_arguments=_init_takes_arguments(cls, run_fn),
        triggers=triggers,
        version=version,
    )


def _by_name(cls: type[Any], members: dict[str, Member], kind: type[Member]) -> dict[str, Callable[..., Any]]:
    """The functions of one kind of members, by the names that travel."""
    found: dict[str, Callable[..., Any]] = {}
    for member in members.values():
        if not isinstance(member, kind):
            continue
        if member.wire_name in found:
            raise UsageError(
                f"{place_of(member.fn)}: the workflow {cls.__name__} has two of kind {member.kind} named "
                f"{member.wire_name!r}: give one of them another name."
            )
        found[member.wire_name] = member.of_class(cls)
    return found


def _see_that_validators_fit(members: dict[str, Member]) -> None:
    """Check that each validator takes the arguments of its update."""
    for member in members.values():
        if not isinstance(member, Update) or member.validates is None:
            continue
        wanted, found = _parameters(member.fn), _parameters(member.validates)
        if [(each.name, each.kind) for each in found] != [(each.name, each.kind) for each in wanted]:
            raise UsageError(
                f"{place_of(member.validates)}: the validator of {member.name} gets what the update gets, "
                f"{_in_words(wanted)}, but takes {_in_words(found)}."
            )


def _see_that_a_start_fits(
    cls: type[Any], triggers: list[tuple[Any, str]], run_fn: Callable[..., Any]
) -> None:
    """Check that a signal that starts runs can do so: the run takes nothing, or the signal's
    value.
    """
    if len([each for each in _parameters(run_fn) if each.default is each.empty]) <= 1:
        return
    for spec, signal in triggers:
        if spec.starts:
            raise UsageError(
                f"{spec.place}: workflow.trigger: start=True on {cls.__name__}.{signal} would start a run "
                "that takes more than one argument."
            )


def _members(cls: type[Any]) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            before = members.get(name)
            if not isinstance(value, Member):
                if before is not None:
                    raise UsageError(
                        f"{place_of(value)}: {base.__name__}.{name} replaces a {before.kind}: put "
                        f"@workflow.{before.kind} above it."
                    )
                continue
            if before is not None and type(before) is not type(value):
                raise UsageError(
                    f"{place_of(value.fn)}: {base.__name__}.{name} is a {value.kind}, but a {before.kind} "
                    "in a base class."
                )
            if value.name != name:
                raise UsageError(
                    f"{place_of(value.fn)}: one {value.kind} has two names, {name} and {value.name}; keep "
                    "one."
                )
            members[name] = value
    return members


def _init_takes_arguments(cls: type[Any], run_fn: Callable[..., Any]) -> bool:
    if cls.__init__ is object.__init__:
        return False
    own, runs = _parameters(cls.__init__), _parameters(run_fn)
    if not own:
        return False
    if own != runs and not _mean_the_same(cls, own, run_fn, runs):
        raise UsageError(
            f"{place_of(cls.__init__)}: __init__ of the workflow {cls.__name__} takes ({_in_words(own)}); "
            "it must take nothing, or "
            f"exactly what the run takes: ({_in_words(runs)})."
        )
    return True


def _mean_the_same(
    cls: type[Any], own: list[inspect.Parameter], run_fn: Callable[..., Any], runs: list[inspect.Parameter]
) -> bool:
    """Whether two annotations agree, although one says `T` where the other says `Order`."""
    init = specialised(cls.__init__, cls, home_of(cls.__init__, cls))
    if [each.replace(annotation=each.empty) for each in own] != [
        each.replace(annotation=each.empty) for each in runs
    ]:
        return False
    try:
        by_init, by_run = hints_of(init), hints_of(run_fn)
    except UsageError:  # a name that is defined further down
        return False
    return all(by_init.get(each.name, Any) == by_run.get(each.name, Any) for each in runs)


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(fn).parameters.values())[1:]


def _in_words(parameters: list[inspect.Parameter]) -> str:
    return ", ".join(str(p) for p in parameters)
