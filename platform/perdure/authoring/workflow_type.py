"""A workflow type: what `definition.py` reads from a class or a function."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from perdure.errors import UsageError
from perdure.model.events import WorkflowStarted
from perdure.model.retention import NOTHING_SAID, Retention
from perdure.model.signature import hints_of
from perdure.model.source import place_of

ATTRIBUTE: Final = "__perdure_definition__"
"""Of a workflow class: its definition."""


class Definition(Struct, frozen=True, eq=False, dict=True):
    """A workflow type.

    Attributes:
        name: its name in commands and histories.
        cls: your class; None for a function.
        run_fn: your function; if there is a class, its first parameter is the instance.
        signals: handlers by name; functions that take the instance first.
        on_signal: the handler of the other signals, which takes the instance and the signal's name
            first; None where there is none.
        on_signal_arguments: the same function without the name: what the other signals bring.
        queries: as `signals`.
        updates: as `signals`.
        validators: the validators of updates, by the update's name.
        views: as `signals`; at most one.
        triggers: each with the name of the signal that it sends; empty: it starts a run.
        version: of the type; new runs take the greatest one that is served.
        older: the other versions that are served, of the greatest one; `of_version` finds them.
        retention: how long its runs are kept after they have closed.
        init_takes_arguments: whether `__init__` takes the arguments of the run; otherwise it takes
            nothing.
    """

    name: str
    cls: type[Any] | None
    run_fn: Callable[..., Any]
    signals: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    on_signal: Callable[..., Any] | None = None
    on_signal_arguments: Callable[..., Any] | None = None
    queries: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    updates: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    validators: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    views: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    init_takes_arguments: bool = False
    triggers: list[tuple[Any, str]] = field(default_factory=list["tuple[Any, str]"])
    version: int = 1
    older: Mapping[int, Definition] = field(default_factory=dict[int, "Definition"])
    retention: Retention = NOTHING_SAID

    def of_version(self, version: int) -> Definition | None:
        """The version that a run began with; None when it is not served.

        Args:
            version: as the run has recorded it; 0: the run began before types had versions, or with
                the first one.
        """
        wanted = version or 1
        return self if wanted == self.version else self.older.get(wanted)

    @property
    def recorded_version(self) -> int:
        """As it is recorded in a run that begins: nothing for the first one."""
        return self.version if self.version > 1 else 0

    @property
    def all_versions(self) -> list[Definition]:
        """It and the older ones, the newest first."""
        return [self, *(self.older[each] for each in sorted(self.older, reverse=True))]

    @functools.cached_property
    def returns(self) -> Any:
        """The return annotation of the run, resolved; Any where there is none."""
        return hints_of(self.run_fn).get("return", Any)

    @property
    def view(self) -> Callable[..., Any] | None:
        """The view's function, which takes the instance; None where there is none."""
        return next(iter(self.views.values()), None)

    @functools.cached_property
    def view_turns(self) -> Iterator[int]:
        """Counts the views that this process has taken of runs of the type."""
        return itertools.count()

    @property
    def place(self) -> str:
        """`file:line` of the run."""
        return place_of(self.run_fn)

    def create(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A new instance, by the arguments of the run; None for a function workflow."""
        if self.cls is None:
            return None
        return self.cls(*args, **kwargs) if self.init_takes_arguments else self.cls()


def definition_of_run(definitions: Mapping[str, Definition], started: WorkflowStarted) -> Definition | None:
    """The definition that a run began with; None when it is not served."""
    definition = definitions.get(started.type)
    if definition is None or (not started.version and definition.version == 1):
        return definition
    return definition.of_version(started.version)


def why_unknown(definitions: Mapping[str, Definition], started: WorkflowStarted) -> str:
    """The message about a missing version, with advice."""
    definition = definitions.get(started.type)
    if definition is None:
        return f"unknown workflow type {started.type!r}; deploy the code that defines it"
    known = ", ".join(str(each.version) for each in reversed(definition.all_versions))
    return (
        f"the run began with version {started.version or 1} of the workflow type {started.type!r}, and there "
        f"is only {known}; deploy the class of that version, too"
    )


def definition_of_class(cls: type[Any]) -> Definition:
    """The definition of a workflow class.

    Raises:
        UsageError: the class is not a workflow.
    """
    found = vars(cls).get(ATTRIBUTE)
    if isinstance(found, Definition):
        return found
    raise UsageError(
        f"the class {cls.__module__}.{cls.__qualname__} is not a workflow: put @workflow.defn above it."
    )
