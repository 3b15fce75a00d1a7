"""The admission of a server, from its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.api.routing import Admission
    from perdure.engine.operator_log import Report


def admission(
    namespace: str,
    host: str,
    keys: str,
    provider: tuple[str, str, str, str],
    jwks: str,
    report: Report,
    *,
    is_insecure: bool,
) -> Admission:
    """Admits by API keys, by tokens of a provider, or everyone on this machine.

    Args:
        namespace: that keys and tokens must be for.
        host: the address that is listened on.
        keys: file of API keys; empty: none.
        provider: issuer, audience, and the claims of roles and namespaces; no issuer: none.
        jwks: where the keys of the provider are; empty: it says so itself.
        report: takes what an operator should know.
        is_insecure: admit everyone on this machine.

    Raises:
        UsageError: these do not fit together, or nothing is configured.
    """
    from pathlib import Path

    from perdure.api.auth.api_keys import ApiKeys
    from perdure.api.auth.key_sets import KeySet, of_file, of_issuer, of_url
    from perdure.api.auth.origin_check import is_loopback
    from perdure.api.auth.security import Security, Unsecured
    from perdure.api.auth.tokens import Provider, Tokens
    from perdure.errors import UsageError

    issuer = provider[0]
    if is_insecure:
        if keys or issuer:
            raise UsageError("--insecure disables authentication: omit it, or omit --keys and --oidc-issuer")
        if not is_loopback(host):
            raise UsageError(
                f"--insecure is for loopback only, but {host} is reachable from other machines: give --keys "
                "FILE or --oidc-issuer URL"
            )
        return Unsecured()
    if not keys and not issuer:
        raise UsageError(
            "no authentication is configured: give --keys FILE (`perdure api-keys create NAME --namespace "
            "…` makes one) or --oidc-issuer URL; "
            "on loopback, --insecure disables authentication"
        )
    tokens = None
    if issuer:
        fetch = of_issuer(issuer) if not jwks else of_url(jwks) if "://" in jwks else of_file(Path(jwks))
        tokens = Tokens(Provider(*provider), KeySet(fetch, report))
    return Security(namespace, api_keys=ApiKeys(Path(keys), report) if keys else None, tokens=tokens)
