"""Workflows that come with perdure. Every engine serves them beside those of the app, and
`perdure check` replays them; `docs/internals/builtin-workflows.md` says how one is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from perdure.builtin.job import JOB
from perdure.builtin.schedule import SCHEDULE

if TYPE_CHECKING:
    from perdure.workflow import Definition

WORKFLOWS: Final[Mapping[str, Definition]] = MappingProxyType({each.name: each for each in (JOB, SCHEDULE)})
"""The types, by name."""
