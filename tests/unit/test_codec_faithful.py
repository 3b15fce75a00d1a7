"""A value comes back as it is, or is refused where it is encoded: never changed in silence."""

from __future__ import annotations

import enum
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perdure.codec import msgspec_faults
from perdure.codec.faithful.call import check_of_call
from perdure.codec.faithful.changed import Changed
from perdure.codec.faithful.compiler import exact_types
from perdure.codec.faithful.difference import difference
from perdure.codec.faithful.scalars import exactly
from perdure.codec.msgspec_faults import crash_of
from perdure.codec.payloads import JsonPayloads
from perdure.codec.values import DEPTH, check_depth, check_for, decoder_of, from_json, to_json_as
from perdure.errors import PayloadError
from perdure.model.generics import class_hints
from perdure.model.payloads import UNKNOWN

payloads = JsonPayloads()
LIST: Any = list  # what a type checker does not take for types, since their items are variables
TUPLE: Any = tuple
DICT: Any = dict
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796  an alias


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict):
    loud: bool
    note: NotRequired[str]


class Text(str):
    __slots__ = ()


class Count(int):
    pass


@dataclass
class Base:
    name: str


@dataclass
class Special(Base):
    extra: int = 0


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list["Tree"])


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Doubling:
    cents: int

    def __post_init__(self) -> None:
        self.cents *= 2


@dataclass
class Summing:
    parts: list[int]
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.parts)


@dataclass
class Bag:
    anything: Any = None
    maybe: float | None = None
    at: datetime | None = None


class Tagged(msgspec.Struct, tag=True):
    pass


class Circle(Tagged):
    radius: float


class Square(Tagged, rename="camel"):
    side_length: float


class Model(pydantic.BaseModel):
    weight: Decimal
    at: datetime | None = None
    tags: set[str] = set()


class Parent(pydantic.BaseModel):
    child: Model


class Child(Model):
    more: int = 0


def again(value: object, annotation: Any) -> Any:
    return payloads.decode(payloads.encode(value, annotation, what="it"), annotation, what="it")


VIENNA = ZoneInfo("Europe/Vienna")

COME_BACK: list[tuple[Any, Any]] = [
    (Any, None), (Any, [1, "a", 1.5, True, None, {"a": [{}]}]), (Any, 1 << 80), (Any, -0.0), (Any, 1e22),
    (object, "x"),
    (float, -0.0), (float, 5e-324), (float, 1.7976931348623157e308), (float | None, 1.5), (int | float, 1.0),
    (int | float, 1),
    (int, 1 << 200), (int, -(1 << 64)), (str, "\0é\U0001f600\u2028"), (bytes, b"\xff\0"),
    (bytearray, bytearray(b"x")),
    (Decimal, Decimal("1.10")), (Decimal, Decimal("-0E-10")), (Decimal, Decimal("Infinity")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6)), (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
    (datetime, datetime.min), (datetime, datetime.max),
    (date, date(1, 1, 1)), (time, time(1, 2, 3, 4)), (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(-1, 1, 1)),
    (timedelta, timedelta.max), (timedelta, timedelta.min), (UUID, UUID(int=7)),
    (Colour, Colour.CRIMSON), (Level, Level.LOW), (Word, Word.YES), (Right, Right.READ | Right.WRITE),
    (Right, Right(0)),
    (Literal["a", 1] | None, 1), (tuple[int, ...], (1, 2)), (tuple[int, str], (1, "a")), (tuple[()], ()),
    (set[int], {1}), (frozenset[str], frozenset("a")), (deque[int], deque([1])), (Sequence[int], [1]),
    (Mapping[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}), (dict[Level, int], {Level.LOW: 1}), (dict[date, int], {date(2026, 1, 1): 1}),
    (dict[datetime, int], {datetime(2026, 1, 1, tzinfo=UTC): 1}), (dict[bytes, int], {b"\xff": 1}),
    (dict[UUID, int], {UUID(int=1): 1}),
    (dict[Colour, int], {Colour.RED: 1}), (dict[float, int], {1.5: 1}),
    (dict[int | str, str], {"1": "a", "b": "b"}), (dict[str, Any], {}),
    (Point, Point(1, 2.0)), (Options, {"loud": True}), (Options, {"loud": True, "note": "x"}),
    (Text, Text("x")), (Count, Count(3)),
    (Base, Base("x")), (Special, Special("x", 1)), (Tree, Tree(1, [Tree(2), Tree(3, [Tree(4)])])),
    (Box[int], Box(1)), (Box[Base], Box(Base("x"))),
    (Summing, Summing([1, 2])), (Bag, Bag([1], 1.5, datetime(2026, 1, 1))), (Circle | Square, Square(1.0)),
    (list[Circle | Square], [Circle(1.0)]),
    (Annotated[int, msgspec.Meta(gt=0)], 1), (Model,
        Model(weight=Decimal("1.10"), at=datetime(2026, 1, 1, tzinfo=UTC), tags={"a"})),
    (list[Model] | None, [Model(weight=Decimal(1))]), (Parent, Parent(child=Model(weight=Decimal(1)))),
    (None, None),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), COME_BACK)
