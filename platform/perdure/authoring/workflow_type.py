"""A workflow type: what `definition.py` reads from a class or a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct, field

from perdure.errors import UsageError
from perdure.model.signature import hints_of
from perdure.model.source import place_of

ATTRIBUTE: Final = "__perdure_definition__"
"""Of a workflow class: its definition."""


class Definition(Struct, frozen=True, eq=False, dict=True):
    """A workflow type.

    Attributes:
        name: by which commands and histories know it.
        cls: your class; None for a function.
        run_fn: your function; it takes the instance first when there is a class.
        signals: handlers by name; functions that take the instance first.
        queries: the same.
        updates: the same.
        validators: of those updates that have one.
        views: at most one.
        triggers: each with the signal it sends; empty: it starts.
        init_takes_arguments: `__init__` takes what the run takes, else nothing.
    """

    name: str
    cls: type[Any] | None
    run_fn: Callable[..., Any]
    signals: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    queries: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    updates: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    validators: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    views: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, "Callable[..., Any]"])
    init_takes_arguments: bool = False
    triggers: list[tuple[Any, str]] = field(default_factory=list["tuple[Any, str]"])

    @functools.cached_property
    def returns(self) -> Any:
        """The return annotation of the run, resolved; Any where there is none."""
        return hints_of(self.run_fn).get("return", Any)

    @property
    def view(self) -> Callable[..., Any] | None:
        """The view's function, which takes the instance; None where there is none."""
        return next(iter(self.views.values()), None)

    @property
    def place(self) -> str:
        """`file:line` of the run."""
        return place_of(self.run_fn)

    def create(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A new instance, by the arguments of the run; None for a function workflow."""
        if self.cls is None:
            return None
        return self.cls(*args, **kwargs) if self.init_takes_arguments else self.cls()


def definition_of_class(cls: type[Any]) -> Definition:
    """The definition of a workflow class.

    Raises:
        UsageError: it is not a workflow.
    """
    found = vars(cls).get(ATTRIBUTE)
    if isinstance(found, Definition):
        return found
    raise UsageError(
        f"the class {cls.__module__}.{cls.__qualname__} is not a workflow: put @workflow.defn above it."
    )
