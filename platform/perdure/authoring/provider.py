"""Providers: create the instances whose methods are activities."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar, cast, get_args

from msgspec import Struct

from perdure.authoring.members import without_options
from perdure.errors import UsageError
from perdure.model.signature import hints_of, remember_local_names
from perdure.model.source import place_of

T = TypeVar("T")


class Provider(Struct, frozen=True):
    """A function that workers run once and keep open to get the instance whose methods are
    activities.

    Attributes:
        factory: your function.
    """

    factory: Callable[[], AsyncIterator[Any]]

    @property
    def provides(self) -> type[Any]:
        """The class of the instance that it yields, from its annotation.

        Raises:
            UsageError: there is no annotation, or it does not name one class.
        """
        yielded = get_args(hints_of(self.factory).get("return"))
        if not yielded or not isinstance(yielded[0], type):
            raise UsageError(
                f"{place_of(self.factory)}: annotate what {self.factory.__name__} yields: "
                f"async def {self.factory.__name__}() -> AsyncIterator[YourClass]"
            )
        return cast("type[Any]", yielded[0])


PROVIDERS: Final[list[Provider]] = []
"""Every function marked with `provide`."""


@without_options("activity.provide")
def provide(factory: Callable[[], AsyncIterator[T]], /) -> Callable[[], AsyncIterator[T]]:
    """Mark `async def billing() -> AsyncIterator[Billing]` as the provider of the Billing instance:
    workers run it once and keep it open.

    Raises:
        UsageError: it is not an async generator function without parameters.
    """
    if not inspect.isasyncgenfunction(factory):
        raise UsageError(
            f"{place_of(factory)}: activity.provide is for an `async def` that yields the instance once."
        )
    if inspect.signature(factory).parameters:
        raise UsageError(f"{place_of(factory)}: a function marked with activity.provide takes no arguments.")
    remember_local_names(factory)
    PROVIDERS.append(Provider(factory))
    return factory
