"""A client that is given something else than a run, a signal, a query or a view says what to
give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from perdure import activity, workflow
from perdure.authoring import targets
from perdure.authoring.members import SignalRef
from perdure.authoring.targets import definition_for, member_for
from perdure.client import Client
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.registry import Registry


@workflow.defn
class Order:
    @workflow.run
    async def process(self) -> None: ...

    @workflow.signal
    def tell(self, what: str) -> None: ...

    @workflow.query
    def ask(self, what: str) -> int:
        return len(what)

    @workflow.view
    def status(self) -> str:
        return ""


@workflow.defn
class Other:
    @workflow.run
    async def process(self) -> None: ...

    @workflow.signal
    def tell(self, what: str) -> None: ...

    @workflow.query
    def ask(self, what: str) -> int:
        return len(what)

    @workflow.view
    def status(self) -> str:
        return ""


@workflow.defn
async def flow() -> None: ...


@activity.defn
async def act() -> None: ...


class Plain:
    def tell(self, what: str) -> None: ...


transport: Any = None
client: Any = Client(transport, payloads=JsonPayloads())
ODD: Final[dict[str, Any]] = {
    "text": "tell",
    "a plain class": Plain,
    "an unbound method of a plain class": Plain.tell,
    "a bound method": Order().tell,
    "a bound run": Order().process,
    "a function": len,
    "a lambda": lambda: None,
    "an instance": Order(),
    "None": None,
    "a number": 5,
    "an activity": act,
    "a coroutine function": Order.process.definition.run_fn,
}
RUNS: Final[dict[str, Callable[[Any], Any]]] = {
    "start": lambda run: client.start("id", run),
    "execute": lambda run: client.execute("id", run),
    "with_start": lambda run: client.with_start("id", run),
    "get": lambda run: client.get("id", run),
}
HANDLE: Final[Any] = client.get("id", Order.process)
MEMBERS: Final[dict[str, Callable[[Any], Any]]] = {
    "signal": lambda target: HANDLE.signal(target, "x"),
    "query": lambda target: HANDLE.query(target, "x"),
    "view": lambda target: HANDLE.view(target),
    "watch": lambda target: anext(HANDLE.watch(target)),
}
REFS: Final[dict[str, Any]] = {
    "signal": Order.tell,
    "query": Order.ask,
    "view": Order.status,
    "run": Order.process,
    "class": Order,
}
OTHERS: Final[dict[str, Any]] = {
    "signal": Other.tell,
    "query": Other.ask,
    "view": Other.status,
    "watch": Other.status,
}


def run(made: Any) -> None:
    """A step of a coroutine is enough: nothing was awaited before the mistake was found."""
    if hasattr(made, "__await__"):
        made.__await__().send(None)


@pytest.mark.parametrize("odd", [*ODD, "class"])
@pytest.mark.parametrize("entry", RUNS)
def test_an_invalid_run_is_refused_with_advice(entry: str, odd: str) -> None:
    with pytest.raises(UsageError, match=r"Order\.process|@workflow\.defn") as caught:
        run(RUNS[entry]({**ODD, **REFS}[odd]))
    if odd != "a plain class":
        assert f"{Path(__file__).name}:" in str(caught.value)


@pytest.mark.parametrize("odd", [*ODD, *REFS])
@pytest.mark.parametrize("entry", MEMBERS)
def test_a_member_of_another_kind_is_refused_with_advice(entry: str, odd: str) -> None:
    kind = "view" if entry == "watch" else entry
    if odd == kind:
        return
    with pytest.raises(
        UsageError, match=rf"{Path(__file__).name}:\d+: .* is not a {kind}: give one seen from its class"
    ):
        run(MEMBERS[entry]({**ODD, **REFS}[odd]))


@pytest.mark.parametrize("entry", MEMBERS)
def test_a_member_of_another_workflow_is_refused(entry: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (signal|query|view) of workflow 'Order'"):
        run(MEMBERS[entry](OTHERS[entry]))


@pytest.mark.parametrize("odd", [len, "text", 5, None, Order()])
def test_a_registry_refuses_objects_that_are_not_definitions(odd: Any) -> None:
    with pytest.raises(UsageError, match="is not a workflow"):
        Registry.of([odd])
    with pytest.raises(UsageError, match="is not an activity"):
        Registry.of([flow], [odd])
    with pytest.raises(UsageError, match="is not a provider"):
        Registry.of([flow], [act], [odd])


def signal_for(target: object) -> Any:
    return member_for(target, SignalRef, None)


@pytest.mark.parametrize("resolve", [definition_for, signal_for])
def test_only_a_client_is_sent_to_its_methods_by_name(
    monkeypatch: pytest.MonkeyPatch, resolve: Callable[[object], Any]
) -> None:
    with pytest.raises(UsageError, match=r"; by name: \w+_by_name\(\)"):
        resolve("order")
    monkeypatch.setattr(targets, "current", object)  # as in workflow code
    with pytest.raises(UsageError) as caught:
        resolve("order")
    assert "by_name" not in str(caught.value)
