"""Each limit of a command has one check, and every door gives its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from perdure import errors, testing, workflow
from perdure.model import commands as cm
from perdure.model.duration import LONGEST_US
from perdure.model.failure import FailureInfo
from perdure.model.limits import ATTRIBUTES_BYTES, ID_BYTES, PAYLOAD_BYTES, REASON_BYTES
from perdure.model.replies import Refused
from perdure.model.validation import fault_of, require_valid
from perdure.registry import Registry


@workflow.defn
class Safe:
    @workflow.run
    async def main(self) -> None:
        await workflow.wait_until(lambda: False)

    @workflow.signal
    def put(self, text: str) -> None: ...

    @workflow.query
    def holds(self, text: str) -> bool:
        return bool(text)


def text_of(size: int) -> bytes:
    """Arguments of so many bytes."""
    return b'["%s"]' % (b"x" * (size - 4))


def start(**more: Any) -> cm.StartWorkflow:
    return cm.StartWorkflow("safe", type="Safe", **more)


BAD: Final[dict[str, tuple[cm.Request, str, str]]] = {
    "id": (cm.StartWorkflow("a\nb", type="Safe"), "bad_input", "U+000A"),
    "request id": (start(request_id="r" * (ID_BYTES + 1)), "bad_input", "the request id is 256 bytes long"),
    "attributes": (
        start(attributes=b"{" + b" " * ATTRIBUTES_BYTES),
        "limit",
        "the attributes are 16385 bytes long",
    ),
    "input": (
        start(input=text_of(PAYLOAD_BYTES + 1)),
        "limit",
        "the arguments of workflow 'Safe' are 1048577 bytes long",
    ),
    "delay": (start(delay_us=LONGEST_US + 1), "bad_input", "delay and timeout must be between"),
    "timeout": (start(timeout_us=-1), "bad_input", "delay and timeout must be between"),
    "first signal": (
        start(signal_name="put", signal_input=text_of(PAYLOAD_BYTES + 1)),
        "limit",
        "the arguments of signal 'put' are 1048577 bytes long",
    ),
    "signal": (
        cm.SignalWorkflow("open", name="put", input=text_of(PAYLOAD_BYTES + 1)),
        "limit",
        "the arguments of signal 'put' are 1048577 bytes long",
    ),
    "query": (
        cm.QueryWorkflow("open", name="holds", input=text_of(PAYLOAD_BYTES + 1)),
        "limit",
        "the arguments of query 'holds' are 1048577 bytes long",
    ),
    "wait": (
        cm.AwaitWorkflow("open", "", "r" * (ID_BYTES + 1)),
        "limit",
        "the request id is 256 characters long",
    ),
    "cancel": (
        cm.CancelWorkflow("open", reason="r" * (REASON_BYTES + 1)),
        "limit",
        "the reason is 16385 bytes long",
    ),
    "pause": (cm.PauseWorkflow("open", by="a\n"), "bad_input", "name of who asks"),
    "unpause": (cm.UnpauseWorkflow("open", reason="\udc80"), "limit", "the reason is not valid Unicode"),
    "retry": (
        cm.RetryActivityNow("open", number=1, timeout_us=-1),
        "bad_input",
        "the timeout must be between 0 and",
    ),
    "attempts": (
        cm.RetryActivityNow("open", number=1, maximum_attempts=-1),
        "bad_input",
        "maximum_attempts must be between 0 and",
    ),
    "queue": (cm.RetryActivityNow("open", number=1, queue="q\n"), "bad_input", "queue"),
    "result": (
        cm.ResolveActivity("open", number=1, value=text_of(PAYLOAD_BYTES + 1)),
        "limit",
        "the result is 1048577 bytes long",
    ),
    "rejection": (
        cm.RejectActivity("open", number=1, failure=FailureInfo("app:Sad", "x" * 20_000)),
        "limit",
        "the exception is",
    ),
    "terminate": (cm.TerminateWorkflow("open", reason="\udc80"), "limit", "the reason is not valid Unicode"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_value_over_its_limit_is_named_with_its_size(what: str) -> None:
    command, code, message = BAD[what]
    fault = fault_of(command)
    assert fault is not None
    assert fault.code == code
    assert message in fault.message
    with pytest.raises(errors.RequestRefused) as refused:
        require_valid(command)
    assert str(refused.value) == fault.message


@pytest.mark.parametrize(
    "command",
    [
        start(
            request_id="r" * ID_BYTES,
            attributes=b"x" * ATTRIBUTES_BYTES,
            delay_us=LONGEST_US,
            timeout_us=LONGEST_US,
        ),
        start(input=text_of(PAYLOAD_BYTES), signal_name="put", signal_input=text_of(PAYLOAD_BYTES)),
        cm.SignalWorkflow("open", name="put", input=text_of(PAYLOAD_BYTES)),
        cm.QueryWorkflow("open", name="holds", input=text_of(PAYLOAD_BYTES)),
        cm.AwaitWorkflow("open", "", "r" * ID_BYTES),
        cm.CancelWorkflow("open", reason="r" * REASON_BYTES),
    ],
)
def test_a_value_at_its_limit_is_taken(command: cm.Request) -> None:
    assert fault_of(command) is None
    require_valid(command)


def test_a_request_for_an_id_that_no_workflow_can_have_is_not_sent() -> None:
    with pytest.raises(errors.RequestRefused, match="must not be empty"):
        require_valid(cm.AwaitWorkflow(""))


def test_the_engine_refuses_with_the_same_message() -> None:
    async def drive() -> dict[str, Any]:
        async with testing.Environment(Registry.of([Safe])) as env:
            await env.client.start("open", Safe.main)
            ask: Callable[..., Any] = env.client._transport.request
            return {what: await ask(command, 10.0) for what, (command, _, _) in BAD.items()}

    for what, reply in asyncio.run(drive()).items():
        fault = fault_of(BAD[what][0])
        assert fault is not None
        assert isinstance(reply, Refused), what
        assert (reply.code, reply.message) == fault