def test_a_value_comes_back_with_its_type(annotation: Any, value: Any) -> None:
    back = again(value, annotation)
    assert difference(value, back) is None
    assert type(back) is type(value)
    assert "Model" in repr(value) or repr(back) == repr(value)  # pydantic has a time zone of its own


NO_NUMBER = float("nan")

REFUSED: list[tuple[Any, Any, str]] = [
    (Any, (1, 2), "is of type tuple"), (bytes | Any, b"x", "bytes"),
    (Any, [1, {"a": (1,)}], r"is of type tuple.* at \[1\]\['a'\]"), (Any, b"x", "bytes"),
    (Any, {1: 2}, "key 1"),
    (Any, NO_NUMBER, "nan, which has no JSON"), (Any, [float("inf")], "inf"), (Any, Colour.RED, "Colour"),
    (Any, datetime(2026, 1, 1), "datetime"),
    (Any, Base("x"), "Base"), (Any, Word.YES, "Word"), (Any, Text("x"), "Text"), (Any, Count(1), "Count"),
    (Any, OrderedDict(a=1), "OrderedDict"),
    (Any, {1, 2}, "set"), (Any, Path("x"), "Path"), (Any, UserDict(a=1), "UserDict"),
    (list[Any], [(1,)], "tuple"), (dict[str, Any], {"a": (1,)}, "tuple"),
    (float, NO_NUMBER, "NaN"), (float | None, NO_NUMBER, "nan"),
    (list[float | None], [1.0, float("-inf")], r"at \[1\]"), (float, (1 << 53) + 1, "int"),
    (Bag, Bag(maybe=NO_NUMBER), r"at \.maybe"), (Bag, Bag((1,)), r"at \.anything"),
    (Decimal, Decimal("NaN"), "NaN"), (Decimal, Decimal("sNaN"), "NaN"),
    (dict[int | str, str], {1: "a", "1": "b"}, "same text|come back changed"),
    (dict[int | str, str], {1: "b"}, "come back changed"),
    (dict[str, int], {1: 1}, "key 1"), (dict[int, int], {True: 1}, "key True"),
    (dict[Any, int], {None: 1}, "NoneType"), (dict[float, int], {NO_NUMBER: 1}, "nan"),
    (datetime, datetime(2026, 7, 1, tzinfo=VIENNA), "time zone Europe/Vienna"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "fold=1"),
    (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=61))), "seconds would be lost"),
    (Bag, Bag(at=datetime(2026, 1, 1, tzinfo=VIENNA)), "zone"),
    (int, True, "expected int"), (int, "x", "expected int, got str"), (int, 1.0, "float|int"),
    (str, Word.YES, "Word"), (int, Level.LOW, "Level"), (str, 1, "str"),
    (bytes, bytearray(b"x"), "bytearray"), (list[int], (1, 2), "tuple"), (tuple[int, ...], [1, 2], "list"),
    (set[int], frozenset({1}), "frozenset"),
    (Sequence[int], (1, 2), "tuple"), (dict[str, int], defaultdict(int, a=1), "defaultdict"),
    (dict[str, int], OrderedDict(a=1), "OrderedDict"),
    (Base, Special("x", 1), "is of type Special, its annotation says Base"),
    (list[Base], [Special("x")], r"at \[0\]"), (Point, (1, 2.0), "tuple"),
    (Options, {"loud": True, "odd": 1}, "'odd'"), (Options, {"note": "x"}, "loud"),
    (Literal["a"], Word.YES, "invalid enum value"), (Doubling, Doubling(1), "2.*4"),
    (deque[int], deque([1], maxlen=3), "maximum length"), (str, "\udc80", "surrogates"),
    (None, 3, "expected null"), (Tree, Tree(1, [Tree("x")]), "expected int"),  # type: ignore[arg-type]
    (Annotated[int, msgspec.Meta(gt=0)], -1, "expected"), (Circle | Square, Model(weight=Decimal(1)), "it"),
    (Model, Child(weight=Decimal(1), more=2), "Child"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "message"), REFUSED)
