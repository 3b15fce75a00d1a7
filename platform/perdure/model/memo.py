"""Encodes the memo of a start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.errors import PayloadError
from perdure.model.limits import MEMO_BYTES, fault_of_memo, fault_of_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.model.payloads import Payloads


def encoded_memo(payloads: Payloads, memo: Mapping[str, Any] | None) -> bytes:
    """The payload of a memo; empty when it has no values.

    Args:
        payloads: encodes it.
        memo: values of any type that can be an argument, by name.

    Raises:
        PayloadError: a name is no text, a value cannot be encoded, or they are too large together.
    """
    if fault := fault_of_names(memo):
        raise PayloadError(fault)
    if not memo:
        return b""
    encoded = payloads.encode(dict(memo), what="the memo", most=MEMO_BYTES)
    if fault := fault_of_memo(encoded):
        raise PayloadError(fault)
    return encoded
