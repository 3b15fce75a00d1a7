"""Draws the transition tables of the machines into docs/internals/machines.md.

usage: python -m tests.unit.core.diagrams
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from perdure.adapters.kafka.clients import partition_state
from perdure.core.registry import MACHINES

TARGET: Final = Path(__file__).parents[3] / "docs" / "internals" / "machines.md"
HEAD: Final = """\
# State machines

Drawn from the code by `python -m tests.unit.core.diagrams`; a test checks that this file is current. Do not
edit it.

Each capability of a run is one machine: a file in `platform/perdure/core/machines/`, listed in `MACHINES` of
`platform/perdure/core/registry.py`. A transition that is not drawn raises an error and leaves the state as it
is: an event that does not fit its run is a bug, or a damaged history. Machines without a diagram keep no
state between events.
"""
PARTITIONS: Final = """\
Every consumer-group member keeps this table for each of its partitions
(`platform/perdure/adapters/kafka/clients/partition_state.py`).
"""


def document() -> str:
    """The text of docs/internals/machines.md."""
    parts = [HEAD]
    for machine in MACHINES:
        if machine.transitions:
            parts += [f"## {machine.name.capitalize()}\n", "".join(_diagram(machine.transitions))]
    stateless = ", ".join(machine.name for machine in MACHINES if not machine.transitions)
    parts.append(f"Machines without a diagram: {stateless}.\n")
    parts += [
        "## A partition of a Kafka consumer\n",
        PARTITIONS,
        "".join(_diagram(partition_state.TRANSITIONS)),
    ]
    return "\n".join(parts)


def _diagram(transitions: Mapping[Any, Any]) -> Iterator[str]:
    """Mermaid's stateDiagram; the events of one arrow are joined."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in transitions.items():
        arrows.setdefault((_name(state), _name(following)), []).append(_name(event))
    begins = list(dict.fromkeys(before for before, _ in arrows))
    ends = list(dict.fromkeys(after for _, after in arrows if after not in begins))
    yield "```mermaid\nstateDiagram-v2\n"
    yield f"    [*] --> {begins[0]}\n"
    for (before, after), events in arrows.items():
        yield f"    {before} --> {after}: {', '.join(events)}\n"
    for end in ends:
        yield f"    {end} --> [*]\n"
    yield "```\n"


def _name(part: Any) -> str:
    return part.name.lower() if isinstance(part, Enum) else str(part.__name__)


if __name__ == "__main__":
    TARGET.write_text(document())
