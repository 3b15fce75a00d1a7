"""Tokens of an identity provider: which are accepted, and which are refused."""

from __future__ import annotations

import asyncio
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from joserfc.jwk import OctKey, RSAKey

from perdure.api.auth.key_sets import PAUSE_S, KeySet, keys_of, of_issuer, of_url
from perdure.api.auth.principal import Principal
from perdure.api.auth.refusals import CannotAuthenticate, Unauthenticated
from perdure.api.auth.tokens import Provider
from perdure.api.roles import Role
from perdure.errors import UsageError
from tests.api.identity import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    NOW,
    RSA,
    STRANGER,
    Published,
    Reports,
    claims,
    signed,
    signed_with_public_key,
    tokens,
    unsigned,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def verify(token: str, **options: Any) -> Principal:
    return asyncio.run(tokens(**options).verify(token))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "Ed25519")])
def test_a_token_of_the_provider_says_who_and_what(key: Any, algorithm: str) -> None:
    assert verify(signed(claims("operator"), key, algorithm)) == Principal(
        "oidc:ada", Role.OPERATOR, ("shop",)
    )


# it is signed here under the old name, as most providers do
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_old_name_of_ed25519_is_understood() -> None:
    assert verify(signed(claims("reader"), ED, "EdDSA")).role is Role.READER


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (signed(claims(exp=NOW - 31)), "has expired"),
        (signed(claims(exp=None)), "lacks"),
        (signed(claims(exp="tomorrow")), "exp"),
        (signed(claims(nbf=NOW + 31)), "not yet valid"),
        (signed(claims(iat=NOW + 31)), "in the future"),
        (signed(claims(aud="another service")), "aud"),
        (signed(claims(aud=["another", "service"])), "aud"),
        (signed(claims(aud=None)), "lacks"),
        (signed(claims(iss="https://login.shop.example/")), "iss"),
        (signed(claims(iss=None)), "lacks"),
        (signed(claims(sub=None)), "lacks"),
        (signed(claims(sub="")), "sub"),
        (signed(claims(), STRANGER), "signature is invalid"),
        (signed(claims())[:-6] + "AAAAAA", "signature is invalid"),
        (signed(claims(), RSA, "RS384"), "algorithm"),
        (signed(claims(), RSA, kid="unknown"), "no key"),
        (signed(claims(), RSA, kid="ec-1"), "no key"),
        (signed(claims(), RSA, crit=["exp"], exp=1), "of an unsupported kind"),
        (signed_with_public_key(claims()), "algorithm"),
        (unsigned(claims()), "algorithm"),
        (unsigned(claims(), "None"), "algorithm"),
        (unsigned(claims(), "RS256"), "signature is invalid"),
        ("garbage", "of an unsupported kind"),
        ("a.b", "of an unsupported kind"),
        ("a.b.c.d.e", "of an unsupported kind"),
        ("..", "of an unsupported kind"),
        ("é.é.é", "of an unsupported kind"),
        ("x" * 20_000, "too long"),
    ],
)
def test_what_is_not_the_providers_or_not_for_us_is_refused(token: str, why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as refused:
        verify(token)
    assert 'error="invalid_token"' in refused.value.headers["WWW-Authenticate"]


def test_a_key_inside_a_token_is_ignored() -> None:
    with pytest.raises(Unauthenticated, match="signature is invalid"):
        verify(signed(claims(), STRANGER, jwk=STRANGER.as_dict(private=False)))


@pytest.mark.parametrize("changed", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}])
def test_clocks_may_differ_by_half_a_minute(changed: dict[str, Any]) -> None:
    assert verify(signed(claims(**changed))).name == "oidc:ada"


def test_a_token_may_be_for_several_services() -> None:
    assert verify(signed(claims(aud=["account", AUDIENCE]))).name == "oidc:ada"


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (["perdure:reader", "perdure:admin", "perdure:operator"], Role.ADMIN),
        ("openid perdure:reader", Role.READER),
        (["admin"], None),
        (["perdure:root"], None),
        ({"perdure:admin": True}, None),
        ([["perdure:admin"]], None),
        (None, None),
    ],
)
def test_the_highest_role_that_is_ours_counts(roles: Any, role: Role | None) -> None:
    assert verify(signed(claims(roles=roles))).role is role


def test_claims_may_be_in_objects_or_have_dots_in_their_names() -> None:
    provider = Provider(ISSUER, AUDIENCE, "realm_access.roles", "https://shop.example/namespaces")
    content = claims(
        roles=None,
        realm_access={"roles": ["perdure:admin"]},
        namespaces=None,
        **{"https://shop.example/namespaces": "a b"},
    )
    assert verify(signed(content), provider=provider) == Principal("oidc:ada", Role.ADMIN, ("a", "b"))


def test_without_its_namespaces_a_token_holds_nowhere_unless_the_audience_is_enough() -> None:
    assert not verify(signed(claims(namespaces=None))).is_at_home("shop")
    provider = Provider(ISSUER, AUDIENCE, namespaces_claim="")
    assert verify(signed(claims(namespaces=None)), provider=provider).is_at_home("shop")


# ---- the provider's keys


