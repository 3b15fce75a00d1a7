"""Actions of a run's code that are not yet recorded, or that wait for their outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from perdure.model.actions import AnyAction

W = TypeVar("W")


class Actions:
    """Actions of the code since the driver last took them, in order.

    Attributes:
        items: the actions; None in place of one that was withdrawn.
    """

    __slots__ = ("_places", "_places_to", "_withdrawn", "items")

    def __init__(self) -> None:
        self.items: list[AnyAction] = []
        self._places: dict[tuple[type[Any], int], int] = {}
        self._places_to = 0
        self._withdrawn = 0

    def take(self) -> list[AnyAction]:
        """Remove and return all actions."""
        items: list[Any] = self.items
        self.items = []
        if self._places_to:
            if self._withdrawn:
                items = [each for each in items if each is not None]
            self._forget_places()
        return items

    def clear(self) -> None:
        """Forget all actions."""
        self.items.clear()
        self._forget_places()

    def _forget_places(self) -> None:
        self._places.clear()
        self._places_to = self._withdrawn = 0

    def withdraw(self, kind: type[Any], number: int) -> bool:
        """Remove an action that was not taken yet; return whether it was there.

        The places of the actions are noted once, when they are first looked for: code that cancels
        ten thousand activities in one activation must not search ten thousand actions for each.
        """
        items: list[Any] = self.items
        places = self._places
        for place in range(self._places_to, len(items)):
            places[type(items[place]), getattr(items[place], "number", 0)] = place
        self._places_to = len(items)
        found = places.pop((kind, number), None)
        if found is None:
            return False
        items[found] = None
        self._withdrawn += 1
        return True


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
