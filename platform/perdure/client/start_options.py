"""The options of a start, as fields of `StartWorkflow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.codec.values import to_json
from perdure.model.duration import Duration, argument_us, moment_us
from perdure.model.limits import ATTRIBUTES_BYTES, fault_of_id

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.model.commands import IfClosed, IfRunning


def encoded_options(
    *,
    if_running: IfRunning,
    if_closed: IfClosed,
    delay: Duration | None,
    start_at: datetime | None,
    timeout: Duration | None,
    attributes: dict[str, Any] | None,
    memo: bytes,
    request_id: str | None,
) -> dict[str, Any]:
    """Check the options and encode them; see `Client.options`.

    Raises:
        errors.UsageError: an option is invalid.
        errors.PayloadError: the attributes are not JSON, or too large.
    """
    _check_one_of("if_running", if_running, ("refuse", "attach", "terminate"))
    _check_one_of("if_closed", if_closed, ("start", "refuse", "after_failure"))
    if delay is not None and start_at is not None:
        raise errors.UsageError("give delay or start_at, not both")
    if timeout is not None and not argument_us("timeout", timeout):
        raise errors.UsageError("timeout must be positive; omit it for no timeout")
    if request_id is not None and (fault := fault_of_id(request_id, "request id")):
        raise errors.UsageError(fault)
    fields: dict[str, Any] = {
        "if_running": if_running,
        "if_closed": if_closed,
        "delay_us": argument_us("delay", delay) if delay is not None else 0,
        "start_at": moment_us(start_at, "start_at") if start_at is not None else 0,
        "timeout_us": argument_us("timeout", timeout) if timeout is not None else 0,
        "attributes": encoded_attributes(attributes) if attributes else b"",
        "memo": memo,
    }
    if request_id is not None:
        fields["request_id"] = request_id
    return fields


def _check_one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise errors.UsageError(f"invalid {option}={value!r}: must be one of {', '.join(allowed)}")


def encoded_attributes(attributes: dict[str, Any]) -> bytes:
    """JSON of attributes.

    Raises:
        errors.PayloadError: they are not JSON, or too large.
    """
    try:
        encoded = to_json(attributes)
    except errors.PayloadError as error:
        raise errors.PayloadError(f"the attributes {error}") from None
    if len(encoded) > ATTRIBUTES_BYTES:
        raise errors.PayloadError(
            f"the attributes are {len(encoded)} bytes long, the limit is {ATTRIBUTES_BYTES}; attributes are "
            "for finding a workflow, pass its data as arguments"
        )
    return encoded
