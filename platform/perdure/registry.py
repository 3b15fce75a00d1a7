"""Registry of the workflows and activities that a process serves."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, cast

from msgspec.structs import replace

from perdure import activity, workflow
from perdure.activity import Activity
from perdure.app import NO_APP, App, apps_in
from perdure.builtin import WORKFLOWS
from perdure.errors import Failure, UsageError
from perdure.model.options import ActivityOptions
from perdure.model.source import place_of
from perdure.workflow import Definition


@dataclass(slots=True)
class Registry:
    """Workflow types and activities by name.

    Attributes:
        workflows: by type name, the newest version of each; it has the older ones.
        activities: by name, steps included.
        providers: factories that workers keep open, by the class whose instance they give.
        ambiguous: for tests: workflow types that have one name and are not served, and what to do.
        app: codec, interceptors and store of large payloads of every process that serves it.
    """

    workflows: dict[str, Definition] = field(default_factory=dict[str, Definition])
    activities: dict[str, Activity[..., Any]] = field(default_factory=dict[str, Activity[..., Any]])
    providers: dict[type[Any], Any] = field(default_factory=dict[type[Any], Any])
    ambiguous: dict[str, str] = field(default_factory=dict[str, str])
    app: App = NO_APP

    @property
    def definitions(self) -> list[Definition]:
        """All workflow types, in all versions."""
        return [each for newest in self.workflows.values() for each in newest.all_versions]

    @property
    def served(self) -> Mapping[str, Definition]:
        """The workflow types that an engine serves: those of the app, and those that come with
        perdure.
        """
        return {**self.workflows, **WORKFLOWS}

    @classmethod
    def of_everything_imported(cls) -> Registry:
        """All that has been defined in this process so far.

        Raises:
            UsageError: two types or two activities have one name.
        """
        return cls.of(workflow.DEFINED, activity.DEFINED, activity.PROVIDERS)

    @classmethod
    def seen_from(cls, module: str, app: App | None = None) -> Registry:
        """All that has been imported, for a test: modules of one test session may give one name to
        different things.

        Such a name means what the module defines or imports, or what is defined where it imports
        from. If that leaves more than one, the workflow is in `ambiguous`, and the activity fails
        its run with the reason. So it is with the `App`.

        Args:
            module: the test's.
            app: what the test passes for it; None: look for it.

        Raises:
            UsageError: several modules nearby say something else about the app.
        """
        near = _modules_near(module)
        workflows, ambiguous = _chosen(workflow.DEFINED, near, "workflow types")
        activities, unclear = _chosen(
            _with_inherited(activity.DEFINED, activity.PROVIDERS), near, "activities"
        )
        registry = cls._of(workflows, activities, activity.PROVIDERS)
        registry.ambiguous = ambiguous
        registry.app = _app_near(near) if app is None else app
        registry.activities |= {name: _failing(name, message) for name, message in unclear.items()}
        return registry

    @classmethod
    def of(
        cls,
        workflows: Iterable[Any] = (),
        activities: Iterable[Activity[..., Any]] = (),
        providers: Iterable[Any] = (),
        app: App = NO_APP,
    ) -> Registry:
        """A registry of these workflows and activities.

        Args:
            workflows: classes, function workflows or their definitions.
            activities: what `@activity.defn` and `@activity.step` made.
            providers: what `@activity.provide` made; of two for one class, the later counts.
            app: codec, interceptors and store of large payloads.

        Raises:
            UsageError: two types or two activities have one name, also if one of them is inherited.
        """
        providers = list(providers)
        return cls._of(workflows, _with_inherited(activities, providers), providers, app)

    @classmethod
    def _of(
        cls,
        workflows: Iterable[Any],
        activities: Iterable[Activity[..., Any]],
        providers: Iterable[Any],
        app: App = NO_APP,
    ) -> Registry:
        registry = cls(app=app)
        for each in workflows:
            definition = each if isinstance(each, Definition) else workflow.definition_of(each)
            _add_workflow(registry.workflows, definition)
        for each in activities:
            if not isinstance(each, Activity):
                raise UsageError(
                    f"{each!r} is not an activity: give a function that is marked with @activity.defn or "
                    "@activity.step."
                )
            _add(registry.activities, each.name, each, "activities")
        for each in providers:
            if not isinstance(each, activity.Provider):
                raise UsageError(
                    f"{each!r} is not a provider: give one of activity.PROVIDERS, made by @activity.provide."
                )
            registry.providers[each.provides] = each
        return registry


def _with_inherited(
    activities: Iterable[Activity[..., Any]], providers: Iterable[Any]
) -> list[Activity[..., Any]]:
    """Activities, and those that provided classes inherit.

    The activity of a base class that is not provided itself is served by the one subclass that is.

    Raises:
        UsageError: a method of a subclass replaces an activity and is none.
    """
    classes = [each.provides for each in providers if isinstance(each, activity.Provider)]
    inherited = [each for cls in dict.fromkeys(classes) for each in _inherited_by(cls)]
    found: list[Activity[..., Any]] = []
    for each in activities:
        owner: Any = getattr(each, "owner", None)
        heirs = [cls for cls in dict.fromkeys(classes) if owner is not None and issubclass(cls, owner)]
        found += [each] if owner is None or owner in heirs or not heirs else _served_by(each, heirs)
    return found + inherited


def _served_by(base: Activity[..., Any], heirs: list[type[Any]]) -> list[Activity[..., Any]]:
    """The activities that serve an activity of a class that is not provided."""
    if any(getattr(cls, base.attribute).name == base.name for cls in heirs):
        return []  # the name was given: they inherit it
    if len(heirs) > 1:
        names = " and ".join(cls.__name__ for cls in heirs)
        message = (
            f"activity {base.name!r} is a method of a base class of {names}: call it on the one that you "
            f"mean, as in {heirs[0].__name__}.{base.attribute}(…)"
        )
        return [_failing(base.name, message)]
    if [each.owner for each in base.stand_ins] != heirs:
        own: Activity[..., Any] = getattr(heirs[0], base.attribute)
        base.stand_ins[:] = [own.stand_in_for(heirs[0], base.name)]
        base.stand_ins[0].faked_by = base.faked_by
    return list(base.stand_ins)


def _inherited_by(cls: type[Any]) -> list[Activity[..., Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            before = found.get(name)
            if isinstance(value, Activity):
                found[name] = value
            elif before is not None:
                raise UsageError(
                    f"{place_of(value) if isinstance(value, FunctionType) else base.__qualname__}: "
                    f"{base.__name__}.{name} replaces the activity {before.name!r}: put @activity.defn "
                    "above it."
                )
    return [getattr(cls, name) for name, value in found.items() if value.owner is not cls]


def _modules_near(module: str) -> set[str]:
    """A module, and those that define what it imports."""
    names: dict[str, Any] = vars(sys.modules[module]) if module in sys.modules else {}
    near = {module}
    for value in list(names.values()):
        kind: Any = cast("Any", type(value))
        near.add(value.__name__ if kind is ModuleType else str(getattr(kind, "__module__", "")))
        if issubclass(kind, type | FunctionType | Activity | workflow.RunRef):
            near.add(str(value.__module__))
    return near


def _app_near(names: set[str]) -> App:
    """The app of these modules."""
    found = apps_in(sys.modules[name] for name in sorted(names) if name in sys.modules)
    if len(found) > 1:
        raise UsageError(
            "several modules that this test uses have an App; pass the one that counts: "
            "testing.Environment(app=app)"
        )
    return found[0] if found else NO_APP


def _chosen(defined: Iterable[Any], near: set[str], what: str) -> tuple[list[Any], dict[str, str]]:
    """One definition a name, those nearby before others; and of the names that have several, what
    to do.
    """
    by_name: dict[tuple[str, int], dict[str, Any]] = {}
    for each in defined:
        by_name.setdefault((each.name, getattr(each, "version", 1)), {})[_name(each)] = each
    chosen: list[Any] = []
    unclear: dict[str, str] = {}
    for (name, _), meanings in by_name.items():
        found = list(meanings.values())
        if len(found) > 1:
            found = [each for each in found if _function(each).__module__ in near]
        if len(found) == 1:
            chosen += found
        else:
            places = " and ".join(
                f"{_name(each)} ({place_of(_function(each))})" for each in meanings.values()
            )
            unclear[name] = (
                f"several {what} have the name {name!r}: {places}; pass the ones to serve: "
                "testing.Environment(Registry.of(workflows, activities))"
            )
    return chosen, unclear


def _failing(name: str, message: str) -> Activity[..., Any]:
    def fails(*args: object, **kwargs: object) -> None:
        raise Failure(message)

    return Activity[..., Any](fails, name, ActivityOptions())


def _add_workflow(known: dict[str, Definition], new: Definition) -> None:
    """Several versions of a type are one entry: the newest, with the others in it."""
    before = known.get(new.name)
    if before is None:
        known[new.name] = new
        return
    versions = {each.version: each for each in before.all_versions}
    for each in new.all_versions:
        same = versions.get(each.version)
        if same is not None and _name(same) != _name(each):
            number = f" and the version {each.version}" if each.version > 1 or len(versions) > 1 else ""
            both = " and ".join(f"{_name(it)} ({place_of(_function(it))})" for it in (same, each))
            raise UsageError(
                f"two workflow types have the name {new.name!r}{number}: {both}; give one of them another "
                'with name="…", or another version'
            )
        versions[each.version] = each
    newest = versions.pop(max(versions))
    older = {number: replace(each, older={}) for number, each in versions.items()}
    known[new.name] = replace(newest, older=older) if older else newest


def _add(known: dict[str, Any], name: str, new: Any, what: str) -> None:
    old = known.get(name)
    if old is not None and old is not new and _name(old) != _name(new):
        both = " and ".join(f"{_name(each)} ({place_of(_function(each))})" for each in (old, new))
        raise UsageError(f'two {what} have the name {name!r}: {both}; give one of them another with name="…"')
    known[name] = new


def _function(thing: Any) -> Any:
    return getattr(thing, "run_fn", None) or thing.fn


def _name(thing: Any) -> str:
    if isinstance(thing, Activity) and thing.owner is not None:
        return f"{thing.owner.__module__}.{thing.owner.__qualname__}.{thing.attribute}"
    shown: Any = getattr(cast("Any", thing), "cls", None) or _function(thing)
    return f"{shown.__module__}.{shown.__qualname__}"
