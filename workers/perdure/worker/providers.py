"""Provided instances: the objects whose methods are activities, opened once and kept open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from perdure.activity import Provider
from perdure.errors import UsageError
from perdure.model.described import described


class OpenProviders:
    """Opens providers in the order of their definition, and closes them in reverse.

    Attributes:
        instances: by class, while open.
    """

    def __init__(self, providers: Mapping[type[Any], Provider]) -> None:
        self._providers = providers
        self._stack = AsyncExitStack()
        self.instances: dict[type[Any], Any] = {}

    async def open(self) -> None:
        """Open all providers.

        Raises:
            Exception: raised by a provider; the providers opened before are closed again.
        """
        try:
            for cls, provider in self._providers.items():
                yielding = provider.factory()
                self.instances[cls] = await _first(cls, yielding)
                self._stack.push_async_callback(_finish, yielding)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all providers. Idempotent."""
        self.instances.clear()
        await self._stack.aclose()


async def _first(cls: type[Any], yielding: AsyncIterator[Any]) -> Any:
    """The provider's first value; raises an error that stops the process if there is none."""
    try:
        return await anext(yielding)
    except StopAsyncIteration:
        raise UsageError(
            f"the provider of {cls.__name__} (activity.provide) yields nothing; it must yield once"
        ) from None
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise UsageError(f"the provider of {cls.__name__} raised {described(error)}") from error


async def _finish(yielding: AsyncIterator[Any]) -> None:
    """Run the provider past its `yield`, to its end."""
    async for _ in yielding:
        raise UsageError("a provider (activity.provide) must yield once")
