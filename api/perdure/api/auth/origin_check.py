"""Protects an API without authentication: it listens on loopback only, and rejects requests from
web pages.

Any page in a browser on this machine can send requests to loopback. Pages of other sites are
recognised by a foreign `Host` (DNS rebinding), by their `Origin`, or by `Sec-Fetch-Site`.
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
    """Whether a host, an address or a name, is a loopback of this machine.

    Args:
        host: the host without a port.
    """
    if host.lower() == _LOCAL:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_is_local(headers: Mapping[str, str]) -> None:
    """Check that the request does not come from a page of another site.

    Args:
        headers: the request's headers, names in lower case.

    Raises:
        Misdirected: the request names a host that is not this machine.
        Forbidden: the browser says that the request comes from a page of another site.
    """
    host = headers.get("host", "")
    if not is_loopback(_name_of(host)):
        raise WrongHost(f"without authentication this API serves localhost only, not {host[:100]!r}")
    origin = headers.get("origin")
    is_foreign = origin is not None and _place_of(origin) != host
    if is_foreign or headers.get("sec-fetch-site", "none") not in _OWN_SITES:
        raise Forbidden("cross-site requests are rejected, because this API runs without authentication")


def _place_of(origin: str) -> str:
    """Host and port of an origin; empty if it has none, like `null`."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """The host of `host:port` or `[::1]:port`; empty for other text."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""
