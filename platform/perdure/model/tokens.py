"""The text of a token: an address that is given away, and a secret.

Anyone who has the text may answer, so it is never logged. It is `token_` and base64url,
without padding, of a JSON array: workflow id, run id, number of the token in its run, secret, and
whether the text alone is enough to answer over HTTP. A sixth element, true, is there when the
number is that of an activity (`activity.complete_later`).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

import msgspec

from perdure.model.limits import fault_of_id

PREFIX: Final = "token_"
"""Prefix of every token, by which people and secret scanners recognise one."""
LONGEST: Final = 1_200
"""Characters of the longest text: that of a workflow id of 255 bytes, each of which JSON writes as
two."""

_TEXT: Final = re.compile(PREFIX + "[A-Za-z0-9_-]{16,}")


class TokenAddress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the text of a token says.

    Attributes:
        workflow_id: whose token it is.
        run_id: the same.
        number: counts the run's tokens from 1.
        secret: 128 random bits, in hexadecimal digits.
        is_public: the text is enough to answer over HTTP; no API key is asked for.
        is_of_activity: the number is that of an activity, whose attempt the answer ends.
    """

    workflow_id: str
    run_id: str
    number: int
    secret: str
    is_public: bool = False
    is_of_activity: bool = False

    @property
    def text(self) -> str:
        """As it is given away."""
        parts = msgspec.structs.astuple(self)
        said = parts if self.is_of_activity else parts[:-1]
        return PREFIX + urlsafe_b64encode(msgspec.json.encode(said)).decode().rstrip("=")


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


def hidden(text: str) -> str:
    """The text without the tokens in it, such as a path of the HTTP API, for a log."""
    return _TEXT.sub(PREFIX + "…", text)


def of_attempt(workflow_id: str, run_id: str, number: int, token: str, *, is_public: bool) -> TokenAddress:
    """The address of the answer that an attempt waits for.

    Its secret is made of the attempt's token, so that it is known before anything is recorded, and
    ends with the attempt; the token, with which a worker reports, cannot be made of it.

    Args:
        workflow_id: whose activity it is.
        run_id: the same.
        number: of the activity in the run.
        token: of the attempt.
        is_public: the text is enough to answer over HTTP.
    """
    person = b"later, public" if is_public else b"later"
    secret = blake2b(token.encode(), digest_size=16, person=person).hexdigest()
    return TokenAddress(workflow_id, run_id, number, secret, is_public, is_of_activity=True)
