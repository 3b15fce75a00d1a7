from __future__ import annotations

import pytest

from tests.simulation import relay


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that sends commands to workflows; it does nothing for those that are not of type
    `Relay`."""
    relay.install(monkeypatch.setitem)
