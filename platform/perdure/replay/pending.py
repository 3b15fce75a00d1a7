"""Pending actions of a run's code: not yet recorded, or awaiting their outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from perdure.model.actions import AnyAction

W = TypeVar("W")


class Actions:
    """Actions of the code since the driver last took them, in order."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[AnyAction] = []

    def take(self) -> list[AnyAction]:
        """The actions; none is left."""
        items, self.items = self.items, []
        return items

    def withdraw(self, kind: type[Any], number: int) -> bool:
        """Remove an action that was not taken yet; whether there was one."""
        items: list[Any] = self.items
        for index in range(len(items) - 1, -1, -1):
            action: Any = items[index]
            if type(action) is kind and action.number == number:
                del items[index]
                return True
        return False


class Pending(Generic[W]):
    """Actions of one kind, numbered from 1, and what waits for the outcome of each.

    Args:
        actions: of the run.
        kind: of the action.
        cancel: the action that cancels one; it has the same `number`.

    Attributes:
        count: the number of the last one.
        waiting: what waits, by number.
    """

    __slots__ = ("_actions", "_cancel", "_kind", "count", "waiting")

    def __init__(self, actions: Actions, kind: type[AnyAction], cancel: Any) -> None:
        self._actions = actions
        self._kind = kind
        self._cancel = cancel
        self.count = 0
        self.waiting: dict[int, W] = {}

    def cancelled(self, number: int) -> None:
        """Nothing waits for it any more. One that was asked for in this activation leaves no
        action, but keeps its number.
        """
        if self.waiting.pop(number, None) is not None and not self._actions.withdraw(self._kind, number):
            self._actions.items.append(self._cancel(number))
