"""Reads payloads by a codec endpoint (`perdure codec serve`), where the codec and its keys are not.

Whatever the endpoint does, a value that it does not decode stays as it is, with the reason.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import msgspec

from perdure.adapters.http.connection import checked_url
from perdure.codec.payloads import JsonPayloads
from perdure.codec.readable import Readable
from perdure.codec.wrapping import Wrapping, encoded_in
from perdure.errors import ValueUnavailable
from perdure.model.events import EventRecord, WorkflowStarted
from perdure.model.failure import FailureInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=msgspec.Struct)

TIMEOUT_S: Final = 10.0
"""How long one request may take altogether."""
BATCH: Final = 500
BATCH_BYTES: Final = 700_000
"""The most payloads of a request, and their bytes; one that is larger has a request of its own."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The largest answer that is read."""


class _Item(msgspec.Struct):
    data: str = ""
    error: str = ""


class _Answer(msgspec.Struct):
    payloads: list[_Item]


_decoder: Final = msgspec.json.Decoder(_Answer)


class CodecEndpoint:
    """A codec endpoint.

    Args:
        url: its address, below which `/decode` is.
        token: an API key or a token for it; empty: none is sent.
        timeout_s: how long one request may take altogether, seconds.

    Raises:
        UsageError: the address is not understood.
    """

    def __init__(self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = checked_url(url)
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s

    def decode(self, payloads: Sequence[bytes]) -> list[bytes | str]:
        """Decode payloads. Never raises; blocks for some seconds at most, for each batch.

        Returns:
            For each what was encoded, or, as text, why there is nothing.
        """
        return asyncio.run(self._decode(payloads))

    async def _decode(self, payloads: Sequence[bytes]) -> list[bytes | str]:
        found: list[bytes | str] = []
        # a redirect is not followed: it would send values and credentials elsewhere
        async with httpx.AsyncClient(headers=self._headers, timeout=self._timeout_s) as http:
            for batch in _batches(payloads):
                fault = ""
                try:
                    async with asyncio.timeout(self._timeout_s):
                        items = await self._ask(http, batch)
                except TimeoutError:
                    fault = f"it did not answer within {self._timeout_s:g} s"
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    fault = f"it cannot be reached ({str(error) or type(error).__name__})"
                except _Useless as useless:
                    fault = str(useless)
                else:
                    found += items
                if fault:  # the next batch would fare no better
                    reason = f"codec endpoint {self.url}: {fault}"
                    return found + [reason] * (len(payloads) - len(found))
        return found

    async def _ask(self, http: httpx.AsyncClient, batch: list[bytes]) -> list[bytes | str]:
        body = msgspec.json.encode({"payloads": [b64encode(each).decode() for each in batch]})
        async with http.stream("POST", f"{self.url}/decode", content=body) as response:
            data = b""
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > ANSWER_BYTES:
                    raise _Useless(f"its answer is larger than {ANSWER_BYTES >> 20} MiB")
        if response.status_code != 200:
            raise _Useless(f"it answered {response.status_code}{_detail(data)}")
        try:
            items = _decoder.decode(data).payloads
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _Useless("its answer is not that of a codec endpoint") from None
        if len(items) != len(batch):
            raise _Useless(f"it answered with {len(items)} values for {len(batch)} payloads")
        return [self._opened(item) for item in items]

    def _opened(self, item: _Item) -> bytes | str:
        if item.error or not item.data:
            return f"codec endpoint {self.url}: {_plain(item.error) or 'it gave no value'}"
        try:
            return b64decode(item.data, validate=True)
        except ValueError:
            return f"codec endpoint {self.url}: a value of its answer is not base64"


class RemoteReadable(Readable):
    """Makes recorded values readable, by a codec endpoint.

    Args:
        endpoint: decodes.

    Attributes:
        reasons: why values stay encoded, and how many of them.
    """

    __slots__ = ("_endpoint", "_known", "reasons")

    def __init__(self, endpoint: CodecEndpoint) -> None:
        self._endpoint = endpoint
        self._known: dict[bytes, bytes | str] = {}
        self.reasons: dict[str, int] = {}
        super().__init__(JsonPayloads.over(_Looked(self._known)))

    def struct(self, found: S) -> S:
        """A state, an event or a reply."""
        self._fetch((found,))
        return super().struct(found)

    def structs(self, found: Sequence[S]) -> list[S]:
        """Several, by as few requests as they need."""
        self._fetch(found)
        return [super(RemoteReadable, self).struct(each) for each in found]

    def records(self, records: Iterable[EventRecord]) -> list[EventRecord]:
        """A history."""
        kept = list(records)
        self._fetch(event for record in kept for event in record.events)
        return super().records(kept)

    def _fetch(self, found: Iterable[msgspec.Struct]) -> None:
        wanted = {payload: is_json for each in found for payload, is_json in _encoded(each)}
        missing = [payload for payload in wanted if payload not in self._known]
        if not missing:
            return
        for payload, answer in zip(missing, self._endpoint.decode(missing), strict=True):
            is_garbage = wanted[payload] and isinstance(answer, bytes) and not _is_json(answer)
            no_json = f"codec endpoint {self._endpoint.url}: a value of its answer is not JSON"
            opened = self._known[payload] = no_json if is_garbage else answer
            if isinstance(opened, str):
                self.reasons[opened] = self.reasons.get(opened, 0) + 1


class _Useless(Exception):
    """An answer that cannot be used; the text says why."""


class _Looked(Wrapping):
    """Unwraps what was asked for before."""

    __slots__ = ("_known",)

    def __init__(self, known: Mapping[bytes, bytes | str]) -> None:
        super().__init__(None, None, 0)
        self._known = known

    def unwrap(self, payload: bytes, what: str) -> bytes:
        opened = self._known.get(payload, "")
        if isinstance(opened, str):
            raise ValueUnavailable(f"{what}: {opened}")
        return opened


def _encoded(found: msgspec.Struct) -> Iterator[tuple[bytes, bool]]:
    """The encoded payloads in a struct, and whether each is JSON; those of failures are not."""
    for name in found.__struct_fields__:
        value = getattr(found, name)
        if isinstance(value, bytes):
            if value[:1] == b"\0":
                yield value, True
        elif isinstance(value, FailureInfo):
            yield from _in_failure(value)
    if isinstance(found, WorkflowStarted):
        for token in found.tokens:
            yield from _encoded(token)


def _in_failure(failure: FailureInfo) -> Iterator[tuple[bytes, bool]]:
    if encoded := encoded_in(failure):
        yield encoded, False
    for each in (failure.cause, *(failure.exceptions or ())):
        if each is not None:
            yield from _in_failure(each)


def _batches(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for each in payloads:
        if batch and (len(batch) >= BATCH or size + len(each) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each)
    if batch:
        yield batch


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _detail(data: bytes) -> str:
    """The detail of a problem document."""
    try:
        said = msgspec.json.decode(data, type=dict[str, object]).get("detail", "")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {_plain(str(said))}" if said else ""


def _plain(text: str) -> str:
    """A text of the endpoint for a terminal: one short line."""
    return "".join(each if each.isprintable() else " " for each in text[:300])
