"""Makes foreign text safe to record."""

from __future__ import annotations

from typing import Final

LENGTH: Final = 2_000
"""Characters of a description."""


def described(error: BaseException) -> str:
    """Type and message of any exception, also of a foreign class; never raises."""
    name = name_of(error)
    try:
        text = f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - an author's __str__ may raise anything
        text = f"{name} (its message cannot be read)"
    return clean(text[:LENGTH])


def name_of(error: BaseException) -> str:
    """The name of the class of any exception; never raises."""
    return str(type.__dict__["__name__"].__get__(type(error)))  # a metaclass may have its own, which raises


def clean(text: str) -> str:
    """The text with a question mark for each lone surrogate, so that it can be written."""
    return text.encode("utf-8", "replace").decode()
