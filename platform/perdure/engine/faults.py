"""Checks commands against the deployed code. `model.validation` checks the limits that need no
code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from perdure.errors import PayloadError, ValueUnavailable
from perdure.model.described import described
from perdure.model.validation import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perdure.workflow import Definition


class Decoder(Protocol):
    """Reads arguments; `ActiveRuns` does, and interrupts a type of yours that takes too long."""

    def decode_arguments(
        self, fn: Callable[..., Any], payload: bytes, *, what: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Payloads`."""
        ...


def fault_of_signal(
    definition: Definition | None, payloads: Decoder, name: str, payload: bytes
) -> Fault | None:
    """Why the code cannot take a signal; None: it can. One whose arguments cannot be read now is
    taken: its run waits until they can.

    Args:
        definition: the run's type; None: it is not known here. The signal is then accepted; if code
            that is deployed later cannot take it, the signal is ignored (`replay.signals`).
        payloads: decodes the arguments.
        name: the signal.
        payload: its arguments.
    """
    if definition is None:
        return None
    try:
        return _fault(definition, definition.signals, payloads, f"signal {name!r}", name, payload)
    except ValueUnavailable:
        return None


def fault_of_update(
    definition: Definition | None, payloads: Decoder, name: str, payload: bytes
) -> Fault | None:
    """Why the code cannot take an update, before its validator is asked. Arguments as of
    `fault_of_signal`.
    """
    if definition is None:
        message = f"update {name!r} cannot be taken: no engine here knows the workflow's type"
        return Fault("suspended", message)
    try:
        return _fault(definition, definition.updates, payloads, f"update {name!r}", name, payload)
    except ValueUnavailable as error:
        return Fault("suspended", f"the update cannot be taken now: {error}")


def _fault(
    definition: Definition,
    handlers: Mapping[str, Callable[..., Any]],
    payloads: Decoder,
    what: str,
    name: str,
    payload: bytes,
) -> Fault | None:
    fn = handlers.get(name)
    if fn is None and handlers is definition.signals:
        fn = definition.on_signal_arguments
    if fn is None:
        known = ", ".join(sorted(handlers)) or "none"
        message = f"workflow type {definition.name!r} has no {what}; it has: {known}"
        return Fault("unknown_name", message)
    return fault_of_arguments(fn, payloads, what, payload)


def fault_of_arguments(fn: Callable[..., Any], payloads: Decoder, what: str, payload: bytes) -> Fault | None:
    """Why arguments do not fit a function.

    Args:
        fn: your function.
        payloads: reads arguments.
        what: it is for, "signal 'add'".
        payload: the arguments.
    """
    try:
        payloads.decode_arguments(fn, payload, what=what)
    except ValueUnavailable:
        raise
    except PayloadError as error:
        return Fault("bad_input", str(error))
    except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
        return Fault("bad_input", f"the arguments of {what} cannot be read: {described(error)}")
    return None
