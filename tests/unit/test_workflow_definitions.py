"""Definitions that `@workflow.defn` reads from a class or a function, and its refusals at
import."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.errors import UsageError


@workflow.defn
class Order:
    def __init__(self, product: str, *, express: bool = False) -> None:
        self.product = product
        self.steps: list[str] = []

    @workflow.run
    async def process(self, product: str, *, express: bool = False) -> int:
        return len(product)

    @workflow.signal
    def picked_up(self) -> None:
        self.steps.append("picked up")

    @workflow.signal
    async def noted(self, text: str) -> None:
        self.steps.append(text)

    @workflow.query
    def remaining(self, unit: str) -> timedelta:
        return timedelta(seconds=len(unit))

    @workflow.view
    def status(self) -> list[str]:
        return self.steps


@workflow.defn(name="express order")
class Express(Order):
    @workflow.signal
    def picked_up(self) -> None:
        super().picked_up()
        self.steps.append("fast")


class Undecorated(Order): ...


@workflow.defn
@dataclass
class FromFields:
    product: str
    count: int = 1

    @workflow.run
    async def main(self, product: str, count: int = 1) -> str:
        return self.product * self.count


@workflow.defn
class Bare:
    @workflow.run
    async def main(self) -> None: ...


@workflow.defn(name="greet")
async def hello(name: str) -> str:
    return f"hello {name}"


# ---- what is read


def test_a_definition_holds_what_the_class_says() -> None:
    definition = workflow.definition_of(Order)
    assert (definition.name, definition.cls, definition.returns, definition.init_takes_arguments) == (
        "Order",
        Order,
        int,
        True,
    )
    assert set(definition.signals) == {"picked_up", "noted"}
    assert set(definition.queries) == {"remaining"}
    assert set(definition.views) == {"status"}
    assert definition.place.rpartition(":")[0] == __file__
    assert definition in workflow.DEFINED


def test_members_of_a_definition_are_the_users_functions() -> None:
    definition = workflow.definition_of(Order)
    order = definition.create(("burrata",), {"express": True})
    definition.signals["picked_up"](order)
    assert definition.view is not None
    assert definition.view(order) == ["picked up"]
    assert asyncio.run(definition.run_fn(order, "burrata")) == 7


def test_a_run_leads_to_the_definition_of_the_class_it_was_taken_from() -> None:
    assert Order.process.definition is workflow.definition_of(Order)
    assert (
        Express.process.definition
        is workflow.definition_of(Express)
        is workflow.definition_of(Express.process)
    )
    assert Express.process.definition.name == "express order"


def test_references_know_their_owner_name_and_answer() -> None:
    assert (Express.picked_up.name, Express.picked_up.definition.cls) == ("picked_up", Express)
    assert (Express.noted.name, Express.noted.definition.cls) == ("noted", Express)
    assert (Order.remaining.name, Order.remaining.returns) == ("remaining", timedelta)
    assert (Order.status.name, Order.status.returns) == ("status", list[str])


def test_an_override_is_what_a_signal_calls() -> None:
    definition = workflow.definition_of(Express)
    order = definition.create(("burrata",), {})
    definition.signals["picked_up"](order)
    assert order.steps == ["picked up", "fast"]


def test_a_subclass_without_decorator_is_no_workflow() -> None:
    with pytest.raises(UsageError, match=r"Undecorated is not a workflow: put @workflow\.defn above it"):
        _ = Undecorated.process.definition


def test_on_an_instance_members_are_methods() -> None:
    order = Order("burrata")
    order.picked_up()
    asyncio.run(order.noted("x"))
    assert order.status() == ["picked up", "x"]
    assert order.remaining("abc") == timedelta(seconds=3)
    assert asyncio.run(order.process("burrata")) == 7


def test_a_dataclass_may_be_a_workflow() -> None:
    definition = workflow.definition_of(FromFields)
    assert definition.create(("x",), {"count": 3}) == FromFields("x", 3)


def test_without_init_nothing_is_passed_to_the_class() -> None:
    definition = workflow.definition_of(Bare)
    assert not definition.init_takes_arguments
    assert isinstance(definition.create((), {}), Bare)
    assert definition.view is None


def test_an_async_function_is_a_workflow_and_still_a_function() -> None:
    definition = hello.definition
    assert (definition.name, definition.cls, definition.returns) == ("greet", None, str)
    assert workflow.definition_of(hello) is workflow.definition_of(definition.run_fn) is definition
    assert definition.create(("x",), {}) is None
    assert asyncio.run(hello("you")) == "hello you"


def test_a_run_called_on_the_class_is_refused() -> None:
    with pytest.raises(UsageError, match="is called on the class"):
        _ = Order.process("burrata")


def test_a_class_that_is_not_a_workflow_has_no_definition() -> None:
    for target in (3, len, str):
        with pytest.raises(UsageError, match="is not a workflow"):
            workflow.definition_of(target)


# ---- what is refused, with its line


async def forever(self: Any) -> None: ...


def make_class(**members: Any) -> type[Any]:
    return type("Made", (), members)


def two_runs() -> None:
    @workflow.defn
    class Two:
        @workflow.run
        async def first(self) -> None: ...

        @workflow.run
        async def second(self) -> None: ...


def two_views() -> None:
    @workflow.defn
    class Two:
        @workflow.run
        async def main(self) -> None: ...

        @workflow.view
        def first(self) -> int:
            return 1

        @workflow.view
        def second(self) -> int:
            return 2


def no_run() -> None:
    @workflow.defn
    class Without:
        async def main(self) -> None: ...


def init_differs() -> None:
    @workflow.defn
    class Differs:
        def __init__(self, product: str) -> None: ...

        @workflow.run
        async def main(self, product: int) -> None: ...


def init_takes_more() -> None:
    @workflow.defn
    class More:
        def __init__(self, product: str = "x") -> None: ...

        @workflow.run
        async def main(self) -> None: ...


def sync_run() -> object:
    class Sync:
        @workflow.run  # type: ignore[arg-type]
        def main(self) -> None: ...

    return Sync


def signal_answers() -> object:
    class Answers:
        @workflow.signal  # type: ignore[arg-type]
        def ask(self) -> int:
            return 3

    return Answers


def async_query() -> object:
    class Waits:
        @workflow.query
        async def ask(self) -> int:
            return 3

    return Waits


def view_with_arguments() -> object:
    class Asks:
        @workflow.view  # type: ignore[arg-type]
        def status(self, about: str) -> str:
            return about

    return Asks


def signal_yields() -> object:
    class Yields:
        @workflow.signal  # type: ignore[arg-type]
        def ask(self) -> Iterator[int]:
            yield 3

    return Yields


def member_without_self() -> object:
    class Selfless:
        @workflow.query
        def ask(this) -> int:  # noqa: N805
            return 3

    return Selfless


def undecorated_override() -> None:
    @workflow.defn
    class Child(Order):
        def picked_up(self) -> None: ...  # pyright: ignore[reportIncompatibleVariableOverride]


def override_of_another_kind() -> None:
    @workflow.defn
    class Child(Order):
        @workflow.query
        def picked_up(self) -> None: ...  # pyright: ignore[reportIncompatibleVariableOverride]


def one_member_with_two_names() -> None:
    @workflow.defn
    class Twice:
        @workflow.run
        async def main(self) -> None: ...

        @workflow.signal
        def one(self) -> None: ...

        two = one


def method_as_function_workflow() -> object:
    class Holder:
        @workflow.defn
        async def main(self) -> None: ...

    return Holder


AN_UNKNOWN_OPTION: Any = {"queue": "q"}
NOT_ASYNC: Any = len


def define_with_queue() -> None:
    workflow.defn(**AN_UNKNOWN_OPTION)(Bare)


def signal_of_no_method() -> None:
    workflow.signal(NOT_ASYNC)


def define_not_async() -> None:
    workflow.defn(NOT_ASYNC)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (two_runs, r"has more than one run: first \(.*\) and second \(.*\); keep one"),
        (two_views, "has more than one view: first and second; return everything in one"),
        (no_run, r"the workflow Without has no run: put @workflow\.run above"),
        (
            init_differs,
            (
                r"takes \(product: '?str'?\); it must take nothing, or exactly what the run takes: "
                r"\(product: "
                r"'?int'?\)"
            ),
        ),
        (init_takes_more, r"exactly what the run takes: \(\)"),
        (sync_run, "the run of a workflow is an `async def`; Sync.main is not"),
        (signal_answers, "a signal has no result: Answers.ask must return None"),
        (async_query, "Waits.ask is async, but reads cannot wait"),
        (view_with_arguments, "Asks.status must take only self"),
        (signal_yields, "Yields.ask yields"),
        (member_without_self, "with `self` first; Selfless.ask is not one"),
        (undecorated_override, r"Child\.picked_up replaces a signal: put @workflow\.signal above it"),
        (override_of_another_kind, "Child.picked_up is a query, but a signal in a base class"),
        (one_member_with_two_names, "one signal has two names, one and two"),
        (method_as_function_workflow, r"put @workflow\.defn on the class"),
        (define_not_async, "a workflow is a class or an `async def`"),
        (lambda: workflow.defn(name="")(Bare), "must not be empty"),
        (define_with_queue, "has no option 'queue', only name"),
        (signal_of_no_method, "is for methods"),
    ],
)
def test_what_cannot_be_a_workflow_is_refused_with_its_line(
    define: Callable[[], object], message: str
) -> None:
    known = len(workflow.DEFINED)
    with pytest.raises(UsageError, match=rf"test_workflow_definitions\.py:\d+: .*{message}"):
        define()
    assert len(workflow.DEFINED) == known


@pytest.mark.parametrize("decorator", ["run", "view", "on_signal"])
@pytest.mark.parametrize("options", [{}, {"name": "x"}])
def test_a_decorator_with_parentheses_is_refused_with_its_line(
    decorator: str, options: dict[str, str]
) -> None:
    message = rf"test_workflow_definitions\.py:\d+: write @workflow\.{decorator} without parentheses"
    with pytest.raises(UsageError, match=message):
        getattr(workflow, decorator)(**options)


@pytest.mark.parametrize("decorator", ["signal", "update", "query"])
@pytest.mark.parametrize(
    ("options", "message"),
    [({"name": ""}, "must not be empty"), ({"nam": "x"}, "takes only name=, not nam"), ({"name": 1}, "name")],
)
def test_a_name_that_cannot_be_one_is_refused_with_its_line(
    decorator: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(
        UsageError, match=rf"test_workflow_definitions\.py:\d+: @workflow\.{decorator}.*{message}"
    ):
        getattr(workflow, decorator)(**options)


def test_a_validator_with_parentheses_is_refused_with_its_line() -> None:
    def change(self: Any) -> None: ...

    decorator: Any = workflow.Update(change).validator
    with pytest.raises(UsageError, match=r"\.py:\d+: write @….validator without parentheses"):
        decorator()
