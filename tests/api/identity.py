"""An identity provider for tests: it signs any token, including those that no provider should
accept."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from perdure.api.auth.key_sets import KeySet
from perdure.api.auth.tokens import Provider, Tokens

NOW = 1_800_000_000
ISSUER = "https://login.shop.example"
AUDIENCE = "perdure"
PROVIDER = Provider(ISSUER, AUDIENCE)
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
ALGORITHMS = ["RS256", "ES256", "EdDSA", "Ed25519", "HS256", "RS384"]


@dataclass
class Reports:
    """What was reported."""

    said: list[str] = field(default_factory=list[str])

    def __call__(self, message: str, /, **where: str | int) -> None:
        self.said.append(message)


@dataclass
class Published:
    """The JWKS document, as `KeySet` fetches it; counts how often."""

    keys: list[Any] = field(default_factory=lambda: [RSA, EC, ED])
    fault: OSError | None = None
    fetches: int = 0

    async def __call__(self) -> bytes:
        self.fetches += 1
        if self.fault is not None:
            raise self.fault
        return json.dumps(
            {"keys": [key.as_dict(private=isinstance(key, OctKey)) for key in self.keys]}
        ).encode()


def claims(role: str | None = "operator", **changed: Any) -> dict[str, Any]:
    """Those of a token that holds; a claim that is changed to None is left out."""
    found: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "iat": NOW,
        "exp": NOW + 600,
        "namespaces": ["shop"],
        "roles": [f"perdure:{role}"] if role else [],
        **changed,
    }
    return {name: value for name, value in found.items() if value is not None}


def signed(content: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    """A token."""
    registry = _Anything(algorithms=[algorithm])
    return jws.serialize_compact(
        {"alg": algorithm, "kid": key.get("kid"), **header}, json.dumps(content), key, registry=registry
    )


def unsigned(content: dict[str, Any], algorithm: str = "none") -> str:
    """A token of `alg: none`."""
    parts = [_encoded({"alg": algorithm, "kid": "rsa-1"}), _encoded(content), ""]
    return ".".join(parts)


def signed_with_public_key(content: dict[str, Any]) -> str:
    """A token with an HMAC whose secret is what everybody knows, the public key; by hand, since
    joserfc will not."""
    said = f"{_encoded({'alg': 'HS256', 'kid': 'rsa-1'})}.{_encoded(content)}"
    return f"{said}.{_text(hmac.digest(RSA.as_pem(private=False), said.encode(), 'sha256'))}"


def tokens(
    published: Published | None = None, reports: Reports | None = None, provider: Provider = PROVIDER
) -> Tokens:
    """Those that verify."""
    keys = KeySet(published or Published(), reports or Reports())
    return Tokens(provider, keys, now=lambda: NOW)


class _Anything(jws.JWSRegistry):
    def check_header(self, header: Any) -> None:
        """Whatever a forger may write."""


def _encoded(value: Any) -> str:
    return _text(json.dumps(value).encode())


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
