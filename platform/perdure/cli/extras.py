"""Dependencies of perdure's extras, and whether they are installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from perdure.errors import UsageError

API_MODULES: Final = ("fastapi", "httptools", "joserfc", "uvicorn")
"""Modules of the extra `api`."""


def has_api() -> bool:
    """Whether the libraries of the HTTP API are installed."""
    return all(map(find_spec, API_MODULES))


def require_api() -> None:
    """Check that the libraries of the HTTP API are installed.

    Raises:
        UsageError: one is missing.
    """
    for module in API_MODULES:
        if find_spec(module) is None:
            raise UsageError(f"the API needs the module {module}: pip install 'perdure[api]'")
