"""Checks a command against the code that is deployed. Its limits, which need no code, are checked
by `model.validation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import PayloadError
from perdure.model.described import described
from perdure.model.validation import Fault

if TYPE_CHECKING:
    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition


def fault_of_signal(
    definition: Definition | None, payloads: Payloads, name: str, payload: bytes
) -> Fault | None:
    """Why a signal cannot be taken.

    Args:
        definition: of the run's type; None: it is not known here. The signal is taken; code that
            comes later and cannot take it ignores it (`replay.signals`).
        payloads: decodes.
        name: of the signal.
        payload: its arguments.
    """
    if definition is None:
        return None
    fn = definition.signals.get(name)
    if fn is None:
        known = ", ".join(sorted(definition.signals)) or "none"
        return Fault(
            "unknown_name", f"workflow type {definition.name!r} has no signal {name!r}; it has: {known}"
        )
    try:
        payloads.decode_arguments(fn, payload, what=f"signal {name!r}")
    except PayloadError as error:
        return Fault("bad_input", str(error))
    except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
        return Fault("bad_input", f"the arguments of signal {name!r} cannot be read: {described(error)}")
    return None