def test_what_would_change_is_refused_where_it_is_encoded(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.encode(value, annotation, what="it")


def test_an_int_is_taken_for_a_float_as_type_checkers_take_it() -> None:
    assert again([3, 1 << 53], list[float]) == [3.0, float(1 << 53)]


def test_the_argument_is_named_that_would_change() -> None:
    def buy(items: list[Base], note: Any = None, *, rest: Any = None) -> None: ...

    cases: list[tuple[Any, Any, str]] = [
        (
            ([Special("x")],),
            {},
            r"activity 'buy': argument 'items' is of type .*Special, its annotation says .*Base, at \[0\]",
        ),
        (([], (1,)), {}, "argument 'note' is of type tuple"),
        (([],), {"rest": {1: 1}}, "argument 'rest' has the key 1"),
        ((["x"],), {}, "argument 'items' expected object, got str"),
    ]
    for args, kwargs, message in cases:
        with pytest.raises(PayloadError, match=message):
            payloads.encode_arguments(buy, args, kwargs, what="activity 'buy'")


def test_an_annotation_that_has_no_hash_is_checked_like_others() -> None:
    def pay(cents: Annotated[int, {"in": "cents"}], notes: list[Annotated[str, []]]) -> None: ...

    assert payloads.encode_arguments(pay, (1, ["x"]), {}, what="it") == b'[1,["x"]]'
    assert again({"a": 1}, dict[str, Annotated[int, {}]]) == {"a": 1}
    with pytest.raises(PayloadError, match="argument 'notes' expected str, got int"):
        payloads.encode_arguments(pay, (1, ["x", 2]), {}, what="it")


def test_where_the_annotation_is_not_known_only_what_json_cannot_show_is_refused() -> None:
    assert payloads.encode([Base("x"), (1,), {Level.LOW: UUID(int=1)}], what="it").startswith(
        b'[{"name":"x"},[1],{"1":"0000'
    )
    for value in ({1: "a", "1": "b"}, [NO_NUMBER], {"a": Bag(maybe=NO_NUMBER)}):
        with pytest.raises(PayloadError):
            payloads.encode(value, UNKNOWN, what="it")


# ---- depth


def nested(levels: int, kind: type = list) -> Any:
    value: Any = kind()
    for _ in range(levels - 1):
        value = [value] if kind is list else {"a": value}
    return value


def at_stack_depth(frames: int, function: Callable[[], Any]) -> Any:
    return at_stack_depth(frames - 1, function) if frames else function()


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("frames", [0, 700, 800, 850, 900])
def test_the_limit_of_depth_is_the_same_however_deep_the_caller_is(kind: type, frames: int) -> None:
    def both() -> None:
        payload = payloads.encode(nested(DEPTH, kind), Any, what="it")
        assert payloads.encode(again(nested(DEPTH, kind), Any), Any, what="it") == payload
        for levels in (DEPTH + 1, 973, 5_000):
            with pytest.raises(PayloadError, match="deeper than 100 levels"):
                payloads.encode(nested(levels, kind), Any, what="it")
        text = b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1)
        with pytest.raises(PayloadError, match="deeper than 100 levels"):
            payloads.decode(text, Any, what="it")

    limit = sys.getrecursionlimit()
    at_stack_depth(frames, both) if frames <= limit - 100 else None
    assert sys.getrecursionlimit() == limit


