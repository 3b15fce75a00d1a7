"""Protects an API without authentication: it listens on loopback only, and rejects requests from
web pages.

A browser on the same machine reaches loopback for every page it shows. A page of somebody else's
gives itself away: by the `Host` of a name that was made to lead here (DNS rebinding), by its
`Origin`, or by `Sec-Fetch-Site`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from perdure.api.auth.refusals import Forbidden, WrongHost

_LOCAL: Final = "localhost"
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/]+)(?::\d{1,5})?")
_OWN_SITES: Final = ("same-origin", "none")


def is_loopback(host: str) -> bool:
    """Whether a host, an address or a name, is this machine and nobody else's.

    Args:
        host: without a port.
    """
    if host.lower() == _LOCAL:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_is_local(headers: Mapping[str, str]) -> None:
    """See that no page of another site asks.

    Args:
        headers: of the request, names in lower case.

    Raises:
        Misdirected: it names another host than this machine.
        Forbidden: a browser says that another site's page asks.
    """
    host = headers.get("host", "")
    if not is_loopback(_name_of(host)):
        raise WrongHost(f"without authentication this API serves localhost only, not {host[:100]!r}")
    origin = headers.get("origin")
    is_foreign = origin is not None and _place_of(origin) != host
    if is_foreign or headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        raise Forbidden("cross-site requests are rejected, because this API runs without authentication")


def _place_of(origin: str) -> str:
    """Host and port of an origin; empty when it has none, as `null` has."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """The host of `host:port` or `[::1]:port`; empty when it is neither."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""
