"""Authentication errors. The app answers each as problem+json, with these headers."""

from __future__ import annotations

from typing import ClassVar


class AccessRefused(Exception):
    """The base of the authentication errors.

    Attributes:
        status: the HTTP status of the response.
        slug: the last part of the problem's type.
        title: the problem's title.
        detail: what to do; nothing that helps to guess a credential.
        who: the principal's name, if known.
        held: the caller's role, if known.
        headers: headers of the response.
    """

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, who: str = "", held: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.who = who
        self.held = held
        self.headers = headers or {}


class Unauthenticated(AccessRefused):
    """The caller is not authenticated.

    Args:
        detail: the reason, as text.
        is_given: whether the request had an invalid credential; then the challenge says so, as RFC
            6750 demands.
    """

    status = 401
    slug = "unauthenticated"
    title = "Not authenticated"

    def __init__(self, detail: str, *, is_given: bool) -> None:
        self.is_given = is_given
        error = ', error="invalid_token"' if is_given else ""
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer realm="perdure"{error}'})


class Forbidden(AccessRefused):
    """The caller is known and lacks the permission."""

    status = 403
    slug = "forbidden"
    title = "Not allowed"

    def __init__(self, detail: str, *, who: str = "", held: str = "", wanted: str = "") -> None:
        scope = f', scope="perdure:{wanted}"' if wanted else ""
        headers = (
            {"WWW-Authenticate": f'Bearer realm="perdure", error="insufficient_scope"{scope}'} if who else {}
        )
        super().__init__(detail, who=who, held=held, headers=headers)


class WrongHost(AccessRefused):
    """The request's Host is not this server: a web page used a DNS name that points here (DNS
    rebinding).
    """

    status = 421
    slug = "misdirected"
    title = "Host not allowed"


class CannotAuthenticate(AccessRefused):
    """The identity provider's keys cannot be fetched, so tokens cannot be verified at the
    moment.
    """

    status = 503
    slug = "identity-provider-unavailable"
    title = "Tokens cannot be verified at the moment"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})
