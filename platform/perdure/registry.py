"""What a process serves: the workflows and activities that its modules define."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from perdure import activity, workflow
from perdure.activity import Activity
from perdure.errors import UsageError
from perdure.model.source import place_of
from perdure.workflow import Definition


@dataclass(slots=True)
class Registry:
    """Workflow types and activities by name.

    Attributes:
        workflows: by type name.
        activities: by name, steps included.
        providers: factories that workers keep open, by the class whose instance they give.
    """

    workflows: dict[str, Definition] = field(default_factory=dict[str, Definition])
    activities: dict[str, Activity[..., Any]] = field(default_factory=dict[str, Activity[..., Any]])
    providers: dict[type[Any], Any] = field(default_factory=dict[type[Any], Any])

    @classmethod
    def of_everything_imported(cls) -> Registry:
        """All that has been defined in this process so far.

        Raises:
            UsageError: two types or two activities have one name.
        """
        return cls.of(workflow.DEFINED, activity.DEFINED, activity.PROVIDERS)

    @classmethod
    def of(
        cls,
        workflows: Iterable[Any] = (),
        activities: Iterable[Activity[..., Any]] = (),
        providers: Iterable[Any] = (),
    ) -> Registry:
        """What is named here.

        Args:
            workflows: classes, function workflows or their definitions.
            activities: what `@activity.defn` and `@activity.step` made.
            providers: what `@activity.provide` made.

        Raises:
            UsageError: two types or two activities have one name.
        """
        registry = cls()
        for each in workflows:
            definition = each if isinstance(each, Definition) else workflow.definition_of(each)
            _add(registry.workflows, definition.name, definition, "workflow types")
        for each in activities:
            if not isinstance(each, Activity):
                raise UsageError(
                    f"{each!r} is not an activity: give a function that is marked with @activity.defn or @activity.step."
                )
            _add(registry.activities, each.name, each, "activities")
        for each in providers:
            if not isinstance(each, activity.Provider):
                raise UsageError(f"{each!r} is not a provider: give one of activity.PROVIDERS, made by @activity.provide.")
            registry.providers[each.provides] = each
        return registry


def _add(known: dict[str, Any], name: str, new: Any, what: str) -> None:
    old = known.get(name)
    if old is not None and old is not new and _name(old) != _name(new):
        both = " and ".join(f"{_name(each)} ({place_of(_function(each))})" for each in (old, new))
        raise UsageError(f'two {what} have the name {name!r}: {both}; give one of them another with name="…"')
    known[name] = new


def _function(thing: Any) -> Any:
    return getattr(thing, "run_fn", None) or thing.fn


def _name(thing: Any) -> str:
    shown = getattr(thing, "cls", None) or _function(thing)
    return f"{shown.__module__}.{shown.__qualname__}"
