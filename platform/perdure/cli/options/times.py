"""Times and durations in options; messages about a wrong one name the option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from datetime import datetime


def moment_of(text: str, option: str) -> datetime | None:
    """The time in an option; None where it is empty."""
    from perdure.errors import UsageError
    from perdure.model.duration import moment_of_text

    try:
        return moment_of_text(text, "the time") if text else None
    except UsageError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def duration_of(text: str, option: str) -> str | None:
    """The duration in an option, "30s", which can be read; None where it is empty."""
    from perdure.errors import UsageError
    from perdure.model.duration import microseconds

    try:
        microseconds(text or "0s")
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None
    return text or None
