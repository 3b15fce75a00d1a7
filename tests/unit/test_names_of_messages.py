"""`name=` on signals, queries and updates; `@workflow.on_signal`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import testing, workflow
from perdure.client import Handle
from perdure.codec.registered import check_registered
from perdure.errors import QueryFailed, ReplayError, RequestRefused, UsageError
from perdure.model import events as ev
from perdure.registry import Registry


@dataclass
class Item:
    name: str
    cents: int


@workflow.defn
class Basket:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.others: list[tuple[str, Item]] = []
        self.is_paid = False

    @workflow.run
    async def process(self) -> list[str]:
        await workflow.wait_until(lambda: self.is_paid)
        return [each.name for each in self.items]

    @workflow.signal(name="add-item")
    def add(self, item: Item) -> None:
        self.items.append(item)

    @workflow.signal
    def pay(self) -> None:
        self.is_paid = True

    @workflow.query(name="total.cents")
    def total(self) -> int:
        return sum(each.cents for each in self.items)

    @workflow.update(name="remove-item")
    async def remove(self, name: str) -> int:
        self.items = [each for each in self.items if each.name != name]
        return len(self.items)

    @remove.validator
    def check(self, name: str) -> None:
        if all(each.name != name for each in self.items):
            raise ValueError(f"no {name}")

    @workflow.query
    def seen(self) -> list[tuple[str, Item]]:
        return self.others

    @workflow.on_signal
    async def other(self, name: str, item: Item) -> None:
        await asyncio.sleep(0)
        self.others.append((name, item))


@workflow.defn
class Larger(Basket):
    @workflow.signal
    def add(self, item: Item) -> None:
        self.items += [item, item]


@workflow.defn
class Listener:
    def __init__(self) -> None:
        self.told: list[Any] = []

    @workflow.run
    async def process(self) -> list[Any]:
        await workflow.wait_until(lambda: len(self.told) == 2)
        return self.told

    @workflow.on_signal
    def other(self, name: str, *args: Any) -> None:
        self.told.append([name, *args])


@workflow.defn
class Parent:
    @workflow.run
    async def process(self, id: str) -> None:
        await workflow.get(id, Basket.process).signal(Basket.add, Item("fig", 5))


def run(
    kind: Any, scenario: Callable[[testing.Environment, Handle[Any, Any]], Awaitable[Any]], *others: Any
) -> Any:
    async def body() -> Any:
        async with testing.Environment(Registry.of([kind, *others], [])) as env:
            return await scenario(env, await env.client.start("b-1", kind.process))

    return asyncio.run(body())


@pytest.mark.parametrize("kind", [Basket, Larger])
def test_members_are_asked_for_by_their_given_names(kind: Any) -> None:
    async def scenario(env: testing.Environment, basket: Handle[Any, Any]) -> None:
        times = 2 if kind is Larger else 1
        await basket.signal(kind.add, Item("fig", 5))
        await basket.signal(Basket.add, Item("fig", 5))
        await basket.signal_by_name("add-item", [{"name": "plum", "cents": 3}])
        assert await basket.query(kind.total) == 13 * times
        assert await basket.query_by_name("total.cents") == 13 * times
        assert await basket.update(kind.remove, "fig") == times
        assert await basket.update_by_name("remove-item", ["plum"]) == 0
        with pytest.raises(Exception, match="no plum"):
            await basket.update(Basket.remove, "plum")
        for name in ("total", "check"):
            with pytest.raises(QueryFailed, match=r"it has: .*total\.cents"):
                await basket.query_by_name(name)
        with pytest.raises(RequestRefused, match="it has: remove-item"):
            await basket.update_by_name("remove", ["x"])
        history = [each for record in await env.client.history("b-1") for each in record.events]
        names = [each.name for each in history if isinstance(each, ev.SignalReceived)]
        assert names == ["add-item"] * 3

    run(kind, scenario)


def test_other_runs_and_starts_use_the_given_name() -> None:
    async def scenario(env: testing.Environment, basket: Handle[Any, Any]) -> None:
        await env.client.execute("p-1", Parent.process, "b-1")
        assert await basket.query(Basket.total) == 5
        other = env.client.with_start("b-2", Basket.process)
        await other.signal(Basket.add, Item("fig", 7))
        assert await other.query(Basket.total) == 7

    run(Basket, scenario, Parent)


def test_a_reference_shows_the_name_on_the_class() -> None:
    assert (Basket.add.name, repr(Basket.add)) == ("add-item", "<SignalRef Basket.add>")
    assert Larger.add.name == "add-item"


def test_on_signal_takes_only_signals_without_a_handler() -> None:
    async def scenario(env: testing.Environment, basket: Handle[Any, Any]) -> None:
        await basket.signal_by_name("add", [{"name": "fig", "cents": 5}])
        await basket.signal_by_name("add-item", [{"name": "plum", "cents": 3}])
        assert await basket.query(Basket.seen) == [("add", Item("fig", 5))]
        with pytest.raises(RequestRefused, match="signal 'more': argument 'item' expected object, got int"):
            await basket.signal_by_name("more", [3])
        with pytest.raises(RequestRefused, match="argument 'item' is missing"):
            await basket.signal_by_name("more")
        await basket.signal(Basket.pay)
        assert await basket.result() == ["plum"]

    run(Basket, scenario)


def test_on_signal_may_take_any_arguments() -> None:
    async def scenario(env: testing.Environment, told: Handle[Any, Any]) -> Any:
        await told.signal_by_name("one", [1, {"a": [None]}])
        await told.signal_by_name("two")
        return await told.result()

    assert run(Listener, scenario) == [["one", 1, {"a": [None]}], ["two"]]


def without_the_handler() -> Any:
    @workflow.defn(name="Listener")
    class Later:
        @workflow.run
        async def process(self) -> list[Any]:
            await workflow.wait_until(lambda: False)
            return []

    return Later


def test_what_on_signal_did_is_replayed_and_its_removal_is_found() -> None:
    async def scenario(env: testing.Environment, told: Handle[Any, Any]) -> Any:
        await told.signal_by_name("one", [1])
        await told.signal_by_name("two")
        await told.result()
        return await env.client.history("b-1")

    history = run(Listener, scenario)
    testing.replay(history, Registry.of([Listener], []))
    with pytest.raises(ReplayError, match=r"signal 'one'.*no such handler"):
        testing.replay(history, Registry.of([without_the_handler()], []))


def two_with_one_name() -> None:
    @workflow.defn
    class Twice(Basket):
        @workflow.signal(name="pay")
        def pay_by_card(self) -> None: ...


def two_on_signals() -> None:
    @workflow.defn
    class Twice(Basket):
        @workflow.on_signal
        def another(self, name: str) -> None: ...


def no_name() -> None:
    class Nameless:  # pyright: ignore[reportUnusedClass]
        @workflow.on_signal
        def other(self) -> None: ...


def name_by_keyword() -> None:
    class Nameless:  # pyright: ignore[reportUnusedClass]
        @workflow.on_signal
        def other(self, *, name: str) -> None: ...


def with_result() -> None:
    class Answers:  # pyright: ignore[reportUnusedClass]
        @workflow.on_signal
        def other(self, name: str) -> int:
            return 1


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (two_with_one_name, "two of kind signal named 'pay'"),
        (two_on_signals, "more than one on_signal"),
        (no_name, "must take the name of the signal first"),
        (name_by_keyword, "must take the name of the signal first"),
        (with_result, "a signal has no result"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(define: Callable[[], None], message: str) -> None:
    with pytest.raises(UsageError, match=rf"test_names_of_messages\.py:\d+: .*{message}"):
        define()


def test_the_types_of_on_signal_are_checked_at_load() -> None:
    @workflow.defn
    class Odd:
        @workflow.run
        async def process(self) -> None: ...

        @workflow.on_signal
        def other(self, name: str, value: complex) -> None: ...

    with pytest.raises(UsageError, match=r"on_signal of workflow 'Odd': argument 'value' .*complex"):
        check_registered([workflow.definition_of(Odd)], [], None)