def test_json_nested_too_deeply_is_refused_when_it_arrives_even_if_unused() -> None:
    deep = b'{"name":"x","unknown":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    with pytest.raises(PayloadError, match="deeper than 100 levels"):
        payloads.decode(deep, Base, what="it")


def depth_of(text: bytes) -> int:
    """By hand."""
    depth = deepest = 0
    is_text = is_escaped = False
    for byte in text.decode("latin-1"):
        if is_text:
            is_text = is_escaped or byte != '"'
            is_escaped = byte == "\\" and not is_escaped
        elif byte == '"':
            is_text = True
        elif byte in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in "]}":
            depth -= 1
    return deepest


STRANGE = st.text(st.sampled_from('[]{}"\\a, :'), max_size=6)
JSON = st.recursive(
    STRANGE | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRANGE, inner, max_size=3),
)


@given(JSON, st.integers(0, 2 * DEPTH), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_depth_is_counted_outside_of_strings_only(value: Any, more: int, width: int) -> None:
    for level in range(more):
        value = [value, "[" * 3] if level % 2 else {'"{': value}
    text = msgspec.json.encode([value, *[["]["]] * width])
    is_deep = depth_of(text) > DEPTH
    try:
        check_depth(text)
    except PayloadError:
        assert is_deep
    else:
        assert not is_deep


# ---- any annotation


SCALARS: list[Any] = [
    int,
    float,
    str,
    bool,
    bytes,
    Decimal,
    datetime,
    date,
    time,
    timedelta,
    UUID,
    Colour,
    Level,
    Right,
    Any,
    Base,
    Point,
    Bag,
    Model,
]
HASHABLE: list[Any] = [int, str, bytes, date, UUID, Colour, Level, int | str, float, bool]


def any_annotation(depth: int = 2) -> st.SearchStrategy[Any]:
    simple = st.sampled_from(SCALARS)
    if not depth:
        return simple
    inner = any_annotation(depth - 1)
    return st.one_of(
        simple,
        inner.map(lambda each: LIST[each]),
        inner.map(lambda each: TUPLE[each, ...]),
        inner.map(lambda each: each | None),
        st.tuples(inner, inner).map(lambda pair: TUPLE[pair]),
        st.tuples(st.sampled_from(HASHABLE), inner).map(lambda pair: DICT[pair]),
        st.sampled_from([set[int], frozenset[str], dict[str, Any], Sequence[int]]),
    )


ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.decimals(), st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(VIENNA)), st.times(), st.timedeltas(),
    st.uuids(),
    st.sampled_from([Colour.RED, Level.LOW, Right.READ | Right.WRITE, Text("1"), Count(1), Word.YES, "1", 1,
            True, 1.0, "red"]),
    st.builds(Base, st.text(max_size=2)), st.builds(Special, st.text(max_size=2)),
    st.builds(Point, st.integers(), st.floats()),
    st.builds(Bag, st.one_of(st.none(), st.tuples(st.integers())), st.none() | st.floats()),
    st.builds(Model, weight=st.just(Decimal("1.0"))),
)  # fmt: skip


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


KEYS = ATOMS.filter(is_hashable)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3), st.sets(KEYS, max_size=2)
    ),
    max_leaves=6,
)  # fmt: skip


