"""The text of a token: an address that is given away, and a secret.

Anyone who has the text may answer, so it is never logged. It is `token_` and base64url,
without padding, of a JSON array: workflow id, run id, number of the token in its run, secret, and
whether the text alone is enough to answer over HTTP.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from perdure.model.limits import fault_of_id

PREFIX: Final = "token_"
"""Prefix of every token, by which people and secret scanners recognise one."""
LONGEST: Final = 1_200
"""Characters of the longest text: that of a workflow id of 255 bytes, each of which JSON writes as
two."""


class TokenAddress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the text of a token says.

    Attributes:
        workflow_id: whose token it is.
        run_id: the same.
        number: counts the run's tokens from 1.
        secret: 128 random bits, in hexadecimal digits.
        is_public: the text is enough to answer over HTTP; no API key is asked for.
    """

    workflow_id: str
    run_id: str
    number: int
    secret: str
    is_public: bool = False

    @property
    def text(self) -> str:
        """As it is given away."""
        return PREFIX + urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def parse(text: str) -> TokenAddress | None:
    """The address that a text says; None when it is no token. Never raises."""
    if not text.startswith(PREFIX) or len(text) > LONGEST or not text.isascii():
        return None
    encoded = text.removeprefix(PREFIX)
    try:
        data = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        found = msgspec.json.decode(data, type=TokenAddress)
    except (ValueError, msgspec.MsgspecError):
        return None
    # one text for each token: other spellings of the same bytes are none
    return found if not fault_of_id(found.workflow_id) and found.text == text else None
