"""Addresses: finds the transport for a URL."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

from perdure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.client.ports import Transport

Token: TypeAlias = "str | Callable[[], str]"  # noqa: S105 - a type
"""An API key or a token of an identity provider, or a function that returns the current one."""

_SCHEMES: Final = {
    "sqlite": "perdure.adapters.sqlite.transport:connect",
    "kafka": "perdure.adapters.kafka.client.transport:connect",
    "http": "perdure.adapters.http.transport:connect",
    "https": "perdure.adapters.http.transport:connect",
}
"""Scheme to `module:function`; the function takes the URL and returns a transport."""


def transport_of(url: str, token: Token | None = None) -> Transport:
    """Connect to the platform at a URL.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`,
            `kafka://host:9092,other:9092/namespace`, `https://host`.
        token: the credential for an HTTP API.

    Raises:
        UsageError: the scheme is unknown, needs an extra that is not installed, or takes no token.
        errors.InfrastructureError: the platform cannot be reached; the message says what to do.
    """
    scheme = url.partition(":")[0]
    target = _SCHEMES.get(scheme)
    if target is None or "://" not in url:
        known = ", ".join(f"{each}://" for each in _SCHEMES)
        raise UsageError(
            f'unsupported address {url!r}; expected one of {known} (for example "sqlite:///app.db")'
        )
    module, _, function = target.partition(":")
    options = {}
    if scheme in {"http", "https"}:
        options["token"] = token
    elif token is not None:
        raise UsageError(f"only the HTTP API takes a token; {scheme}:// authenticates by its own settings")
    try:
        connect = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{scheme}:// needs the module {error.name}: pip install 'perdure[{scheme.rstrip('s')}]'"
        ) from None
    transport: Transport = connect(url, **options)
    return transport