@given(any_annotation(), VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_by_any_annotation_comes_back_or_is_refused(annotation: Any, value: Any) -> None:
    assume(not crash_of(annotation))
    came_back_or_refused(annotation, value)


@given(st.data(), st.sampled_from(COME_BACK + [each[:2] for each in REFUSED]), any_annotation(1))
@settings(max_examples=100, deadline=None)
def test_pairs_that_nearly_fit_come_back_or_are_refused(
    data: st.DataObject, pair: tuple[Any, Any], other: Any
) -> None:
    annotation, value = pair
    wrapped, inside = data.draw(
        st.sampled_from([(LIST[annotation], [value]),
                (annotation | other if annotation is not other else other, value), (other, value),
                (TUPLE[annotation], (value,))])
        if annotation is not None and not isinstance(annotation, str)
        else st.just((other, value))
    )  # fmt: skip
    assume(not crash_of(wrapped))
    came_back_or_refused(wrapped, inside)


def came_back_or_refused(annotation: Any, value: Any) -> None:
    try:
        payload = payloads.encode(value, annotation, what="it")
    except PayloadError:
        return
    back = payloads.decode(payload, annotation, what="it")
    change = difference(value, back)
    assert change is None or "int and would come back as of type float" in change.fault, (
        annotation,
        value,
        back,
    )


OrderId = NewType("OrderId", str)
Anything = NewType("Anything", object)
EXACT_TYPES: list[tuple[Any, set[type]]] = [
    (int, {int}), (None, {type(None)}), (Colour, {Colour}), (OrderId, {str}), (int | None, {int, type(None)}),
    (OrderId | int, {str, int}),
    (Any, {str, int, bool, type(None)}), (bytes | Any, {str, int, bool, type(None)}),
    (bytes | Anything, {str, int, bool, type(None)}),
    (float, set()), (Right, set()), (list[int], set()), (Base, set()),
    (Annotated[int, msgspec.Meta(gt=0)], set()), (Literal["a"], set()),
    (float | str, {str}), (Literal["a"] | int, {int}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "types"), EXACT_TYPES)
def test_only_types_whose_every_value_comes_back_need_no_check(annotation: Any, types: set[type]) -> None:
    assert exact_types(annotation) == types


@given(any_annotation(), VALUES)
@settings(max_examples=150, deadline=None)
def test_a_value_of_an_exact_type_passes_the_check_in_full(annotation: Any, value: Any) -> None:
    if type(value) in exact_types(annotation):
        check_for(annotation)(value)


@given(st.lists(st.tuples(any_annotation(1), VALUES), max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_check_of_a_call_accepts_what_the_checks_of_its_arguments_accept(
    pairs: list[tuple[Any, Any]],
) -> None:
    def raises(check: Callable[[Any], object], value: Any) -> bool:
        try:
            check(value)
        except (Changed, PayloadError, ValueError, TypeError):
            return True
        return False

    call = check_of_call([(exact_types(annotation), check_for(annotation)) for annotation, _ in pairs])
    assert raises(call, [value for _, value in pairs]) == any(
        raises(check_for(annotation), value) for annotation, value in pairs
    )


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
def test_the_check_of_a_call_takes_exactly_as_many_arguments_as_there_are_parameters(
    arguments: tuple[int, ...],
) -> None:
    call = check_of_call([(frozenset({int}), exactly(int))] * 2)
    with pytest.raises(ValueError, match="unpack"):
        call(arguments)
    with pytest.raises(Changed, match="is of type bool"):
        call((1, True))
    call((1, 2))
    check_of_call([])(())


# ---- pydantic


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    cents: int = pydantic.Field(alias="amountInCents")
    read: int = pydantic.Field(default=0, validation_alias="r", serialization_alias="w")

    @pydantic.computed_field
    def euros(self) -> float:
        return self.cents / 100


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, validate_assignment=True)
    at: datetime
    ids: set[UUID]
    pair: tuple[int, Decimal]
    colour: Colour


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


class Owner(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Ids(pydantic.RootModel[dict[str, UUID]]):
    pass


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class WithSecret(pydantic.BaseModel):
    user: str
    key: pydantic.SecretStr
    raw: pydantic.SecretBytes = pydantic.SecretBytes(b"")


class Excluding(pydantic.BaseModel):
    kept: int
    left: int = pydantic.Field(default=0, exclude=True)


class Private(pydantic.BaseModel):
    shown: int
    _hidden: int = pydantic.PrivateAttr(0)

    def hide(self, value: int) -> Private:
        self._hidden = value
        return self


class Rounding(pydantic.BaseModel):
    cents: float

    @pydantic.field_serializer("cents")
    def round(self, value: float) -> int:
        return round(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Aliased, Aliased.model_validate({"amountInCents": 5, "r": 3})),
        (
            Strict,
            Strict(
                at=datetime(2026, 1, 1, tzinfo=UTC),
                ids={UUID(int=1)},
                pair=(1, Decimal("1.10")),
                colour=Colour.RED,
            ),
        ),
        (Owner, Owner(pet=Dog())),
        (Ids, Ids({"a": UUID(int=1)})),
        (Page[int], Page[int](items=[1])),
        (Page[Model], Page[Model](items=[Model(weight=Decimal(1))])),
        (list[Owner], [Owner(pet=Cat(lives=8))]),
        (Excluding, Excluding(kept=1)),
        (Private, Private(shown=1)),
        (Rounding, Rounding(cents=2.0)),
    ],
)
def test_a_pydantic_model_comes_back_equal(annotation: Any, value: Any) -> None:
    back = again(value, annotation)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (
            WithSecret,
            WithSecret(user="u", key=pydantic.SecretStr("k")),
            r"is a secret, which would be recorded.* at \.key",
        ),
        (
            WithSecret,
            WithSecret(user="u", key=pydantic.SecretStr(""), raw=pydantic.SecretBytes(b"k")),
            r"at \.raw",
        ),
        (list[WithSecret], [WithSecret(user="u", key=pydantic.SecretStr("k"))], r"at \[0\]\.key"),
        (Excluding, Excluding(kept=1, left=2), r"at \.left"),
        (Private, Private(shown=1).hide(3), "private attributes"),
        (Rounding, Rounding(cents=2.4), r"at \.cents"),
    ],
)
def test_a_pydantic_model_that_would_change_is_refused_by_field(
    annotation: Any, value: Any, message: str
) -> None:
    with warnings.catch_warnings(), pytest.raises(PayloadError, match=message):
        payloads.encode(value, annotation, what="it")


