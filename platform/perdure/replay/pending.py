"""Actions of a run's code that are not yet recorded, or that wait for their outcome."""

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
        """Remove and return all actions."""
        items, self.items = self.items, []
        return items

    def withdraw(self, kind: type[Any], number: int) -> bool:
        """Remove an action that was not taken yet; return whether it was there."""
        items: list[Any] = self.items
        for index in range(len(items) - 1, -1, -1):
            action: Any = items[index]
            if type(action) is kind and action.number == number:
                del items[index]
                return True
        return False


class Pending(Generic[W]):
    """Actions of one kind, numbered from 1, and the futures that wait for their outcomes.

    Args:
        actions: of the run.
        kind: the class of the action.
        cancel: the class of the action that cancels one; it has the same `number`.

    Attributes:
        count: the number of the last action.
        waiting: the futures, by number.
    """

    __slots__ = ("_actions", "_cancel", "_kind", "count", "waiting")

    def __init__(self, actions: Actions, kind: type[AnyAction], cancel: Any) -> None:
        self._actions = actions
        self._kind = kind
        self._cancel = cancel
        self.count = 0
        self.waiting: dict[int, W] = {}

    def cancelled(self, number: int, cancel: Any = None) -> None:
        """Cancel an action. If it was added in this activation it is withdrawn, but its number
        stays used.

        Args:
            number: of the action.
            cancel: the action that cancels it; None: that of the constructor.
        """
        if self.waiting.pop(number, None) is not None and not self._actions.withdraw(self._kind, number):
            self._actions.items.append((cancel or self._cancel)(number))

    def is_waiting(self, number: int) -> bool:
        """Whether anything waits for it."""
        return number in self.waiting

    def withdraw(self, number: int) -> bool:
        """Forget one that was asked for in this activation; whether it was."""
        if not self._actions.withdraw(self._kind, number):
            return False
        del self.waiting[number]
        return True

    def ask(self, action: AnyAction) -> None:
        """Ask for something else about one of them."""
        self._actions.items.append(action)
