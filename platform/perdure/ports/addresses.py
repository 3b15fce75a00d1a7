"""Where a reply goes: to a subscriber in this process, or to another process that listens on a loopback port.

An address is anybody's text: whoever writes a record chooses it. One that does not parse has nobody to answer.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from perdure.model.dead_letters import number_of

_ELSEWHERE: Final = "udp:"
ADDRESS_BYTES: Final = 255
"""Ours are much shorter."""


def local_address() -> str:
    """A fresh address in this process."""
    return f"local:{uuid4().hex}"


def elsewhere_address(port: int) -> str:
    """A fresh address of another process than the engine's, which gets hints on a loopback port."""
    return f"{_ELSEWHERE}{port}:{uuid4().hex}"


def is_elsewhere(address: str) -> bool:
    """Whether a reply to the address has to be written down for another process."""
    return address.startswith(_ELSEWHERE) and address.isascii() and len(address) <= ADDRESS_BYTES and port_of(address) > 0


def port_of(address: str) -> int:
    """The loopback port in an address of another process; 0 when there is none."""
    return number_of(address.removeprefix(_ELSEWHERE).partition(":")[0], 65_536) or 0
