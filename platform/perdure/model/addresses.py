"""Addresses: where the answer to a request goes.

A request carries its address as text, `Request.reply_to`, and the writer of a record chooses that
text. So nothing is assumed about it: if it does not parse, the answer is dropped. Text that parses
may still differ from the `str` of the parsed address (`udp:07:me`); a record of an answer is
written under the original text.

    local:<name>                                    a subscriber in the engine's process
    udp:<port>:<name>                               another process of this machine
    kafka:<partition>:<name>                        a caller that tails a partition of the replies
    dead-letter:<topic>/<partition>/<offset>        no client; a refusal becomes a dead letter
    workflow:<kind>/<run id>/<number>/<workflow id> a workflow
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from perdure.model.limits import fault_of_id

ADDRESS_BYTES: Final = 255
"""The longest address of a client; ours are much shorter."""
LONGEST: Final = 400
"""Characters of the longest address of any kind: that of a workflow, whose parts have limits of
their own."""
WORKFLOW: Final = "workflow:"
"""Prefix of a workflow's address."""

_PORTS: Final = 65_536
_PARTITIONS: Final = 2**31
_NUMBERS: Final = 2**63
_TOPIC_CHARACTERS: Final = 255
_OF_WORKFLOW: Final = re.compile(
    r"([a-z][a-z0-9_-]{0,39})/([0-9a-z-]{0,40})/([0-9]{1,19})/(.+)", re.ASCII | re.DOTALL
)


class Local(Struct, frozen=True, gc=False):
    """A subscriber in the engine's process."""

    name: str

    def __str__(self) -> str:
        """The text form, as in a request."""
        return f"local:{self.name}"


class Process(Struct, frozen=True, gc=False):
    """Another process of this machine: the answer is recorded for it.

    Attributes:
        port: the loopback port on which it gets a hint; 1 to 65,535.
        name: its name.
    """

    port: int
    name: str

    def __str__(self) -> str:
        """The text form, as in a request."""
        return f"udp:{self.port}:{self.name}"


class Caller(Struct, frozen=True, gc=False):
    """A caller that tails a partition of `<namespace>.replies`; the key of the record is the
    address.
    """

    partition: int
    name: str

    def __str__(self) -> str:
        """The text form, as in a request."""
        return f"kafka:{self.partition}:{self.name}"


class DeadLetter(Struct, frozen=True, gc=False):
    """No client waits; a refusal becomes a dead letter of the record that led to the request.

    Attributes:
        topic: the topic of that record.
        partition: its partition.
        offset: its offset.
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """The text form, as in a request."""
        return f"dead-letter:{self.topic}/{self.partition}/{self.offset}"


class Workflow(Struct, frozen=True, gc=False):
    """A workflow: the answer becomes a command for it (`core.registry.ANSWERS`).

    Attributes:
        kind: the kind of the request, which decides the command that its answer becomes. At most 40
            of a-z, 0-9, `_` and `-`.
        workflow_id: the workflow that sent the request.
        run_id: its run; empty: the current one.
        number: counts the run's requests of this kind.
    """

    kind: str
    workflow_id: str
    run_id: str
    number: int

    def __str__(self) -> str:
        """The text form, as in a request."""
        return f"{WORKFLOW}{self.kind}/{self.run_id}/{self.number}/{self.workflow_id}"


Address = Local | Process | Caller | DeadLetter | Workflow
CLIENTS: Final = (Local, Process, Caller)
"""The addresses of clients, which come and go."""


def parse(text: str) -> Address | None:
    """Parse an address; None: the text is not one, so no answer can be sent. Never raises."""
    return _parse(text) if len(text) <= LONGEST else None


def workflow_of(text: str) -> str:
    """The workflow id in the address of a workflow; empty for any other text."""
    address = parse(text) if text else None
    return address.workflow_id if isinstance(address, Workflow) else ""


@lru_cache(4_096)  # a client has one address for all its requests
def _parse(text: str) -> Address | None:
    prefix, _, rest = text.partition(":")
    read = _READERS.get(prefix)
    return read(rest, len(text)) if read is not None else None


def _local(rest: str, length: int) -> Local | None:
    return Local(rest) if rest and length <= ADDRESS_BYTES else None


def _process(rest: str, length: int) -> Process | None:
    port, _, name = rest.partition(":")
    number = _number(port, _PORTS)
    return Process(number, name) if number and length <= ADDRESS_BYTES and name.isascii() else None


def _caller(rest: str, length: int) -> Caller | None:
    partition, _, name = rest.partition(":")
    number = _number(partition, _PARTITIONS)
    return Caller(number, name) if number is not None and length <= ADDRESS_BYTES and name.isascii() else None


def _dead_letter(rest: str, length: int) -> DeadLetter | None:
    topic, _, place = rest.partition("/")
    partition, _, offset = place.partition("/")
    number, position = _number(partition, _PARTITIONS), _number(offset, _NUMBERS)
    if (
        number is None
        or position is None
        or not (topic and topic.isprintable() and len(topic) <= _TOPIC_CHARACTERS)
    ):
        return None
    return DeadLetter(topic, number, position)


def _workflow(rest: str, length: int) -> Workflow | None:
    found = _OF_WORKFLOW.fullmatch(rest)
    if found is None:
        return None
    kind, run_id, digits, workflow_id = found.groups()
    number = _number(digits, _NUMBERS)
    return (
        Workflow(kind, workflow_id, run_id, number)
        if number is not None and not fault_of_id(workflow_id)
        else None
    )


_READERS: Final[dict[str, Callable[[str, int], Address | None]]] = {
    "local": _local,
    "udp": _process,
    "kafka": _caller,
    "dead-letter": _dead_letter,
    "workflow": _workflow,
}


def _number(text: str, below: int) -> int | None:
    """Parse a number of ASCII digits; None if it is not one, or not below `below`."""
    # `int` itself refuses thousands of digits
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    number = int(text)
    return number if number < below else None
