"""Values that JSON alone does not tell apart: enums of mixed values, unions of classes, paths."""

from __future__ import annotations

import asyncio
import enum
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from perdure import activity, testing, workflow
from perdure.codec.columns import Kind, shape_of
from perdure.codec.failures import failure_of, info_of
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure, PayloadError, WorkflowFailed
from perdure.registry import Registry

payloads = JsonPayloads()
trusting = JsonPayloads(validate_on_encode=False)
T = TypeVar("T")


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "1"
    NONE = None
    HALF = 2.5
    PAIR = (1, "1")


class Size(enum.Enum):
    SMALL = "s"


class Level(enum.IntEnum):
    LOW = 1


class Lenient(enum.Enum):
    A = 1
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.OTHER


@dataclass
class Card:
    number: str
    mixed: Mixed = Mixed.TEXT


@dataclass(frozen=True, slots=True)
class Bank:
    iban: str
    file: Path | None = None


@dataclass
class Checked:
    total: int

    def __post_init__(self) -> None:
        if self.total < 0:
            raise ValueError("total is negative")


class Cash(msgspec.Struct, rename="camel"):
    how_much: int
    paid_by: Card | Bank | None = None


class Voucher(BaseModel):
    code: str
    from_file: Path | None = None


class Gift(BaseModel):
    to: str


class Numbers(RootModel[list[int]]): ...


class Point(NamedTuple):
    x: Card | Bank
    y: int = 0


class Named(TypedDict, total=False):
    by: Card | Bank


@dataclass
class Sum:
    parts: list[Sum | Leaf]
    by_name: dict[str, Leaf | Sum] = field(default_factory=dict[str, "Leaf | Sum"])


@dataclass
class Leaf:
    value: int


@dataclass
class Page(Generic[T]):
    items: list[T]


Payment = NewType("Payment", Card)
ANY_IP = IPv4Address | IPv6Address | IPv4Network | IPv6Network

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
MIXED = st.sampled_from(Mixed)
CARDS = st.builds(Card, TEXT, MIXED)
BANKS = st.builds(Bank, TEXT, st.none() | st.just(Path("/a/b")))
PAID = CARDS | BANKS
CASH = st.builds(Cash, st.integers(), st.none() | PAID)
MODELS = st.builds(Voucher, code=TEXT, from_file=st.none() | st.just(Path("x"))) | st.builds(Gift, to=TEXT)
V4 = st.ip_addresses(v=4)
LEAVES = st.builds(Leaf, st.integers())
SUMS = st.recursive(
    LEAVES,
    lambda inner: st.builds(Sum, st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=2)),
    max_leaves=6,
)

