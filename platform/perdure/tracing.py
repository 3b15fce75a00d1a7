"""Where traces are hooked in: a slot that is empty unless `perdure.observability.traces.install` filled it.

A trace goes from the client through the engine to the workers as text (`traceparent`, https://www.w3.org/TR/trace-context/) in the field
`trace` of StartWorkflow, SignalWorkflow, WorkflowStarted and Task: in the record, so that it is there after a crash and in a month.
Imports nothing of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Literal, Protocol

Kind = Literal["client", "internal", "consumer"]


_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CHARACTERS: Final = 55


def traceparent(text: str) -> str:
    """The text, if it is a traceparent; else nothing: it comes from a header or a record, and anyone may write those.

    https://www.w3.org/TR/trace-context/#traceparent-header-field-values
    """
    return text if len(text) == _CHARACTERS and _TRACEPARENT.fullmatch(text) else ""


class Span(Protocol):
    """Something that is being done."""

    @property
    def trace(self) -> str:
        """Its traceparent, for whoever goes on with it; empty when it is not recorded."""
        ...

    def failed(self, reason: str) -> None:
        """It came to nothing."""


class Tracer(Protocol):
    """Makes spans."""

    def span(self, name: str, kind: Kind, attributes: Mapping[str, str | int], parent: str = "") -> AbstractContextManager[Span]:
        """A span around a block, the current one within it.

        Args:
            name: of what is done.
            kind: as OpenTelemetry has them.
            attributes: what it is about.
            parent: its traceparent; empty: the span that is current.
        """
        ...


installed: Tracer | None = None
"""None: traces are off, and cost a look at this name for a request, a batch and an attempt."""


def install(tracer: Tracer | None) -> None:
    """Trace from now on; None: no longer."""
    global installed
    installed = tracer
