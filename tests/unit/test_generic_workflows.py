"""Members that a workflow class has from a generic base class take and give what its type arguments
say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import pytest

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.workflow import definition_of

T = TypeVar("T")
K = TypeVar("K")


@dataclass
class Item:
    name: str


@dataclass
class Box(Generic[T]):
    inside: T


class Base(Generic[T]):
    @workflow.run
    async def process(self, value: T) -> dict[str, T]:
        return {"value": value}

    @workflow.signal
    def put(self, value: list[T] | None) -> None: ...

    @workflow.query
    def find(self, name: str) -> T:
        raise NotImplementedError

    @workflow.view
    def all(self) -> list[T]:
        return []


@workflow.defn(name="generic-direct")
class Direct(Base[Item]): ...


class Boxed(Base[Box[T]]): ...  # its own T, which is not that of Base


@workflow.defn(name="generic-nested")
class Nested(Boxed[Item]): ...


class Two(Base[K], Generic[T, K]): ...


@workflow.defn(name="generic-swapped")
class Swapped(Two[int, Annotated[Item, "noted"]]): ...


@workflow.defn(name="generic-open")
class Open(Base[Any]): ...


@pytest.mark.parametrize(
    ("cls", "value"),
    [(Direct, Item("a")), (Nested, Box(Item("b"))), (Swapped, Item("c")), (Open, {"name": "d"})],
)
def test_a_value_of_a_type_variable_comes_back_as_what_the_subclass_says(cls: Any, value: object) -> None:
    payloads = JsonPayloads()
    definition = definition_of(cls)
    for fn, given in (
        (definition.run_fn, value),
        (definition.signals["put"], [value]),
        (cls.put.fn, [value]),
    ):
        data = payloads.encode_arguments(fn, (given,), {}, what="the value")
        assert payloads.decode_arguments(fn, data, what="the value") == ((given,), {})
    for annotation, given in (
        (definition.returns, {"value": value}),
        (cls.find.returns, value),
        (cls.all.returns, [value]),
    ):
        data = payloads.encode(given, annotation, what="the value")
        assert payloads.decode(data, annotation, what="the value") == given


def test_classes_of_one_base_have_functions_of_their_own_which_stay_the_same() -> None:
    assert Direct.put.fn is definition_of(Direct).signals["put"]
    assert Direct.put.fn is not Nested.put.fn
    assert Direct.put.fn.__code__ is Nested.put.fn.__code__