ROUND: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Mixed, MIXED),
    (list[Mixed], st.lists(MIXED)),
    (frozenset[Mixed], st.frozensets(MIXED)),
    (Mixed | Size, MIXED | st.just(Size.SMALL)),
    (Level | str, st.just(Level.LOW) | TEXT),
    (Literal[Mixed.ONE, Mixed.TEXT, "x", True], st.sampled_from([Mixed.ONE, Mixed.TEXT, "x", True])),
    (dict[Literal[Size.SMALL], Mixed], st.dictionaries(st.just(Size.SMALL), MIXED)),
    (Card | Bank, PAID),
    (Card | Bank | None, PAID | st.none()),
    (list[Card | Bank | int | str], st.lists(PAID | st.integers() | TEXT)),
    (Card | Bank | list[Card | Bank], PAID | st.lists(PAID)),
    (dict[str, tuple[Card | Bank, ...]], st.dictionaries(TEXT, st.lists(PAID).map(tuple))),
    (tuple[Card | Bank, Mixed], st.tuples(PAID, MIXED)),
    (deque[Card | Bank], st.lists(PAID).map(deque)),
    (Sequence[Bank | Leaf], st.lists(BANKS | LEAVES)),
    (Card | Cash | Voucher | Gift, CARDS | CASH | MODELS),
    (Voucher | Gift, MODELS),
    (Voucher | str, st.builds(Voucher, code=TEXT) | TEXT),
    (Page[Card | Bank], st.builds(Page, st.lists(PAID))),
    (Page[int] | Leaf, st.builds(Page, st.lists(st.integers())) | LEAVES),
    (Payment | Bank, PAID),
    (Annotated[Card | Bank, "how it is paid"], PAID),
    (Point, st.builds(Point, PAID, st.integers())),
    (Named, st.fixed_dictionaries({}, optional={"by": PAID})),
    (Cash, CASH),
    (Sum | Leaf, SUMS),
    (Path, TEXT.map(Path)),
    (Path | int | None, TEXT.map(Path) | st.integers() | st.none()),
    (dict[Path, IPv4Address], st.dictionaries(TEXT.map(Path), V4)),
    (PurePosixPath, TEXT.map(PurePosixPath)),
    (IPv4Address | IPv6Address, st.ip_addresses()),
    (ANY_IP, st.ip_addresses() | st.ip_addresses().map(ip_network)),
    (IPv4Interface, V4.map(lambda each: ip_interface(f"{each}/8"))),
    (IPv6Interface | int, st.ip_addresses(v=6).map(ip_interface) | st.integers()),
]


def _typed(value: Any) -> Any:
    """A value with the types of everything in it."""
    whole: Any = value
    if isinstance(value, (list, tuple, deque)):
        return type(whole), [_typed(each) for each in whole]
    if isinstance(value, dict):
        return dict, [(_typed(key), _typed(each)) for key, each in whole.items()]
    return type(whole), whole


@pytest.mark.parametrize(("annotation", "values"), ROUND, ids=lambda each: repr(each)[:60])
def test_every_value_comes_back_equal_and_of_the_same_type(
    annotation: Any, values: st.SearchStrategy[Any]
) -> None:
    def takes(first: Any, *, other: Any) -> None: ...

    takes.__annotations__ = {"first": annotation, "other": annotation, "return": None}
    payloads.check(takes, what="it")

    @settings(max_examples=40)  # of two values each, for each of the annotations
    @given(values, values)
    def prove(value: Any, other: Any) -> None:
        data = payloads.encode(value, annotation, what="the value")
        assert _typed(payloads.decode(data, annotation, what="the value")) == _typed(value)
        call = payloads.encode_arguments(takes, (value,), {"other": other}, what="it")
        (first,), named = payloads.decode_arguments(takes, call, what="it")
        assert _typed((first, named["other"])) == _typed((value, other))
        assert trusting.encode(value, annotation, what="the value") == data

    prove()


@pytest.mark.parametrize(
    ("value", "annotation", "data"),
    [
        (Card("4"), Card | Bank, {"$type": "Card", "number": "4", "mixed": "1"}),
        (Gift(to="Ada"), Voucher | Gift, {"$type": "Gift", "to": "Ada"}),
        (Cash(5, Bank("DE")), Cash, {"howMuch": 5, "paidBy": {"$type": "Bank", "iban": "DE", "file": None}}),
        ([Mixed.ONE, Mixed.TEXT, Mixed.PAIR], list[Mixed], [1, "1", [1, "1"]]),
        ({Path("/a"): ip_address("::1")}, dict[Path, IPv6Address], {"/a": "::1"}),
        (Gift(to="Ada"), Gift | None, {"to": "Ada"}),
        (Card("4"), Card | str, {"number": "4", "mixed": "1"}),
    ],
)
def test_other_languages_can_read_what_is_written(value: Any, annotation: Any, data: Any) -> None:
    assert json.loads(payloads.encode(value, annotation, what="it")) == data


