"""Verifies tokens of an identity provider: JWTs (RFC 7519) signed by an OpenID provider, as RFC
8725 advises.

The algorithms are pinned: those of RSA, of P-256 and of Ed25519, and a key verifies only tokens of
its own type. So neither `alg: none` nor an HMAC with a public key as its secret is accepted. Keys
inside a token (`jwk`, `jku`, `x5u`) are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from perdure.api.auth.principal import EVERY_NAMESPACE, Principal
from perdure.api.auth.refusals import Unauthenticated
from perdure.api.roles import Role

if TYPE_CHECKING:
    from joserfc.jwa import JWSAlgModel

    from perdure.api.auth.key_sets import KeySet

ALGORITHMS: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}
"""The allowed algorithms, each with its type of key (RFC 7518, RFC 8037, RFC 9864)."""
LEEWAY_S: Final = 30
"""The allowed difference of clocks, seconds."""
ROLE_PREFIX: Final = "perdure:"
"""Prefix of a role's name in a token, as in `perdure:operator`: the `admin` of another application
has no role here."""
_LONGEST: Final = 16 * 1024
_CURVES: Final = {"ES256": "P-256", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}


class Provider(msgspec.Struct, frozen=True):
    """An identity provider whose tokens are accepted, and the claims that name roles.

    Attributes:
        issuer: `iss` must equal it.
        audience: `aud` must contain it.
        roles_claim: the claim that has the roles; dots lead into objects: `realm_access.roles`. Its
            value is a list, or text separated by spaces.
        namespaces_claim: the claim that has the namespaces, likewise; empty: a token is valid in
            every namespace.
    """

    issuer: str
    audience: str
    roles_claim: str = "roles"
    namespaces_claim: str = "namespaces"


class Tokens:
    """Verifies tokens.

    Args:
        provider: the identity provider.
        keys: the provider's keys.
        now: seconds since 1970.
    """

    def __init__(self, provider: Provider, keys: KeySet, now: Callable[[], float] = time.time) -> None:
        self._provider = provider
        self._keys = keys
        self._registry = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    async def verify(self, token: str) -> Principal:
        """Verify a token; returns its principal.

        Raises:
            Unauthenticated: the token is invalid.
            CannotAuthenticate: the provider's keys cannot be fetched.
        """
        if len(token) > _LONGEST:
            raise _refused("it is too long")
        try:
            claims = await self._verified(token)
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise _refused("it has expired") from None
        except MissingClaimError as error:
            raise _refused(f"it lacks {error.description or error}") from None
        except InvalidClaimError as error:
            raise _refused(f"{error.description or error}") from None
        except (JoseError, ValueError, TypeError, KeyError):
            raise _refused("its signature is invalid or of an unsupported kind") from None
        return self._principal(claims)

    async def _verified(self, token: str) -> dict[str, Any]:
        signed = jws.extract_compact(token.encode(), registry=self._registry)
        header = signed.headers()
        algorithm, key_id = str(header.get("alg")), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise _refused(f"its algorithm must be one of {', '.join(ALGORITHMS)}")
        key = await self._keys.key(key_id if isinstance(key_id, str) else None, ALGORITHMS[algorithm])
        if key is None:
            raise _refused("the identity provider has no key with its key id")
        if key.get("alg", algorithm) != algorithm or key.get("crv") != _CURVES.get(algorithm):
            raise _refused("it is signed with a key for another algorithm")
        if not jws.validate_compact(signed, key, registry=self._registry):
            raise _refused("its signature is invalid")
        claims: dict[str, Any] = msgspec.json.decode(signed.payload or b"", type=dict[str, Any])
        return claims

    def _principal(self, claims: dict[str, Any]) -> Principal:
        wanted = _texts(_at(claims, self._provider.roles_claim))
        roles = [role for role in Role if ROLE_PREFIX + role.value in wanted]
        where = self._provider.namespaces_claim
        namespaces = _texts(_at(claims, where)) if where else [EVERY_NAMESPACE]
        return Principal(f"oidc:{claims['sub']}", max(roles, default=None), tuple(namespaces))


class _Registry(JWSRegistry):
    """joserfc's registry without the warning about the name EdDSA: most providers still use it, and
    the curve is pinned here.
    """

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm."""
        if name not in ALGORITHMS:
            raise _refused("its algorithm is not allowed")
        return self.algorithms[name]


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"token rejected: {why}", is_given=True)


def _at(claims: dict[str, Any], path: str) -> Any:
    if path in claims:  # some providers use claim names with dots: https://shop.example/roles
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found  # pyright: ignore[reportUnknownVariableType]


def _texts(value: Any) -> list[str]:
    try:
        return msgspec.convert(value.split() if isinstance(value, str) else value, list[str])
    except msgspec.ValidationError:
        return []
