"""The one place where requests are admitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from perdure.api.auth.origin_check import check_is_local
from perdure.api.auth.principal import NOBODY_ASKED, Principal
from perdure.api.auth.refusals import Forbidden, Unauthenticated
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.api.auth.api_keys import ApiKeys
    from perdure.api.auth.tokens import Tokens
    from perdure.api.roles import Role

_SCHEME: Final = "bearer"


class Security:
    """Authenticates and authorises requests.

    Args:
        namespace: the namespace that this API serves.
        api_keys: perdure's own keys; None: not accepted.
        tokens: tokens of an identity provider; None: not accepted.

    Raises:
        UsageError: both are None.
    """

    def __init__(
        self, namespace: str, *, api_keys: ApiKeys | None = None, tokens: Tokens | None = None
    ) -> None:
        if api_keys is None and tokens is None:
            raise UsageError("no authentication is configured: give API keys or an identity provider")
        self._namespace = namespace
        self._api_keys = api_keys
        self._tokens = tokens

    async def admit(self, headers: Mapping[str, str], role: Role) -> Principal:
        """Authenticate and authorise a request.

        Args:
            headers: the request's headers, names in lower case.
            role: the lowest role that is enough.

        Raises:
            Unauthenticated: the caller is not authenticated.
            Forbidden: the caller lacks the role.
            CannotAuthenticate: a token cannot be verified now.
        """
        principal = await self._authenticated(headers.get("authorization", ""))
        who, held = principal.name, principal.role.value if principal.role is not None else ""
        if not principal.is_at_home(self._namespace):
            raise Forbidden(f"{who} has no role in this namespace", who=who, held=held)
        if principal.role is None or principal.role < role:
            has = f"is {held}" if held else "has none"
            raise Forbidden(
                f"this requires the role {role.value}, but {who} {has}", who=who, held=held, wanted=role.value
            )
        return principal

    async def _authenticated(self, authorization: str) -> Principal:
        scheme, _, credential = authorization.strip().partition(" ")
        credential = credential.strip()
        if scheme.lower() != _SCHEME or not credential:
            raise Unauthenticated(
                "send `Authorization: Bearer` with an API key or a token", is_given=bool(authorization)
            )
        if self._api_keys is not None and self._api_keys.is_meant(credential):
            return self._api_keys.verify(credential)
        if self._tokens is None:
            raise Unauthenticated(
                "this is not an API key, and this server does not accept tokens", is_given=True
            )
        return await self._tokens.verify(credential)


class Unsecured:
    """Admits every caller on this machine, except pages of other sites: for `perdure dev`."""

    async def admit(self, headers: Mapping[str, str], role: Role) -> Principal:
        """Admit any caller on this machine.

        Raises:
            AccessRefused: the request comes from another site's page.
        """
        check_is_local(headers)
        return NOBODY_ASKED
