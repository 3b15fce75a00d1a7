"""Where a reply goes: to a subscriber in this process, or to another process that listens on a loopback port."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

_ELSEWHERE: Final = "udp:"


def local_address() -> str:
    """A fresh address in this process."""
    return f"local:{uuid4().hex}"


def elsewhere_address(port: int) -> str:
    """A fresh address of another process than the engine's, which gets hints on a loopback port."""
    return f"{_ELSEWHERE}{port}:{uuid4().hex}"


def is_elsewhere(address: str) -> bool:
    """Whether a reply to the address has to be written down for another process."""
    return address.startswith(_ELSEWHERE)


def port_of(address: str) -> int:
    """The loopback port in an address of another process; 0 when there is none."""
    port = address.removeprefix(_ELSEWHERE).partition(":")[0]
    return int(port) if port.isascii() and port.isdigit() and int(port) < 65_536 else 0
