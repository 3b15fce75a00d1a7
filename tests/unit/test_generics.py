"""Annotations that a class inherits from a generic one mean what the class says: values are
decoded, checked and shown by that."""

# pyright: reportInvalidTypeVarUse=false, reportGeneralTypeIssues=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, NotRequired, TypedDict, TypeVar

import msgspec
import pytest
import typing_extensions

from perdure import testing, workflow
from perdure.authoring.definition import _of_class  # pyright: ignore[reportPrivateUsage]
from perdure.authoring.targets import member_for
from perdure.codec.columns import Kind, shape_of, shapes_of
from perdure.codec.payloads import JsonPayloads
from perdure.codec.registered import check_registered
from perdure.errors import Failure, PayloadError, UsageError
from perdure.model.signature import hints_of
from perdure.registry import Registry

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


@dataclass
class Order:
    id: str
    cents: int = 0


@dataclass
class Bill:
    number: int


T = TypeVar("T")
U = TypeVar("U")
Bounded = TypeVar("Bounded", bound=Order)
BoundByName = TypeVar("BoundByName", bound="Order")
Able = TypeVar("Able", bound=Hashable)
AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)
Unimported = TypeVar("Unimported", bound="OnlyForTypeCheckers")
Defaulted = typing_extensions.TypeVar("Defaulted", default=Order)


@dataclass
class Page(Generic[T]):
    items: list[T]
    first: T | None = None


class Base(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value
        self.told: list[T] = []

    @workflow.run
    async def run(self, value: T) -> T:
        await workflow.wait_until(lambda: self.told)
        return self.value

    @workflow.signal
    def tell(self, value: T, *more: T, page: Page[T] | None = None) -> None:
        self.told += [value, *more]

    @workflow.query
    def ask(self, values: list[T]) -> dict[str, T | None]:
        return {str(i): value for i, value in enumerate([*values, *self.told])}

    @workflow.view
    def status(self) -> Page[T]:
        return Page(self.told)


@workflow.defn
class Orders(Base[Order]):
    pass


@workflow.defn
class Bills(Base[Bill]):
    pass


@workflow.defn
class Lists(Base[list[Order]]):
    pass


@workflow.defn
class ByName(Base["Later"]):
    pass


@dataclass
class Later:
    x: int


class Middle(Base[list[U]], Generic[U, T]):
    @workflow.query
    def other(self, value: T, same: U) -> T:
        return value


@workflow.defn
class TwoLevels(Middle[Order, Bill]):
    pass


@workflow.defn
class Unsaid(Base):  # type: ignore[type-arg]
    pass


payloads = JsonPayloads()


def hints(fn: Any) -> dict[str, Any]:
    return dict(hints_of(fn))


def test_each_derived_class_has_its_own_types() -> None:
    for cls, of in (
        (Orders, Order),
        (Bills, Bill),
        (Lists, list[Order]),
        (ByName, Later),
        (TwoLevels, list[Order]),
        (Unsaid, Any),
    ):
        definition = workflow.definition_of(cls)
        assert hints(definition.run_fn) == {"value": of, "return": of}
        assert definition.returns == of
        assert hints(definition.signals["tell"]) == {
            "value": of,
            "more": of,
            "page": Page[of] | None,  # type: ignore[valid-type]
            "return": type(None),
        }
        assert hints(definition.queries["ask"]) == {"values": list[of], "return": dict[str, of | None]}  # type: ignore[valid-type]
        assert definition.view is not None
        assert hints(definition.view) == {"return": Page[of]}  # type: ignore[valid-type]
        member: Any = cls
        assert member.ask.returns == dict[str, of | None]  # type: ignore[valid-type]
        assert member.status.returns == Page[of]  # type: ignore[valid-type]
        assert member.tell.fn is definition.signals["tell"], (
            "one function a class, which payloads know by its identity"
        )
        check_registered([definition], [], None)
    assert hints(TwoLevels.other.fn) == {"value": Bill, "same": Order, "return": Bill}


def test_a_member_named_from_the_generic_class_is_that_of_the_workflow_that_is_asked() -> None:
    asked = member_for(Base.ask, workflow.QueryRef, workflow.definition_of(Orders))
    assert asked.returns == dict[str, Order | None]
    assert asked.owner is Orders


def test_values_of_another_type_are_refused_where_they_are_encoded() -> None:
    run = workflow.definition_of(Orders).run_fn
    data = payloads.encode_arguments(run, (Order("a", 5),), {}, what="it")
    assert payloads.decode_arguments(run, data, what="it") == ((Order("a", 5),), {})
    with pytest.raises(PayloadError, match="'value' is missing required field id"):
        payloads.encode_arguments(run, (Bill(1),), {}, what="it")
    with pytest.raises(PayloadError, match="'value'"):
        payloads.decode_arguments(run, b'[{"number":1}]', what="it")


def test_a_type_that_cannot_be_decoded_is_refused_at_load_for_the_class_that_names_it() -> None:
    class Plain:
        pass

    class Odd(Base[Plain]):
        pass

    with pytest.raises(UsageError, match="Plain, which cannot be decoded"):
        check_registered([_defined(Odd)], [], None)

    class Missing(Base["Nowhere"]):  # type: ignore[name-defined]
        pass

    with pytest.raises(
        UsageError, match=r"test_generics.py:\d+: an annotation of Base.run cannot be resolved: .*'Nowhere'"
    ):
        check_registered([_defined(Missing)], [], None)


def _defined(cls: Any) -> Any:
    """The definition of a class that other tests do not see."""
    return _of_class(cls, cls.__name__, 1, "here")


def test_a_constructor_takes_what_the_run_takes_by_another_name_of_the_type() -> None:
    class Right(Base[Order]):
        def __init__(self, value: Order) -> None:
            super().__init__(value)

    assert _defined(Right).init_takes_arguments

    class Inherited(Base[Order]):
        @workflow.run
        async def run(self, value: Order) -> Order:
            return self.value

    assert _defined(Inherited).init_takes_arguments

    class Wrong(Base[Order]):
        def __init__(self, value: Bill) -> None: ...

    with pytest.raises(UsageError, match="exactly what the run takes"):
        _defined(Wrong)


def test_variables_that_no_class_fills_have_their_default_their_bound_or_any() -> None:
    def each(
        a: Bounded,
        b: list[BoundByName],
        c: Defaulted,
        d: Able,
        e: AnyStruct,
        f: Unimported,
        g: Annotated[T, 1],
        h: Page,  # type: ignore[type-arg]
    ) -> T | None: ...

    assert hints(each) == {
        "a": Order,
        "b": list[Order],
        "c": Order,
        "d": Any,
        "e": Any,
        "f": Any,
        "g": Annotated[Any, 1],
        "h": Page,
        "return": Any | None,
    }


def test_a_default_holds_where_a_derived_class_gives_fewer_arguments() -> None:
    class WithDefault(Generic[T, Defaulted]):
        @workflow.run
        async def run(self, a: T) -> Defaulted: ...  # type: ignore[empty-body]

    class Half(WithDefault[Bill]):
        pass

    assert hints(_defined(Half).run_fn) == {"a": Bill, "return": Order}


@dataclass
class OrderPage(Page[Order]):
    number: int = 0


class Row(TypedDict, Generic[T]):
    it: T
    other: NotRequired[list[T]]


class OrderRow(Row[Order]):
    number: int


class Box(msgspec.Struct, Generic[T]):
    it: T


class OrderBox(Box[Order]):
    pass


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (OrderPage, OrderPage([Order("a")], Order("b"))),
        (Page[Order], Page([Order("a")])),
        (OrderBox, OrderBox(Order("a"))),
        (Box[Page[Order]], Box(Page([Order("a")]))),
        (Row[Order], {"it": Order("a"), "other": []}),
    ],
)
def test_fields_that_are_inherited_from_a_generic_class_come_back_as_they_are(
    annotation: Any, value: Any
) -> None:
    data = payloads.encode(value, annotation, what="it")
    assert payloads.decode(data, annotation, what="it") == value
    with pytest.raises(PayloadError, match="expected str, got int"):
        payloads.decode(data.replace(b'"a"', b"7"), annotation, what="it")


