"""The text of a token: an address and a secret.

Anyone who has the text can answer, so it is never logged. It is `token_` and base64url, without
padding, of a JSON array: workflow id, run id, number of the token in its run, secret, and whether
the text alone is enough to answer over HTTP. A sixth element, true, is there when the number is
that of an activity (`activity.complete_later`).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

import msgspec

from perdure.model.limits import fault_of_id

PREFIX: Final = "token_"
"""Prefix of every token, so that people and secret scanners recognise one."""
LONGEST: Final = 1_200
"""Characters of the longest text: that of a workflow id of 255 bytes, each of which JSON writes as
two."""

_TEXT: Final = re.compile(PREFIX + "[A-Za-z0-9_-]{16,}")


class TokenAddress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The parsed text of a token.

    Attributes:
        workflow_id: the workflow that issued it.
        run_id: its run.
        number: counts the run's tokens from 1.
        secret: 128 random bits, in hexadecimal digits.
        is_public: the text is enough to answer over HTTP, without an API key.
        is_of_activity: the number is an activity's, and the answer ends its attempt.
    """

    workflow_id: str
    run_id: str
    number: int
    secret: str
    is_public: bool = False
    is_of_activity: bool = False

    @property
    def text(self) -> str:
        """The text of the token."""
        parts = msgspec.structs.astuple(self)
        said = parts if self.is_of_activity else parts[:-1]
        return PREFIX + urlsafe_b64encode(msgspec.json.encode(said)).decode().rstrip("=")


def parse(text: str) -> TokenAddress | None:
    """Parse the text of a token; None: it is not one. Never raises."""
    if not text.startswith(PREFIX) or len(text) > LONGEST or not text.isascii():
        return None
    encoded = text.removeprefix(PREFIX)
    try:
        data = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        found = msgspec.json.decode(data, type=TokenAddress)
    except (ValueError, msgspec.MsgspecError):
        return None
    # one text per token: other encodings of the same bytes are rejected
    return found if not fault_of_id(found.workflow_id) and found.text == text else None


def hidden(text: str) -> str:
    """The text without the tokens in it, such as a path of the HTTP API, for a log."""
    return _TEXT.sub(PREFIX + "…", text)


def of_attempt(workflow_id: str, run_id: str, number: int, token: str, *, is_public: bool) -> TokenAddress:
    """The token address for the result of an attempt.

    Its secret is derived from the attempt's token. So it is known before anything is recorded, and
    becomes invalid with the attempt. The token itself, which authenticates a worker's reports,
    cannot be derived from it.

    Args:
        workflow_id: the workflow that called the activity.
        run_id: its run.
        number: the activity's number in the run.
        token: the attempt's token.
        is_public: the text is enough to answer over HTTP, without an API key.
    """
    person = b"later, public" if is_public else b"later"
    secret = blake2b(token.encode(), digest_size=16, person=person).hexdigest()
    return TokenAddress(workflow_id, run_id, number, secret, is_public, is_of_activity=True)