def test_a_refused_secret_is_not_in_the_message() -> None:
    with pytest.raises(PayloadError) as caught:
        payloads.encode(WithSecret(user="u", key=pydantic.SecretStr("sk-123")), WithSecret, what="it")
    assert "sk-123" not in str(caught.value)


def test_what_others_send_by_alias_is_read() -> None:
    assert payloads.decode(b'{"amountInCents":5,"r":3}', Aliased, what="it") == Aliased.model_validate(
        {"amountInCents": 5, "r": 3}
    )


def test_checks_are_compiled_once_also_by_many_threads() -> None:
    threads = [threading.Thread(target=again, args=(Tree(1, [Tree(2)]), Tree)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert again(Tree(1, [Tree(2)]), Tree) == Tree(1, [Tree(2)])


def test_a_union_that_would_crash_msgspec_is_refused() -> None:
    annotation = Annotated[int, msgspec.Meta(gt=0)] | tuple[bool, timedelta]
    with pytest.raises(PayloadError, match="in one union"):
        decoder_of(list[annotation])
    assert not crash_of(Annotated[int, msgspec.Meta(gt=0)] | tuple[bool, ...])
    assert not crash_of(int | tuple[bool, timedelta])


@dataclass
class Branch:
    parts: list[Branch | Fruit]
    by_name: dict[str, Fruit | Branch]


@dataclass
class Fruit:
    of: Branch | None


def test_the_fields_of_a_recursive_class_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    def hints(kind: Any) -> dict[str, Any]:
        looked.append(kind)
        return class_hints(kind)

    monkeypatch.setattr(msgspec_faults, "class_hints", hints)
    assert not crash_of(dict[str, Branch | None])
    assert sorted(kind.__name__ for kind in looked) == ["Branch", "Fruit"]


POSITIVE = Annotated[int, msgspec.Meta(gt=0)]
CODE = Annotated[str, msgspec.Meta(pattern="^[A-Z]+$")]
Hidden = NewType("Hidden", tuple[bool, int])
Item = TypeVar("Item")


@dataclass
class HasField:
    value: POSITIVE | tuple[bool, int]


class HasItem(NamedTuple):
    value: dict[str, CODE | list[int]]


class HasKey(TypedDict):
    value: NotRequired[CODE | dict[str, int] | None]


class HasMember(msgspec.Struct):
    value: POSITIVE | Hidden


@dataclass
class HasBase(HasField):
    other: int = 0


@dataclass
class HasVariable(Generic[Item]):
    value: Item | tuple[bool, int]


@dataclass
class Nested:
    children: list[Nested]
    value: HasKey | None = None


CRASHES: list[Any] = [
    POSITIVE | tuple[bool, int],
    POSITIVE | (Hidden | None),
    Annotated[int | tuple[bool, int], msgspec.Meta(gt=0)],
    NewType("Positive", POSITIVE) | tuple[bool, int],  # pyright: ignore[reportGeneralTypeIssues]
    Annotated[tuple[bool, int], "said"] | POSITIVE,
    CODE | list[int],
    CODE | (set[int] | None),
    CODE | dict[str, int],
    CODE | dict,  # pyright: ignore[reportMissingTypeArgument]
    CODE | tuple[int, ...],
    HasField,
    HasItem,
    HasKey,
    HasMember,
    HasBase,
    HasVariable[POSITIVE],
    Nested,
    dict[str, list[Nested]],
    deque[HasField],
]


@pytest.mark.parametrize("annotation", CRASHES, ids=repr)
def test_what_would_crash_msgspec_is_refused_wherever_it_stands(annotation: Any) -> None:
    with pytest.raises(PayloadError, match="in one union"):
        decoder_of(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        POSITIVE | list[int],
        POSITIVE | None,
        CODE | int | None,
        CODE | Tree,
        HasVariable[int],
        list[CODE],
        HasVariable[str],
    ],
    ids=repr,
)
def test_constraints_beside_what_does_no_harm_are_taken(annotation: Any) -> None:
    decoder_of(annotation)


FUZZ = """
import random, sys
from dataclasses import make_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union
import msgspec
from perdure.codec.values import check_for, from_json
from perdure.errors import PayloadError
METAS = [msgspec.Meta(gt=0), msgspec.Meta(min_length=1), msgspec.Meta(pattern="a"), msgspec.Meta(tz=True)]
LEAVES = [int, str, float, bool, bytes, None, Any, Decimal, datetime, date, list, dict, tuple, 2**70]
DOCUMENTS = [b'1', b'"a"', b'1.5', b'null', b'[]', b'[1,2]', b'["a",[1]]', b'{}', b'{"a":1,"b":[2]}']

def some(dice, depth):
    if depth == 0 or dice.random() < 0.15:
        leaf = dice.choice(LEAVES)
        return Literal[leaf] if leaf == 2**70 else leaf
    one, other = some(dice, depth - 1), some(dice, depth - 1)
    fields = [("a", one), ("b", other)]
    kinds = [
        lambda: Annotated[one, dice.choice(METAS)],
        lambda: Union[Annotated[dice.choice([int, str, bytes]), dice.choice(METAS)], one],
        lambda: Union[one, other], lambda: Optional[one], lambda: list[one], lambda: tuple[one, other],
        lambda: tuple[one, ...], lambda: dict[one, other], lambda: set[one], lambda: NewType("New", one),
        lambda: make_dataclass("D", fields), lambda: NamedTuple("N", fields),
        lambda: TypedDict("T", dict(fields)),
        lambda: msgspec.defstruct("S", fields),
    ]
    return dice.choice(kinds)()

taken = 0
for seed in range(int(sys.argv[1])):
    dice = random.Random(seed)
    try:
        annotation = some(dice, dice.randint(1, 4))
    except TypeError:
        continue  # Python refuses it
    try:
        check_for(annotation)
    except PayloadError:
        continue
    taken += 1
    for document in DOCUMENTS:
        try:
            from_json(document, annotation)
        except PayloadError:
            pass
print(taken)
"""


def test_no_annotation_crashes_the_process_or_ends_in_any_other_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, "3000"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2_000:])
    assert int(done.stdout) > 500