def test_a_typed_dict_that_inherits_variables_is_refused_since_its_values_would_come_back_as_dicts() -> None:
    with pytest.raises(PayloadError, match="annotate it"):
        payloads.encode({"it": Order("a"), "number": 1}, OrderRow, what="it")


def test_the_columns_of_a_view_are_those_of_the_class_that_is_meant() -> None:
    class Sums(Generic[T]):
        @workflow.view
        def status(self) -> Box[T]: ...  # type: ignore[empty-body]

        @workflow.run
        async def run(self) -> None: ...

    class IntSums(Sums[int]):
        pass

    (column,) = shapes_of({"IntSums": _defined(IntSums).view})["IntSums"].columns
    assert (column.name, column.kind) == ("it", Kind.INTEGER)
    assert [(each.name, each.kind) for each in shape_of(Page[int]).columns] == [
        ("items", Kind.JSON),
        ("first", Kind.INTEGER),
    ]
    assert shape_of(OrderPage).columns[2].kind is Kind.INTEGER
    assert shape_of(Page[int]).comment == shape_of(Page).comment


@dataclass
class Rejected(Failure, Generic[T]):
    what: T


class OrderRejected(Rejected[Order]):
    pass


def test_the_fields_of_a_failure_that_is_derived_from_a_generic_one_are_decoded() -> None:
    back: Any = payloads.decode_failure(payloads.encode_failure(OrderRejected(Order("a"))))
    assert type(back) is OrderRejected
    assert back.what == Order("a")


def test_a_run_of_a_derived_class_gets_signals_queries_and_results_by_its_types() -> None:
    async def story() -> None:
        async with testing.Environment(Registry.of([Orders, Bills])) as env:
            for cls, value in ((Orders, Order("a", 1)), (Bills, Bill(2))):
                member: Any = cls
                handle: Any = await env.client.start(cls.__name__, member.run, value)
                assert await handle.query(member.ask, [value]) == {"0": value}
                await handle.signal(Base.tell, value, value, page=Page([value]))
                assert await handle.result() == value
                assert await handle.view(member.status) == Page([value, value])
                assert await env.client.get(cls.__name__, member.run).result() == value

    asyncio.run(story())
