"""The options that say whom a server admits."""

from __future__ import annotations

from typing import Annotated

import typer

KeysOption = Annotated[
    str,
    typer.Option(
        help="File of API keys, as written by `perdure api-keys`.",
        metavar="FILE",
        envvar="PERDURE_API_KEYS",
    ),
]
OidcIssuerOption = Annotated[
    str,
    typer.Option(
        help="Accept tokens of this OpenID provider (issuer URL).",
        metavar="URL",
        envvar="PERDURE_OIDC_ISSUER",
    ),
]
OidcAudienceOption = Annotated[
    str, typer.Option(help="Audience that tokens must have.", envvar="PERDURE_OIDC_AUDIENCE")
]
OidcJwksOption = Annotated[
    str,
    typer.Option(
        help="URL or file of the provider's keys (JWKS). Discovered from the provider by default.",
        metavar="URL",
        envvar="PERDURE_OIDC_JWKS",
    ),
]
OidcRolesClaimOption = Annotated[
    str, typer.Option(help="Claim with the roles.", envvar="PERDURE_OIDC_ROLES_CLAIM")
]
OidcNamespacesClaimOption = Annotated[
    str,
    typer.Option(
        help="Claim with the namespaces; empty: tokens are valid in all namespaces.",
        envvar="PERDURE_OIDC_NAMESPACES_CLAIM",
    ),
]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Disable authentication (loopback only).")]
RateLimitOption = Annotated[
    float,
    typer.Option(
        help="Requests per second of one key or subject; 0 for no limit.",
        envvar="PERDURE_API_RATE_LIMIT",
        min=0,
    ),
]