@pytest.mark.parametrize(
    ("payload", "annotation", "message"),
    [
        (
            b'{"number":"4"}',
            Card | Bank,
            r"^it is missing required field \$type \(one of 'Card', 'Bank'\)$",
        ),
        (
            b'{"$type":"Cow"}',
            Card | Bank,
            r"invalid value 'Cow', which must be one of 'Card', 'Bank', at .\$type",
        ),
        (b'{"$type":7}', Card | Bank, "invalid value 7"),
        (b'[{"$type":"Card","number":4}]', list[Card | Bank], r"expected str, got int, at \[0\].number$"),
        (b'{"parts":[{"$type":"Leaf"}]}', Sum, r"missing required field value, at .parts\[0\]$"),
        (b'{"by_name":{"a":3},"parts":[]}', Sum, r"expected object, got int, at .by_name\['a'\]$"),
        (b'{"howMuch":1,"paidBy":{"$type":"Bank"}}', Cash, "field iban, at .paidBy$"),
        (b'{"$type":"Checked","total":-1}', Checked | Leaf, "total is negative"),
        (b"7", Mixed, "^it invalid enum value 7$"),
        (b'"2.5"', Mixed, "invalid enum value '2.5'"),
        (b"true", Mixed, "invalid enum value True"),
        (b'"x"', Literal[Size.SMALL], "invalid enum value 'x'"),
        (b"[1]", Card | Bank | int, "expected int | object, got array"),
        (b'{"z":1}', dict[Literal[Size.SMALL], int], "invalid key 'z'"),
        (b"1", Path, "expected the text of a Path, got int"),
        (b"1", IPv4Address, "expected the text of an IPv4Address, got int"),
        (b'["1.1.1"]', list[IPv4Address], r"'1.1.1' is not an IPv4Address: .*, at \[0\]$"),
        (b'"1.2.3.4/8"', IPv4Network, "is not an IPv4Network: .* has host bits set"),
        (b'"x"', IPv4Address | IPv6Address, r"'x' is not one of IPv4Address \| IPv6Address"),
        (b'{"$type":"Voucher"}', Voucher | Gift, r"1 validation error for Voucher\ncode"),
    ],
)
def test_bad_data_is_refused_with_the_field(payload: bytes, annotation: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.decode(payload, annotation, what="it")


class Alike(enum.Enum):
    LIST = [1]  # noqa: RUF012
    TUPLE = (1,)


class Opaque(enum.Enum):
    IT = object()
    OTHER = 1


class Nan(enum.Enum):
    IT = float("nan")
    OTHER = "x"


def _other_card() -> Any:
    @dataclass
    class Card:
        x: int

    return Card


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Alike, r"LIST.* from .*TUPLE.*: both are \[1\]; give one of them another value"),
        (Opaque, r"whose value <Opaque.IT: .* has no JSON"),
        (Nan, "has no JSON"),
        (Size | str, "str and Size look alike there"),
        (Path | str, "str and Path look alike there"),
        (Path | IPv4Address, "IPv4Address and Path look alike"),
        (IPv4Network | IPv4Interface, "IPv4Network and IPv4Interface look alike"),
        (Card | dict[str, int], "dict.* and Card look alike"),
        (Card | Bank | dict[str, int], r"dict.* and Card \| Bank look alike"),
        (Card | Bank | Named, r"Named and Card \| Bank look alike|Card \| Bank and Named look alike"),
        (Page[int] | Page[str], "look alike there"),
        (list[Card | Bank] | tuple[int, ...], "look alike there"),
        (Card | _other_card(), "two classes named Card.*rename one"),
        (Literal[Mixed.ONE, 1], "cannot distinguish"),
        (dict[Mixed, int], r"keys are text there, both are '1'; use a list of pairs"),
        (Mixed | Lenient, "look alike there"),
    ],
)
def test_alternatives_that_cannot_be_distinguished_are_refused_with_advice(
    annotation: Any, message: str
) -> None:
    def takes(it: Any) -> None: ...

    takes.__annotations__["it"] = annotation
    with pytest.raises(PayloadError, match=message):
        payloads.check(takes, what="it")


