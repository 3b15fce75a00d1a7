"""A workflow that sends commands to others, by a toy machine."""

from __future__ import annotations

from tests.simulation.relay import Relay, install

__all__ = ["Relay"]

install()