def test_a_new_key_is_found_when_a_token_names_it_and_the_old_one_ends_with_it() -> None:
    published, time = Published([RSA]), [1000.0]
    keys = KeySet(published, Reports(), now=lambda: time[0])
    new = RSAKey.generate_key(2048, {"kid": "rsa-2"})

    async def main() -> None:
        assert await keys.key("rsa-1", "RSA") is not None
        published.keys = [new]
        time[0] += PAUSE_S
        assert await keys.key("rsa-2", "RSA") is not None
        assert await keys.key("rsa-1", "RSA") is None

    asyncio.run(main())


def test_unknown_key_ids_do_not_flood_the_provider() -> None:
    published, time = Published(), [1000.0]
    keys = KeySet(published, Reports(), now=lambda: time[0])

    async def main() -> None:
        found = await asyncio.gather(*(keys.key(f"unknown-{number}", "RSA") for number in range(100)))
        assert found == [None] * 100
        assert published.fetches == 1
        time[0] += PAUSE_S
        await asyncio.gather(*(keys.key(f"unknown-{number}", "RSA") for number in range(100)))
        assert published.fetches == 2

    asyncio.run(main())


def test_keys_stay_valid_while_the_provider_is_unreachable_and_that_is_reported() -> None:
    published, reports, time = Published(), Reports(), [1000.0]
    keys = KeySet(published, reports, now=lambda: time[0])

    async def main() -> None:
        await keys.key("rsa-1", "RSA")
        published.fault = OSError("no route to host")
        time[0] += 7200
        assert await keys.key("rsa-1", "RSA") is not None
        assert ["no route to host" in said for said in reports.said] == [True]

    asyncio.run(main())


def test_a_provider_that_was_never_reached_is_no_fault_of_the_token() -> None:
    published, reports = Published(fault=OSError("refused")), Reports()
    with pytest.raises(CannotAuthenticate):
        verify(signed(claims()), published=published, reports=reports)
    assert reports.said


@pytest.mark.filterwarnings("ignore:Key size")  # the weak one is made here
def test_secret_and_weak_keys_of_a_document_are_passed_over() -> None:
    async def main() -> bytes:
        return await Published(
            [OctKey.generate_key(256, {"kid": "oct"}), RSA, RSAKey.generate_key(1024, {"kid": "weak"})]
        )()

    assert [key.get("kid") for key in keys_of(asyncio.run(main()))] == ["rsa-1"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "oct", "k": "AA"}]}',
    ],
)
def test_a_document_without_keys_is_refused(document: bytes) -> None:
    with pytest.raises(UsageError, match="JWKS"):
        keys_of(document)


@pytest.mark.parametrize(
    "url", ["http://login.shop.example/keys", "file:///etc/keys", "ftp://127.0.0.1/keys"]
)
def test_keys_come_over_https_only(url: str) -> None:
    with pytest.raises(UsageError, match="https"):
        of_url(url)


class IdentityProvider(BaseHTTPRequestHandler):
    """A provider on loopback."""

    pages: ClassVar[dict[str, tuple[int, bytes]]] = {}

    def do_GET(self) -> None:
        status, body = self.pages.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 302:
            self.send_header("location", "/keys")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line."""


@pytest.fixture
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), IdentityProvider) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        described = json.dumps({"issuer": url, "jwks_uri": f"{url}/keys"}).encode()
        IdentityProvider.pages = {
            "/.well-known/openid-configuration": (200, described),
            "/keys": (200, asyncio.run(Published()())),
        }
        yield url
        server.shutdown()
        thread.join()


def test_the_provider_says_where_its_keys_are(provider: str) -> None:
    assert len(keys_of(asyncio.run(of_issuer(provider)()))) == 3
    assert len(keys_of(asyncio.run(of_url(f"{provider}/keys")()))) == 3


def test_a_description_of_another_provider_is_not_followed(provider: str) -> None:
    with pytest.raises(UsageError, match="describes the issuer"):
        asyncio.run(of_issuer(f"{provider}/")())


@pytest.mark.parametrize(
    "described",
    [
        b"",
        b"[]",
        b'{"issuer": "%s"}',
        b'{"issuer": "%s", "jwks_uri": "http://evil.example/keys"}',
        b'{"issuer": "%s", "jwks_uri": "file:///keys"}',
    ],
)
def test_a_description_that_leads_nowhere_is_refused(provider: str, described: bytes) -> None:
    IdentityProvider.pages["/.well-known/openid-configuration"] = (
        200,
        described.replace(b"%s", provider.encode()),
    )
    with pytest.raises(UsageError):
        asyncio.run(of_issuer(provider)())


@pytest.mark.parametrize(("status", "size"), [(500, 10), (404, 0), (302, 0), (200, 300_000)])
def test_a_provider_that_fails_redirects_or_never_ends_gives_no_keys(
    provider: str, status: int, size: int
) -> None:
    IdentityProvider.pages["/odd"] = (status, b"x" * size)
    with pytest.raises(OSError, match="answered"):
        asyncio.run(of_url(f"{provider}/odd")())


def test_a_provider_that_cannot_be_reached_gives_no_keys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match="ConnectError"):
        asyncio.run(of_url(f"http://127.0.0.1:{port}/keys")())