def test_a_value_of_another_class_is_refused_where_it_is_encoded() -> None:
    @dataclass
    class Special(Card): ...

    for value in (Special("4"), Leaf(1), "4"):
        with pytest.raises(PayloadError, match="it "):
            payloads.encode(value, Card | Bank, what="it")


def test_an_enum_may_still_take_values_that_it_does_not_list() -> None:
    assert payloads.decode(b'"anything"', Lenient, what="it") is Lenient.OTHER


def test_a_number_of_an_enum_may_be_written_with_a_point() -> None:
    assert payloads.decode(b"1.0", Mixed, what="it") is Mixed.ONE


def test_a_default_is_recorded_with_its_tag() -> None:
    def pay(by: Card | Bank = Bank("DE")) -> None: ...

    data = payloads.encode_arguments(pay, (), {}, what="it")
    assert json.loads(data) == [{"$type": "Bank", "iban": "DE", "file": None}]
    assert payloads.decode_arguments(pay, b"[]", what="it") == ((), {})


@dataclass(eq=False)
class Declined(Failure):
    by: Card | Bank
    why: Mixed = Mixed.ONE


def test_the_fields_of_a_failure_come_back() -> None:
    found = failure_of(info_of(Declined(Bank("DE"), Mixed.TEXT)))
    assert isinstance(found, Declined)
    assert (found.by, found.why) == (Bank("DE"), Mixed.TEXT)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Path, Kind.TEXT),
        (IPv4Address | None, Kind.TEXT),
        (Mixed, Kind.JSON),
        (Size, Kind.TEXT),
        (Level, Kind.INTEGER),
        (Literal[Size.SMALL], Kind.TEXT),
        (Literal[Level.LOW], Kind.INTEGER),
        (Card | Bank, Kind.JSON),
        (IPv4Address | IPv6Address, Kind.JSON),
    ],
)
def test_the_column_of_a_view_fits_what_is_written(annotation: Any, kind: Kind) -> None:
    assert [each.kind for each in shape_of(annotation).columns] == [kind]


@activity.defn
async def pay(by: Card | Bank, note: Mixed) -> Voucher | Gift:
    return Gift(to=by.number) if isinstance(by, Card) else Voucher(code=by.iban, from_file=by.file)


@workflow.defn
class Payments:
    def __init__(self) -> None:
        self.paid: list[Card | Bank] = []
        self.end = False

    @workflow.run
    async def process(self, first: Card | Bank) -> list[Voucher | Gift]:
        self.paid.append(first)
        await workflow.wait_until(lambda: len(self.paid) == 2)
        return [await pay(each, Mixed.TEXT) for each in self.paid]

    @workflow.signal
    def also(self, by: Card | Bank) -> None:
        self.paid.append(by)

    @workflow.query
    def last(self) -> Card | Bank | None:
        return self.paid[-1]

    @workflow.view
    def all(self) -> dict[str, Card | Bank]:
        return {str(i): each for i, each in enumerate(self.paid)}


@workflow.defn
async def declined() -> None:
    raise Declined(Card("4"))


def test_a_run_takes_keeps_and_returns_unions() -> None:
    asyncio.run(_a_run_with_unions())


async def _a_run_with_unions() -> None:
    async with testing.Environment(Registry.of([Payments, declined], [pay])) as env:
        card, bank = Card("4", Mixed.PAIR), Bank("DE", Path("/a"))
        run = await env.client.start("p", Payments.process, card)
        assert await run.query(Payments.last) == card
        await run.signal(Payments.also, bank)
        assert await run.result() == [Gift(to="4"), Voucher(code="DE", from_file=Path("/a"))]
        assert await run.view(Payments.all) == {"0": card, "1": bank}
        with pytest.raises(WorkflowFailed) as caught:
            await env.client.execute("d", declined)
        assert isinstance(caught.value.cause, Declined)
        assert caught.value.cause.by == Card("4")
