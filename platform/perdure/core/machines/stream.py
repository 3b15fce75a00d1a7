"""The machine of streams: values for readers, which the history does not have. It has no states."""

from __future__ import annotations

from typing import Final

from perdure.core.machine import Machine
from perdure.model import commands as cm

MACHINE: Final = Machine(name="stream", handled_elsewhere=frozenset({cm.WriteStream}))
"""What the code writes goes out with the events that made it run (`engine.activation`)."""
