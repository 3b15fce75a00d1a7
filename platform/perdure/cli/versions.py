"""`perdure workflow versions`: how many open runs each version of a workflow type has."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from perdure.cli.error_line import from_here
from perdure.cli.output import Format, print_json, print_table
from perdure.cli.upgrade_gate import OPEN, PAGE, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.client import Client
    from perdure.workflow import Definition


@dataclass(frozen=True)
class OfVersion:
    """One version of a workflow type.

    Attributes:
        type: its name.
        version: its number.
        open: how many runs are open.
        place: `file:line` in the app; empty: no app was given, or it does not have this version.
        is_newest: new runs take it.
        is_missing: it has open runs, and the app does not have it.
    """

    type: str
    version: int
    open: int
    place: str = ""
    is_newest: bool = False
    is_missing: bool = False

    @property
    def advice(self) -> str:
        """The use of a version: whether it is needed, the newest, or may be deleted."""
        if self.is_missing:
            return "missing in the app"
        if not self.place:
            return ""
        if self.is_newest:
            return "new runs take it"
        return "is needed" if self.open else "may be deleted"


async def count_versions(client: Client, served: Mapping[str, Definition] | None) -> list[OfVersion]:
    """Count the open runs, whose first events are read.

    Args:
        client: of the platform.
        served: the workflow types of the app; None: no app was given.
    """
    counts: Counter[tuple[str, int]] = Counter()
    page = await client.list(status=OPEN, limit=PAGE)
    while page:
        found = await asyncio.gather(*(version_of(client, state) for state in page))
        counts.update((state.type, version) for state, version in zip(page, found, strict=True) if version)
        page = await client.list(status=OPEN, limit=PAGE, after=page[-1])
    if served is None:
        return [OfVersion(*key, count) for key, count in sorted(counts.items())]
    places = {
        (name, each.version): each.place for name, newest in served.items() for each in newest.all_versions
    }
    newest = {(name, each.version) for name, each in served.items()}
    return [
        OfVersion(
            *key, counts[key], places.get(key, ""), is_newest=key in newest, is_missing=key not in places
        )
        for key in sorted(counts.keys() | places.keys())
    ]


def print_versions(found: list[OfVersion], output: Format) -> None:
    """Print them."""
    if output is Format.JSON:
        print_json([{**asdict(each), "advice": each.advice} for each in found])
        return
    print_table(
        ("TYPE", "VERSION", "OPEN", "", "WHERE"),
        [
            (each.type, str(each.version), str(each.open), each.advice, from_here(each.place))
            for each in found
        ],
    )
