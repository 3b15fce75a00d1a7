"""Values by annotation, arguments by signature, and the messages when they do not fit."""

from __future__ import annotations

import enum
import sys
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NewType, NoReturn, TypedDict, TypeVar, cast
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import activity, workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import PayloadError, UsageError

T = TypeVar("T")
Cents = NewType("Cents", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    loud: bool
    colour: Colour


class Text(str):
    __slots__ = ()


class Parcel(pydantic.BaseModel):
    weight: Decimal
    labels: list[str] = []


class Shape(msgspec.Struct, tag=True):
    pass


class Circle(Shape):
    radius: float


class Square(Shape):
    side: float


@dataclass
class Address:
    street: str
    number: int | None = None


@dataclass
class Order:
    id: UUID
    placed_at: datetime
    total: Decimal
    window: timedelta
    colours: set[Colour]
    address: Address
    levels: dict[Level, tuple[int, ...]]
    picture: bytes = b""
    notes: dict[str, list[Address | None]] = field(default_factory=dict[str, "list[Address | None]"])
    options: Options | None = None


payloads = JsonPayloads()


def again(value: object, annotation: Any) -> Any:
    return payloads.decode(payloads.encode(value, what="it"), annotation, what="it")


# ---- values


TEXT = st.text(st.characters(codec="utf-8"))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXT),
    (int, st.integers()),
    (float, FINITE),
    (bool, st.booleans()),
    (bytes, st.binary()),
    (type(None), st.none()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (datetime, st.datetimes(timezones=st.just(UTC)) | st.datetimes()),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Cents, st.integers()),
    (Address, st.builds(Address, TEXT, st.integers() | st.none())),
    (Point, st.builds(Point, st.integers(), st.integers())),
    (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
]


LIST: Any = list  # what a type checker does not take for types, since their items are variables
TUPLE: Any = tuple
DICT: Any = dict
DEQUE: Any = deque


def containers(scalar: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    kind, values = scalar
    shapes: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (kind, values),
        (LIST[kind], st.lists(values, max_size=4)),
        (TUPLE[kind, ...], st.lists(values, max_size=4).map(tuple)),
        (TUPLE[kind, int], st.tuples(values, st.integers())),
        (DICT[str, kind], st.dictionaries(TEXT, values, max_size=4)),
        (DEQUE[kind], st.lists(values, max_size=4).map(deque)),
        (kind | None, values | st.none()),
        (LIST[LIST[kind]], st.lists(st.lists(values, max_size=2), max_size=2)),
    ]
    return st.one_of(*(st.tuples(st.just(shape), inside) for shape, inside in shapes))


@given(st.one_of(*(containers(scalar) for scalar in SCALARS)))
def test_a_value_survives_encoding(case: tuple[Any, Any]) -> None:
    annotation, value = case
    result = again(value, annotation)
    assert result == value
    assert type(result) is type(value)


ORDERS = st.builds(
    Order,
    id=st.uuids(),
    placed_at=st.datetimes(timezones=st.just(UTC)),
    total=st.decimals(allow_nan=False, allow_infinity=False),
    window=st.timedeltas(),
    colours=st.sets(st.sampled_from(Colour)),
    address=st.builds(Address, TEXT, st.integers() | st.none()),
    levels=st.dictionaries(st.sampled_from(Level), st.lists(st.integers()).map(tuple)),
    picture=st.binary(),
    notes=st.dictionaries(TEXT, st.lists(st.builds(Address, TEXT) | st.none(), max_size=2), max_size=2),
    options=st.none() | st.just(Options(loud=True, colour=Colour.RED)) | st.just(Options()),
)


@given(ORDERS)
def test_a_dataclass_of_everything_comes_back_as_it_was(order: Order) -> None:
    assert again(order, Order) == order
    assert again([order], list[Order]) == [order]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_without_annotation_json_values_come_back(value: Any) -> None:
    for annotation in (Any, object, T, NoReturn):
        assert again(value, annotation) == value


