"""A signal must fit the code that is deployed."""

from __future__ import annotations

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.engine.faults import fault_of_signal


@workflow.defn
class Box:
    @workflow.run
    async def main(self) -> None: ...

    @workflow.signal
    def put(self, text: str) -> None: ...

    @workflow.signal
    def close(self) -> None: ...


DEFINITION = workflow.definition_of(Box)


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
