"""The error for a value that would change when decoded, and the parts of its message."""

from __future__ import annotations

from typing import Any, Final

_HIDDEN: Final = (
    "is a secret, which would be recorded; pass a name by which the activity can look it up, "
    "or text and a payload codec that encrypts"
)


class Changed(Exception):
    """A value would change when it is encoded and decoded.

    Attributes:
        path: to the part of it, as in `.items[0]`.
        fault: what is wrong with that part, without a subject.
    """

    def __init__(self, fault: str, path: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.path = path

    def within(self, step: str) -> Changed:
        """Add a step to the front of the path."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{self.fault}, at {self.path}" if self.path else self.fault


def other_type(value: Any, kind: Any) -> Changed:
    """The error of a value whose type is not the one of its annotation."""
    if hasattr(value, "get_secret_value"):
        return Changed(_HIDDEN)
    return Changed(f"is {_typed(value)}, its annotation says {name_of(kind)}")


def other_value(before: Any, after: Any) -> Changed:
    """The error of a value that would become another one."""
    if hasattr(before, "get_secret_value"):
        return Changed(_HIDDEN)
    if type(before) is not type(after):
        return Changed(f"is {_typed(before)} and would come back as {_typed(after)}")
    return Changed(f"is {short(before)} and would come back as {short(after)}")


def name_of(kind: Any) -> str:
    """A type or an annotation, for a message."""
    return kind.__qualname__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def short(value: Any) -> str:
    """A value, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _typed(value: Any) -> str:
    return "None" if value is None else f"of type {name_of(type(value))}"