def test_models_of_pydantic_come_back() -> None:
    parcel = Parcel(weight=Decimal("1.50"), labels=["x"])
    assert again(parcel, Parcel) == parcel
    assert again({"a": [parcel]}, dict[str, list[Parcel | None]]) == {"a": [parcel]}


def test_a_model_of_pydantic_says_what_does_not_fit() -> None:
    with pytest.raises(PayloadError, match=r"(?s)the parcel .*weight"):
        payloads.decode(b'{"weight":"heavy"}', Parcel, what="the parcel")


def test_tagged_structs_may_be_alternatives() -> None:
    assert again([Circle(1.0), Square(2.0)], list[Circle | Square]) == [Circle(1.0), Square(2.0)]


def test_subclasses_of_text_and_numbers_come_back() -> None:
    assert type(again(Text("x"), Text)) is Text
    assert again(Text("x"), str) == "x"


def test_a_result_of_none_is_json_null() -> None:
    assert payloads.encode(None, what="it") == b"null"
    assert payloads.decode(b"null", None, what="it") is None


class Opaque:
    pass


def in_a_circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Opaque(), "the result cannot be encoded: a value of type .*Opaque; use a dataclass"),
        ({"a": [Opaque()]}, "a value of type .*Opaque"),
        (lambda: 3, "a value of type builtins.function"),
        (in_a_circle(), "it contains itself"),
        ("\ud800", "surrogates not allowed"),
        ({(1, 2): 3}, "a dict with keys of type tuple; keys are text, numbers or enums"),
        ({frozenset([1]): 3}, "a dict with keys of type frozenset"),
    ],
)
def test_what_cannot_be_encoded_is_named(value: object, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.encode(value, what="the result")


@pytest.mark.parametrize(
    ("payload", "annotation", "message"),
    [
        (b'"x"', int, "^the result expected int, got str$"),
        (b'{"street":3}', Address, r"^the result expected str, got int, at \.street$"),
        (b"{}", Address, "^the result is missing required field street$"),
        (b"[1", list[int], "truncated"),
        (b'"green"', Colour, "invalid enum value 'green'"),
        (
            b"null",
            float,
            r"^the result expected float, got null \(what NaN and infinity become: they have no JSON\)$",
        ),
        (b"{}", Opaque, "^the result is of type Opaque, which cannot be decoded from JSON; use a dataclass"),
        (
            b"{}",
            Address | dict[str, int],
            (
                r"^the result is of type .*Address \| dict.*, whose alternatives JSON cannot distinguish: "
                r"dict\[str, int\] and Address look alike"
            ),
        ),
        (
            b"1",
            {},
            (
                "^the result is of type {}, whose alternatives JSON cannot distinguish: Type '{}' is not "
                "supported"
            ),
        ),
    ],
)
def test_what_does_not_fit_its_annotation_is_named(payload: bytes, annotation: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.decode(payload, annotation, what="the result")


def test_a_value_over_the_limit_is_refused_with_advice() -> None:
    assert payloads.encode("x" * (1024 * 1024 - 2), what="the result")
    with pytest.raises(
        PayloadError, match=r"the result is 1048577 bytes long, the limit is 1048576\. Store large data"
    ):
        payloads.encode("x" * (1024 * 1024 - 1), what="the result")


# ---- arguments


def plain(order: str, cents: int, address: Address | None = None, tip: int = 5) -> None: ...


def by_name(order: str, *, loud: bool = False, colour: Colour) -> None: ...


def variadic(first: int, *rest: Colour, **named: Decimal) -> None: ...


def positional_only(a: int, b: int = 2, /, c: int = 3) -> None: ...


def nothing() -> None: ...


def unannotated(a, b=1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return a, b  # pyright: ignore[reportUnknownVariableType]


UNANNOTATED = cast("Any", unannotated)


SENTINEL = Opaque()
WRONG: Any = "n"


def with_sentinel(a: int, b: Any = SENTINEL, c: int = 4) -> None: ...


class Holder:
    def method(self, cents: int, note: str = "") -> None: ...

    @activity.defn
    def act(self, cents: int) -> None: ...

    @workflow.signal
    def signalled(self, cents: int) -> None: ...


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
    payload = payloads.encode_arguments(fn, args, kwargs, what="activity 'charge'")
    return payload, *payloads.decode_arguments(fn, payload, what="activity 'charge'")


@pytest.mark.parametrize(
    ("made", "payload", "args", "kwargs"),
    [
        (call(plain, "o", 1, None, 2), b'["o",1,null,2]', ("o", 1, None, 2), {}),
        (call(plain, cents=1, order="o", tip=3), b'["o",1,null,3]', ("o", 1, None, 3), {}),
        (
            call(plain, "o", 1, Address("s")),
            b'["o",1,{"street":"s","number":null},5]',
            ("o", 1, Address("s"), 5),
            {},
        ),
        (
            call(by_name, "o", colour=Colour.RED),
            b'{"args":["o"],"kwargs":{"loud":false,"colour":"red"}}',
            ("o",),
            {"loud": False, "colour": Colour.RED},
        ),
        (call(variadic, 1), b"[1]", (1,), {}),
        (call(variadic, 1, Colour.RED, Colour.BLUE), b'[1,"red","blue"]', (1, Colour.RED, Colour.BLUE), {}),
        (
            call(variadic, 1, x=Decimal("1.0")),
            b'{"args":[1],"kwargs":{"x":"1.0"}}',
            (1,),
            {"x": Decimal("1.0")},
        ),
        (call(positional_only, 1, c=5), b"[1,2,5]", (1, 2, 5), {}),
        (call(nothing), b"[]", (), {}),
        (call(UNANNOTATED, {"x": 1}), b'[{"x":1},1]', ({"x": 1}, 1), {}),
        (call(with_sentinel, 1), b"[1]", (1,), {}),
        (call(Holder.method, 1), b'[1,""]', (1, ""), {}),
        (call(Holder().method, 1, "x"), b'[1,"x"]', (1, "x"), {}),
        (call(Holder.act.fn, 1), b"[1]", (1,), {}),
        (call(Holder.signalled.fn, cents=1), b"[1]", (1,), {}),
    ],
)
def test_arguments_travel_in_the_order_of_the_signature(
    made: tuple[bytes, tuple[Any, ...], dict[str, Any]],
    payload: bytes,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    assert made == (payload, args, kwargs)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "message"),
    [
        (plain, ("o", "1"), {}, "^activity 'charge': argument 'cents' expected int, got str$"),
        (
            plain,
            ("o", 1, Address("s", WRONG)),
            {},
            r"^activity 'charge': argument 'address' expected int \| null, got str, at \.number$",
        ),
        (plain, ("o",), {}, "^activity 'charge': missing a required argument: 'cents'$"),
        (plain, ("o", 1, None, 2, 3), {}, "^activity 'charge': too many positional arguments$"),
        (plain, ("o", 1), {"tips": 3}, "^activity 'charge': got an unexpected keyword argument 'tips'$"),
        (
            plain,
            ("o", Opaque()),
            {},
            "^activity 'charge': argument 'cents' cannot be encoded: a value of type .*Opaque",
        ),
        (plain, ("o", 1), {"tip": Opaque()}, "argument 'tip' cannot be encoded"),
        (by_name, ("o",), {}, "missing a required (keyword-only )?argument: 'colour'"),
        (by_name, ("o",), {"colour": "green"}, "argument 'colour' invalid enum value 'green'"),
        (variadic, (1, Colour.RED, "green"), {}, r"argument 'rest\[1\]' invalid enum value"),
        (variadic, (1,), {"x": "much"}, "argument 'x' invalid decimal"),
        (nothing, (1,), {}, "too many positional arguments"),
        (
            plain,
            ("o" * 2_000_000, 1),
            {},
            (
                r"the arguments are 2000013 bytes long, the limit is 1048576 \(the largest is 'order' with "
                r"2000002\)\."
            ),
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named_where_they_are_given(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.encode_arguments(fn, args, kwargs, what="activity 'charge'")


@pytest.mark.parametrize(
    ("fn", "payload", "message"),
    [
        (plain, b'["o"]', "^activity 'charge': argument 'cents' is missing$"),
        (plain, b"[]", "argument 'order' is missing"),
        (plain, b'["o",1,null,2,3]', "^activity 'charge' takes 4 arguments, got 5$"),
        (nothing, b"[1]", "takes no arguments, got 1"),
        (plain, b'["o","x"]', "argument 'cents' expected int, got str"),
        (plain, b'{"args":["o",1],"kwargs":{"x":1}}', "it has no keyword argument 'x'"),
        (plain, b'{"args":["o"]}', "must be an array, or an object of args and kwargs"),
        (plain, b"3", "must be an array, or an object of args and kwargs"),
        (plain, b"", "must be an array, or an object of args and kwargs"),
        (plain, b'["o",', "are not JSON"),
        (by_name, b'["o"]', "argument 'colour' is missing; it is passed by name, which the Python client"),
        (by_name, b'["o","red"]', "takes 1 argument, got 2; 'loud', 'colour' can only be passed by name"),
        (variadic, b"[]", "argument 'first' is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_named_where_they_arrive(
    fn: Callable[..., Any], payload: bytes, message: str
) -> None:
    with pytest.raises(PayloadError, match=message):
        payloads.decode_arguments(fn, payload, what="activity 'charge'")


def test_a_parameter_with_a_default_may_be_added_later() -> None:
    assert payloads.decode_arguments(plain, b'["o",1]', what="it") == (("o", 1), {})


def test_the_engine_does_not_look_at_types_where_it_encodes() -> None:
    assert (
        JsonPayloads(validate_on_encode=False).encode_arguments(plain, ("o", "x"), {}, what="it")
        == b'["o","x",null,5]'
    )


@given(
    st.text(st.characters(codec="utf-8")), st.integers(), st.none() | st.builds(Address, TEXT), st.integers()
)
def test_arguments_come_back_however_they_are_given(
    order: str, cents: int, address: Address | None, tip: int
) -> None:
    expected: tuple[Any, dict[str, Any]] = ((order, cents, address, tip), {})
    assert call(plain, order, cents, address, tip)[1:] == expected
    assert call(plain, order, cents, tip=tip, address=address)[1:] == expected
    assert call(plain, tip=tip, address=address, cents=cents, order=order)[1:] == expected


def test_undecodable_annotations_are_found_at_registration() -> None:
    def alike(both: Address | dict[str, int]) -> None: ...

    with pytest.raises(PayloadError, match=r"argument 'both' is of type .* look alike"):
        payloads.check(alike, what="activity 'alike'")
    payloads.check(plain, what="activity 'plain'")


def test_an_annotation_that_is_not_there_at_run_time_is_refused_with_its_line() -> None:
    def lost(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]

    with pytest.raises(
        UsageError,
        match=r"test_codec_payloads\.py:\d+: an annotation of .*lost cannot be resolved.*TYPE_CHECKING",
    ):
        payloads.encode_arguments(cast("Any", lost), (1,), {}, what="it")


def test_a_sequence_is_decoded_as_a_list() -> None:
    def many(items: Sequence[tuple[Level, int]]) -> None: ...

    assert call(many, [(Level.LOW, 1)])[1] == ([(Level.LOW, 1)],)


# ---- a codec of the user's


class Zip:
    name = "zip"

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decode(self, data: bytes) -> bytes:
        return zlib.decompress(data)


zipped = JsonPayloads(Zip())


@given(JSON)
def test_what_a_codec_made_comes_back(value: Any) -> None:
    payload = zipped.encode(value, what="it")
    assert payload.startswith(b"\0zip\0")
    assert zipped.decode(payload, Any, what="it") == value


def test_a_codec_is_used_for_arguments_too() -> None:
    payload = zipped.encode_arguments(plain, ("o", 1), {}, what="it")
    assert payload.startswith(b"\0zip\0")
    assert zipped.decode_arguments(plain, payload, what="it") == (("o", 1, None, 5), {})
    assert zipped.to_json(payload, what="it") == b'["o",1,null,5]'


def test_what_was_written_before_there_was_a_codec_is_read() -> None:
    assert zipped.decode(payloads.encode([1], what="it"), list[int], what="it") == [1]


def test_what_another_codec_made_is_refused() -> None:
    with pytest.raises(
        PayloadError, match="the payload was made by the codec 'zip', which is not configured here"
    ):
        payloads.decode(zipped.encode(1, what="it"), int, what="it")


class Twice(Zip):
    """Makes everything larger."""

    name = "twice"

    def encode(self, data: bytes) -> bytes:
        return data * 2

    def decode(self, data: bytes) -> bytes:
        return data[: len(data) // 2]


def test_what_one_codec_made_is_not_given_to_another() -> None:
    with pytest.raises(
        PayloadError, match="the payload was made by the codec 'zip', which is not configured here"
    ):
        JsonPayloads(Twice()).decode(zipped.encode(1, what="it"), int, what="it")


def test_the_limit_applies_to_the_encoded_value() -> None:
    larger = JsonPayloads(Twice(), limit_bytes=207)
    assert len(larger.encode("x" * 98, what="it")) == 207
    with pytest.raises(
        PayloadError, match=r"it is 209 bytes long, the limit is 207 \(as the codec 'twice' made it\)"
    ):
        larger.encode("x" * 99, what="it")
    with pytest.raises(
        PayloadError, match=r"it is 213 bytes long, the limit is 207 \(as the codec 'twice' made it\)"
    ):
        larger.encode_arguments(plain, ("o" * 90, 1), {}, what="it")


def test_a_codec_that_makes_values_smaller_does_not_lift_the_limit() -> None:
    smaller = JsonPayloads(Zip(), limit_bytes=100)
    with pytest.raises(PayloadError, match="it is 102 bytes long, the limit is 100"):
        smaller.encode("x" * 100, what="it")


def test_what_a_codec_cannot_read_is_refused() -> None:
    with pytest.raises(PayloadError, match="the codec 'zip' cannot read its payload"):
        zipped.decode(b"\0zip\0rubbish", int, what="it")


def test_pydantic_is_not_imported_for_those_who_do_not_use_it() -> None:
    import subprocess

    code = (
        "import sys\nfrom perdure.codec.payloads import JsonPayloads as P\nP().decode(P().encode([1], "
        "what=''), list[int], what='')\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_list_passes_beside_a_literal_and_another_value_is_refused_with_a_message() -> None:
    payloads = JsonPayloads()
    for annotation in (
        Literal["all"] | list[int],
        list[int] | Literal["all"],
        Literal["y"] | dict[str, int] | None,
    ):
        value: Any = {"a": 1} if "dict" in str(annotation) else [1]
        assert payloads.decode(payloads.encode(value, annotation, what="it"), annotation, what="it") == value
    with pytest.raises(PayloadError, match="expected str, got array"):
        payloads.encode(["a"], Literal["a"], what="it")


def test_items_that_a_set_cannot_hold_are_a_fault_of_the_value() -> None:
    with pytest.raises(PayloadError, match=r"cannot be decoded: .*unhashable"):
        JsonPayloads().decode(b"[[1]]", set, what="it")