@dataclass
class Holds(Generic[Item]):
    value: Item


@dataclass
class Unset:
    cents: int
    total: int = field(init=False)


@dataclass(slots=True)
class UnsetSlot:
    cents: int
    total: int = field(init=False)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Unset(1), Unset),
        (UnsetSlot(1), UnsetSlot),
        ([Unset(1)], list[Unset]),
        ({"a": Unset(1)}, dict[str, Unset]),
    ],
    ids=["dataclass", "slots", "list", "dict"],
)
def test_a_field_without_a_value_is_a_fault_of_the_value(value: Any, annotation: Any) -> None:
    with pytest.raises(PayloadError, match="total"):
        to_json_as(value, annotation)


class Far(enum.IntEnum):
    NEAR = 1
    FAR = 2**70


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Far.FAR, Far),
        ([Far.FAR, Far.NEAR], list[Far]),
        (1180591620717411303424, Literal[1, 1180591620717411303424]),
        ({Far.FAR: 1}, dict[Far, int]),
    ],
    ids=repr,
)
def test_an_enum_or_literal_beyond_64_bits_comes_back(value: Any, annotation: Any) -> None:
    again = from_json(to_json_as(value, annotation), annotation)
    assert (again, type(again)) == (value, type(value))


AT_LEAST = Annotated[float, msgspec.Meta(ge=0)]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, AT_LEAST),
        (1, AT_LEAST | None),
        (1, Annotated[float, "euros"]),
        (1, NewType("Euros", AT_LEAST)),  # pyright: ignore[reportGeneralTypeIssues]
        ([1, 2.5], list[AT_LEAST]),
        ((1, 2), tuple[AT_LEAST, float]),
        ({1, 2.5}, set[AT_LEAST]),
        ({1: 2}, dict[float, float]),
        ({1: 2}, dict[AT_LEAST, AT_LEAST]),
        (Holds(1), Holds[float]),
        (Holds([1]), Holds[list[AT_LEAST]]),
        (deque([1]), deque[float]),
    ],
    ids=repr,
)
def test_an_int_is_taken_where_a_float_is_annotated_wherever_that_is(value: Any, annotation: Any) -> None:
    assert from_json(to_json_as(value, annotation), annotation) == value


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, AT_LEAST),
        (2**53 + 2, AT_LEAST),
        (-1, AT_LEAST),
        (Holds(2**60), Holds[float]),
        (1.0, Annotated[int, msgspec.Meta(gt=0)]),
    ],
    ids=repr,
)
def test_what_is_no_float_is_not(value: Any, annotation: Any) -> None:
    with pytest.raises(PayloadError):
        to_json_as(value, annotation)


@pytest.mark.parametrize(
    "beside",
    [
        Annotated[Any, "said"],
        Annotated[NewType("Thing", Any), "said"],  # pyright: ignore[reportGeneralTypeIssues]
        NewType("Other", Annotated[Any, "said"]),  # pyright: ignore[reportGeneralTypeIssues]
    ],
    ids=repr,
)
def test_beside_any_in_whatever_it_is_wrapped_a_decimal_is_refused(beside: Any) -> None:
    with pytest.raises(PayloadError, match="annotation does not say so"):
        to_json_as(Decimal(1), Decimal | beside)
