"""Binds the functions of activities to the arguments of tasks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model.inline import InlineStep
from perdure.model.source import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.activity import Activity
    from perdure.model.payloads import Payloads
    from perdure.model.tasks import Task


class Functions:
    """Makes calls of activities' functions from tasks.

    Args:
        activities: the activities by name.
        payloads: decodes arguments.
        instances: the instances whose methods are activities, by class.
    """

    def __init__(
        self,
        activities: Mapping[str, Activity[..., Any]],
        payloads: Payloads,
        instances: Mapping[type[Any], Any],
    ) -> None:
        self._activities = activities
        self._payloads = payloads
        self._instances = instances

    def call_of(self, called: Activity[..., Any], task: Task) -> Callable[[], Any]:
        """The activity's function, or its fake, with its arguments.

        Raises:
            errors.PayloadError: the arguments cannot be decoded.
            errors.UsageError: the function is a method, and no provider has its instance.
        """
        fn = called.written
        args, kwargs = self._arguments_of(called, task)
        if called.faked_by is not None:
            fn = called.faked_by
        elif called.owner is not None:
            fn = self._bound(called, fn)
        return partial(fn, *args, **kwargs)

    def has_lookup(self, task: Task) -> bool:
        """Whether the outcome of an interrupted attempt can be looked up."""
        return self._activities[task.name].reconcile is not None

    def lookup_of(self, task: Task) -> InlineStep:
        """The call that looks up the outcome: the activity's `reconcile`, with its arguments.

        Raises:
            errors.PayloadError: the arguments cannot be decoded.
            errors.UsageError: the function is a method, and no provider has its instance.
        """
        called = self._activities[task.name]
        reconcile = called.reconcile
        assert reconcile is not None
        args, kwargs = self._arguments_of(called, task)
        look_up = partial(self._bound(called, reconcile), *args, **kwargs)
        return InlineStep(task.name, look_up, reconcile, returns=called.returns)

    def _arguments_of(
        self, called: Activity[..., Any], task: Task
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        try:
            return self._payloads.decode_arguments(called.written, task.input, what=f"activity {task.name!r}")
        except errors.PayloadError as error:
            raise placed(error, called) from None

    def _bound(self, called: Activity[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
        if called.owner is None:
            return fn
        instance = self._instances.get(called.owner)
        if instance is None:
            raise errors.UsageError(
                f"activity {called.name!r} is a method of {called.owner.__name__}, but no provider yields "
                "one: "
                f"write `@activity.provide async def name() -> AsyncIterator[{called.owner.__name__}]: "
                "yield …`"
            )
        bound: Callable[..., Any] = fn.__get__(instance)
        return bound


def placed(error: errors.PayloadError, called: Activity[..., Any] | InlineStep) -> errors.PayloadError:
    """The error with the place of the function in its message."""
    return type(error)(f"{place_of(called.written)}: {error}")
