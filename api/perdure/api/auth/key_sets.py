"""The public keys of an identity provider, from a file or from its URL; cached, and fetched again
when they change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from perdure.api.auth.origin_check import is_loopback
from perdure.api.auth.refusals import CannotAuthenticate
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.engine.operator_log import Report

PublicKey = RSAKey | ECKey | OKPKey

FRESH_S: Final = 3600.0
"""Keys are fetched again after this time, so that a withdrawn key stops being valid."""
PAUSE_S: Final = 30.0
"""The shortest time between two fetches, whatever key ids the tokens name: invalid tokens must not
make the API flood the provider."""
_FETCH_S: Final = 5.0
_LARGEST: Final = 256 * 1024
_LEAST_RSA_BITS: Final = 2048
_KINDS: Final[dict[str, type[PublicKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""Key types by `kty`. Symmetric types are excluded: anyone who can read a public key could sign
with it."""

Fetch = Callable[[], Coroutine[Any, Any, bytes]]


class KeySet:
    """The keys of a provider by their ids.

    Args:
        fetch: gets the JWKS document; raises OSError when it cannot.
        report: called with a message if a fetch fails.
        now: a monotonic clock, seconds.
    """

    def __init__(self, fetch: Fetch, report: Report, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._report = report
        self._now = now
        self._keys: tuple[PublicKey, ...] | None = None
        self._fetched_at = 0.0
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def key(self, key_id: str | None, key_type: str) -> PublicKey | None:
        """The key that a token names. If it names none, the provider's only key of that type. None:
        there is no such key.

        Raises:
            CannotAuthenticate: the keys were never fetched successfully.
        """
        keys = self._keys
        if keys is None or self._now() - self._fetched_at >= FRESH_S:
            keys = await self._again()
        found = _picked(keys, key_id, key_type)
        return found if found is not None else _picked(await self._again(), key_id, key_type)

    async def _again(self) -> tuple[PublicKey, ...]:
        """Fetch the keys again: once for all callers that wait, and not too often."""
        async with self._fetching:
            now = self._now()
            if self._tried_at is None or now - self._tried_at >= PAUSE_S:
                self._tried_at = now
                try:
                    self._keys = keys_of(await self._fetch())
                    self._fetched_at = now
                except (OSError, UsageError) as error:
                    self._report(
                        f"the identity provider's keys cannot be fetched: {error}. The keys fetched before "
                        "stay valid."
                    )
        if self._keys is None:
            raise CannotAuthenticate(
                "the identity provider's keys could not be fetched; see the API server's log"
            )
        return self._keys


def keys_of(document: bytes) -> tuple[PublicKey, ...]:
    """The keys of a JWKS document that verify signatures; other keys, and secret ones, are ignored.

    Raises:
        UsageError: it is not a JWKS document, or has no such key.
    """
    try:
        entries: list[dict[str, Any]] = msgspec.json.decode(document, type=_Document).keys
    except msgspec.MsgspecError as error:
        raise UsageError(f"it is not a JWKS document: {error}") from None
    keys = tuple(key for entry in entries if (key := _public_key(entry)) is not None)
    if not keys:
        raise UsageError(
            "the JWKS document has no public key for verifying signatures (RSA of 2048 bits, P-256, Ed25519)"
        )
    return keys


def of_file(path: Path) -> Fetch:
    """Returns a function that reads the document from a file."""

    async def read() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return read


def of_url(url: str) -> Fetch:
    """Returns a function that fetches the document from a URL: https, unless it is on this machine.

    Raises:
        UsageError: the URL is neither.
    """
    _check(url)
    return partial(_got, url)


def of_issuer(issuer: str) -> Fetch:
    """Returns a function that discovers the URL of the provider's keys (OpenID Connect Discovery
    1.0, 4) and fetches them.

    Raises:
        UsageError: the issuer is not an https URL, and not on this machine.
    """
    where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    _check(where)

    async def get() -> bytes:
        document = await _got(where)
        try:
            found = msgspec.json.decode(document, type=_Discovered)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{where} is not an OpenID provider configuration: {error}") from None
        if found.issuer != issuer:
            raise UsageError(
                f"{where} describes the issuer {found.issuer!r}, but the configured issuer is {issuer!r}"
            )
        _check(found.jwks_uri)
        return await _got(found.jwks_uri)

    return get


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise UsageError(f"keys from {url} cannot be trusted: use an https URL or a file")


async def _got(url: str) -> bytes:
    import httpx

    try:
        async with (
            asyncio.timeout(_FETCH_S),
            httpx.AsyncClient(timeout=_FETCH_S) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != HTTPStatus.OK:
                raise OSError(f"{url} answered {response.status_code}")
            document = b""
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > _LARGEST:
                    raise OSError(f"{url} answered with more than {_LARGEST} bytes")
            return document
    except (httpx.HTTPError, TimeoutError) as error:
        raise OSError(f"{url}: {type(error).__name__} {error}".rstrip()) from error


class _Discovered(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    """The key; None if it is secret, weak, for another use, or of an unknown kind (RFC 7517, 5:
    such a key is ignored).
    """
    kind = _KINDS.get(str(entry.get("kty")))
    if kind is None or entry.get("use", "sig") != "sig":
        return None
    if kind is RSAKey and len(str(entry.get("n"))) * 6 < _LEAST_RSA_BITS:  # of base64, six bits a character
        return None
    try:
        return kind.import_key(
            {name: value for name, value in entry.items() if isinstance(value, str | list)}
        )
    except (JoseError, ValueError, TypeError):
        return None


def _picked(keys: tuple[PublicKey, ...], key_id: str | None, key_type: str) -> PublicKey | None:
    fitting = [key for key in keys if key.key_type == key_type and key_id in (None, key.get("kid"))]
    return fitting[0] if len(fitting) == 1 else None
