"""What is wrong with what a command brings, for its refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import PayloadError
from perdure.model.described import described
from perdure.model.limits import PAYLOAD_BYTES

if TYPE_CHECKING:
    from perdure.model.payloads import Payloads
    from perdure.model.replies import Refusal
    from perdure.workflow import Definition


def too_large(payload: bytes, what: str) -> str:
    """Why a payload is not taken; empty when it is."""
    if len(payload) <= PAYLOAD_BYTES:
        return ""
    size = f"{what} are {len(payload)} bytes long, the limit is {PAYLOAD_BYTES}"
    return f"{size}. Keep large data in a store of your own and pass its address."


def fault_of_signal(definition: Definition | None, payloads: Payloads, name: str, payload: bytes) -> tuple[Refusal, str] | None:
    """Why a signal cannot be taken.

    Args:
        definition: of the run's type; None: it is not known here, and whoever knows it may judge.
        payloads: decodes.
        name: of the signal.
        payload: its arguments.
    """
    if fault := too_large(payload, f"the arguments of signal {name!r}"):
        return "limit", fault
    if definition is None:
        return None
    fn = definition.signals.get(name)
    if fn is None:
        known = ", ".join(sorted(definition.signals)) or "none"
        return "unknown_name", f"workflow type {definition.name!r} has no signal {name!r}; it has: {known}"
    try:
        payloads.decode_arguments(fn, payload, what=f"signal {name!r}")
    except PayloadError as error:
        return "bad_input", str(error)
    except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
        return "bad_input", f"the arguments of signal {name!r} cannot be read: {described(error)}"
    return None
