"""What a command brings may be as large as the limit, and no larger."""

from __future__ import annotations

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.engine.faults import fault_of_signal, too_large
from perdure.model.limits import PAYLOAD_BYTES


@workflow.defn
class Box:
    @workflow.run
    async def main(self) -> None: ...

    @workflow.signal
    def put(self, text: str) -> None: ...

    @workflow.signal
    def close(self) -> None: ...


DEFINITION = workflow.definition_of(Box)


def text_of(size: int) -> bytes:
    """Arguments of so many bytes."""
    return b'["%s"]' % (b"x" * (size - 4))


def test_the_limit_itself_will_do() -> None:
    assert too_large(text_of(PAYLOAD_BYTES), "they") == ""
    assert too_large(text_of(PAYLOAD_BYTES + 1), "they").startswith("they are 1048577 bytes long, the limit is 1048576.")


def test_arguments_of_a_signal_may_be_as_large_whoever_knows_the_type() -> None:
    for definition in (DEFINITION, None):
        assert fault_of_signal(definition, JsonPayloads(), "put", text_of(PAYLOAD_BYTES)) is None
        fault = fault_of_signal(definition, JsonPayloads(), "put", text_of(PAYLOAD_BYTES + 1))
        assert fault is not None
        assert fault[0] == "limit"


def test_a_signal_that_the_type_does_not_have_is_refused_with_those_it_has() -> None:
    assert fault_of_signal(DEFINITION, JsonPayloads(), "open", b"[]") == (
        "unknown_name",
        "workflow type 'Box' has no signal 'open'; it has: close, put",
    )
    assert fault_of_signal(None, JsonPayloads(), "open", b"[]") is None, "it may be another's"


def test_arguments_that_do_not_fit_are_bad_input() -> None:
    fault = fault_of_signal(DEFINITION, JsonPayloads(), "put", b"[7]")
    assert fault is not None
    assert fault[0] == "bad_input"
