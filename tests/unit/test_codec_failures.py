"""Exceptions that cross the wire as themselves, and those that cannot."""

from __future__ import annotations

import asyncio
import binascii
import json
import operator
import queue
import re
import subprocess
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, cast

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import errors
from perdure.codec.payloads import JsonPayloads
from perdure.errors import ActivityFailed, ActivityTimedOut, Failure, RemoteException, RetryAfter
from perdure.model.described import described
from perdure.model.failure import FAILURE_BYTES, FailureInfo, bounded, size_of

payloads = JsonPayloads()


@dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass(eq=False)
class UnluckyCard(Failure):
    reason: str
    asked: Money | None = None


@dataclass(frozen=True)
class Frozen(Failure):
    reason: str


@dataclass(eq=False, kw_only=True)
class ByName(Failure):
    reason: str
    count: int = 1
    derived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.derived = self.count * 2


class NotFound(Failure):
    def __init__(self, key: str, tried: int) -> None:
        super().__init__(f"nothing under {key}")
        self.key = key
        self.tried = tried


class Plain(Failure): ...


class Special(Plain, LookupError): ...


class Undecided(Failure): ...


class Slotted(Failure):
    __slots__ = ("code",)

    def __init__(self, *, code: int) -> None:
        super().__init__("slotted")
        self.code = code


class Picky(Failure):
    def __new__(cls, code: int, place: str) -> Self:
        return super().__new__(cls, code, place)

    def __init__(self, code: int, place: str) -> None:
        raise_at = place
        super().__init__(f"{code} at {raise_at}")
        self.code = code


class Unknown(Exception):
    """No Failure: workflows elsewhere cannot know it."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def recorded(error: BaseException) -> FailureInfo:
    try:
        raise error
    except BaseException as raised:
        info = payloads.encode_failure(raised)
    data = msgspec.msgpack.encode(info)
    return msgspec.msgpack.decode(data, type=FailureInfo)


def failures(error: BaseException) -> Any:
    return payloads.decode_failure(payloads.encode_failure(error))


def again(error: BaseException) -> Any:
    return payloads.decode_failure(recorded(error))


# ---- failures arrive as themselves


@given(
    st.text(st.characters(codec="utf-8")),
    st.none() | st.builds(Money, st.decimals(allow_nan=False, allow_infinity=False)),
)
def test_the_fields_of_a_failure_come_back(reason: str, asked: Money | None) -> None:
    error = again(UnluckyCard(reason, asked))
    assert type(error) is UnluckyCard
    assert (error.reason, error.asked) == (reason, asked)
    assert str(error) == str(UnluckyCard(reason, asked))


def test_a_frozen_failure_comes_back() -> None:
    assert again(Frozen("x")) == Frozen("x")


def test_fields_by_name_only_and_fields_outside_init_come_back() -> None:
    error = again(ByName(reason="x", count=4))
    assert (error.reason, error.count, error.derived, str(error)) == ("x", 4, 8, "")


def test_a_failure_with_an_init_of_its_own_comes_back_with_its_attributes() -> None:
    error = again(NotFound("k", 3))
    assert (type(error), error.key, error.tried, str(error), error.args) == (
        NotFound, "k", 3, "nothing under k", ("nothing under k",),
    )  # fmt: skip


def test_a_plain_failure_comes_back_with_its_arguments() -> None:
    for made in (Plain("a"), Plain("a", 1), Plain(), Special("x")):
        error = again(made)
        assert (type(error), error.args) == (type(made), made.args)


def test_a_failure_whose_fields_have_no_json_still_is_itself() -> None:
    error = again(UnluckyCard(object()))  # type: ignore[arg-type]
    assert (type(error), error.reason, error.asked) == (UnluckyCard, None, None)
    assert str(error).startswith("<object object")


def test_a_failure_with_annotations_for_type_checkers_only_still_is_itself() -> None:
    @dataclass(eq=False)
    class Lost(Failure):
        where: Nowhere  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    error = again(Lost([1]))
    assert (type(error), error.where) == (Lost, [1])


def test_a_failure_of_another_main_module_is_found_by_its_own_name() -> None:
    info = FailureInfo("__main__:UnluckyCard", "no", b'{"reason":"no","asked":null}', is_final=True)
    assert type(payloads.decode_failure(info)) is UnluckyCard


def test_of_a_module_that_was_loaded_again_the_new_class_counts() -> None:
    kinds = [type("Reloaded", (Failure,), {"__module__": "app"}) for _ in range(2)]
    assert type(payloads.decode_failure(FailureInfo("app:Reloaded"))) is kinds[1]


def test_a_class_name_shared_by_two_failures_is_not_resolved() -> None:
    first = type("Doubled", (Failure,), {"__module__": "one"})
    second = type("Doubled", (Failure,), {"__module__": "two"})
    assert type(payloads.decode_failure(FailureInfo("one:Doubled"))) is first
    assert type(payloads.decode_failure(FailureInfo("two:Doubled"))) is second
    assert type(payloads.decode_failure(FailureInfo("three:Doubled"))) is RemoteException


def test_a_failure_whose_class_has_changed_since_is_remote() -> None:
    error = payloads.decode_failure(FailureInfo(f"{__name__}:UnluckyCard", "no", b'{"why":"no"}'))
    assert isinstance(error, RemoteException)
    assert str(error).endswith("UnluckyCard: no")


def test_only_failures_are_final() -> None:
    assert recorded(UnluckyCard("x")).is_final
    assert recorded(ActivityFailed("x", ValueError(), 1)).is_final
    assert not recorded(ValueError()).is_final
    assert not recorded(RetryAfter("1s")).is_final
    assert recorded(errors.UsageError("another attempt would make the same mistake")).is_final


def test_bases_are_recorded_for_what_is_never_retried() -> None:
    assert recorded(Special("x")).bases == (
        f"{__name__}:Plain", "perdure.errors:Failure", "builtins:LookupError",
    )  # fmt: skip
    assert recorded(Unknown()).bases == ()


# ---- those of Python and of the platform


@pytest.mark.parametrize(
    "made",
    [
        ValueError("x"),
        KeyError("x"),
        FileNotFoundError(2, "no such file"),
        ZeroDivisionError(),
        TimeoutError("late"),
        SystemExit(3),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        UnicodeEncodeError("ascii", "\udc80", 0, 1, "invalid"),
        KeyError(("a", 1)),
        KeyError(("a", b"b", 1.5, None, {2: {3}}, 1 << 80)),
        ValueError(Decimal("1.10"), float("inf"), timedelta(1)),
        StopIteration(7),
        ValueError(""),
        ValueError("\0"),
        OSError("plain"),
        queue.Empty(),
        binascii.Error("odd"),
        Undecided({"$tuple": [1]}),
    ],
)
def test_built_in_exceptions_come_back(made: BaseException) -> None:
    error = again(made)
    assert (type(error), error.args, str(error)) == (type(made), made.args, str(made))


def test_what_built_in_exceptions_keep_outside_their_arguments_comes_back() -> None:
    missing = again(FileNotFoundError(2, "No such file or directory", "a.txt", None, "b.txt"))
    assert (type(missing), missing.errno, missing.filename, missing.filename2) == (
        FileNotFoundError,
        2,
        "a.txt",
        "b.txt",
    )
    assert again(PermissionError(13, "denied", Path("x"))).filename == Path("x")
    assert again(OSError(2, "gone", "caf\udce9")).filename == "caf\udce9"
    unimported = again(ImportError("no", name="n", path="/p"))
    assert (unimported.name, unimported.path, unimported.msg) == ("n", "/p", "no")
    with pytest.raises(AttributeError) as unknown:
        operator.attrgetter("colour")(object())
    assert again(unknown.value).name == "colour"
    assert again(StopIteration(7)).value == 7


def test_exceptions_of_the_standard_library_come_back() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    error = again(caught.value)
    assert (type(error), str(error), error.pos, error.doc) == (
        json.JSONDecodeError,
        str(caught.value),
        caught.value.pos,
        "{",
    )
    called = again(subprocess.CalledProcessError(2, ["a", "b"], b"out", b"err"))
    assert (called.returncode, called.cmd, called.output, called.stderr) == (2, ["a", "b"], b"out", b"err")
    assert type(again(asyncio.QueueEmpty())) is asyncio.QueueEmpty


def test_exceptions_of_other_libraries_are_remote_and_keep_their_notes() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    caught.value.add_note("while the order was read")
    error = again(caught.value)
    assert isinstance(error, RemoteException)
    assert (error.type_name.endswith("ValidationError"), error.__notes__[0]) == (
        True,
        "while the order was read",
    )
    assert str(caught.value) in str(error)


def test_notes_come_back_before_the_remote_traceback() -> None:
    error = Frozen("x")
    vars(error)["__notes__"] = ["one", "two\ud800", 3]
    back = again(error)
    one, two, trace = back.__notes__
    assert (one, two) == ("one", "two?")
    assert trace.startswith("Remote traceback (most recent call last):\n")
    assert "raise error" in trace


def test_a_second_crossing_repeats_no_note_and_adds_the_frames_between() -> None:
    first = again(Plain("x"))
    first.add_note("in the parent")

    def in_the_parent() -> None:
        raise first

    with pytest.raises(Plain) as caught:
        in_the_parent()
    second = failures(caught.value)
    assert [note.partition("\n")[0] for note in second.__notes__] == [
        "in the parent",
        "Remote traceback (most recent call last):",
    ]
    assert second.__notes__[-1].index("in in_the_parent") < second.__notes__[-1].index("raise error")
    third = failures(second)
    assert third.__notes__ == second.__notes__


def test_a_traceback_holds_no_value_of_a_variable() -> None:
    def pay(card: str) -> None:
        raise Plain("refused")

    with pytest.raises(Plain) as caught:
        pay("4111" + "1111")
    assert "41111111" not in str(msgspec.to_builtins(payloads.encode_failure(caught.value)))


@pytest.mark.parametrize("made", [Slotted(code=3), Picky(4, "x")])
def test_failures_with_unusual_constructors_come_back(made: Any) -> None:
    error = again(made)
    assert (type(error), error.code, str(error)) == (type(made), made.code, str(made))


def test_a_field_without_json_takes_no_other_field_with_it() -> None:
    error = again(UnluckyCard(object(), Money(Decimal(1))))  # type: ignore[arg-type]
    assert (error.reason, error.asked) == (None, Money(Decimal(1)))


class Hostile(Failure):
    """Everything raises."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit


def test_an_exception_that_raises_wherever_it_is_touched_is_recorded() -> None:
    info = payloads.encode_failure(Hostile("x"))
    assert (info.type.endswith("Hostile"), info.is_final) == (True, True)
    assert isinstance(payloads.decode_failure(info), Exception)


# ---- size


LARGE = "é" * 30_000


@pytest.mark.parametrize(
    "made",
    [
        ValueError(LARGE),
        ValueError(LARGE, LARGE),
        UnluckyCard(LARGE),
        NotFound(LARGE, 1),
        ExceptionGroup(LARGE, [ValueError(LARGE) for _ in range(100)]),
        ExceptionGroup("a", [ExceptionGroup("b", [ExceptionGroup("c", [Plain(LARGE)] * 9)] * 9)] * 9),
        type("L" * 70_000, (ValueError,), {})("x"),
    ],
)
def test_a_failure_takes_8_kb_in_all(made: BaseException) -> None:
    made.__cause__ = ValueError(LARGE)
    made.__cause__.__context__ = KeyError(LARGE)
    vars(made)["__notes__"] = [LARGE, LARGE]
    info = recorded(made)
    assert 1024 < len(msgspec.msgpack.encode(info)) <= FAILURE_BYTES
    again_ = recorded(payloads.decode_failure(info))
    assert len(msgspec.msgpack.encode(again_)) <= FAILURE_BYTES


def test_a_message_that_is_cut_says_how_long_it_was() -> None:
    error = again(ValueError("x" * 30_000))
    assert type(error) is ValueError
    assert re.fullmatch(r"x{2000,}… \(30000 characters\)", str(error))


def test_a_failure_that_fits_is_not_cut() -> None:
    error = again(UnluckyCard("x" * 3_000, Money(Decimal(1))))
    assert (error.reason, error.asked) == ("x" * 3_000, Money(Decimal(1)))


@given(st.integers(1024, 9000), st.lists(st.integers(0, 4000), min_size=6, max_size=6), st.text(max_size=5))
def test_a_failure_is_cut_to_any_limit(limit: int, sizes: list[int], text: str) -> None:
    parts = [(text or "x") * size for size in sizes]
    inner = FailureInfo(
        "a:B", parts[0], parts[1].encode(), traceback=parts[2], notes=(parts[3],), bases=(parts[4],)
    )
    info = FailureInfo(
        "a:C", parts[5], cause=inner, exceptions=(inner, inner, msgspec.structs.replace(inner, cause=inner))
    )
    cut = bounded(info, limit)
    assert size_of(cut) <= limit
    assert len(msgspec.msgpack.encode(cut)) <= size_of(cut)
    assert bounded(cut, limit) == cut
    assert bounded(info, 1 << 30) is info


def test_a_chain_of_ten_thousand_causes_is_recorded() -> None:
    error: BaseException = ValueError("0")
    for i in range(10_000):
        error = raise_from(ValueError(str(i)), error)
    assert str(again(error)) == "9999"


def test_a_cancellation_survives_encoding() -> None:
    assert type(again(asyncio.CancelledError("x"))) is asyncio.CancelledError


@pytest.mark.parametrize("kind", [ActivityFailed, ActivityTimedOut])
def test_a_failed_activity_comes_back_with_cause_and_attempts(kind: type[ActivityFailed]) -> None:
    error = again(kind("gave up", UnluckyCard("x"), 7))
    assert type(error) is kind
    cause: Any = error.cause
    assert (str(error), error.attempts, type(cause), cause.reason) == ("gave up", 7, UnluckyCard, "x")
    assert error.__cause__ is cause


def test_the_delay_that_an_error_asks_for_is_recorded() -> None:
    info = recorded(RetryAfter("1m 30s", "busy"))
    assert (info.retry_after_us, info.message) == (90_000_000, "busy")
    error = again(RetryAfter(timedelta(seconds=3), "busy"))
    assert (type(error), error.delay, str(error)) == (RetryAfter, timedelta(seconds=3), "busy")
    assert recorded(ValueError()).retry_after_us == -1
    assert recorded(RetryAfter("soon")).retry_after_us == -1


@pytest.mark.parametrize("name", ["Cancelled", "Terminated", "TimedOut", "UsageError", "PayloadError"])
def test_errors_of_the_platform_come_back(name: str) -> None:
    kind = getattr(errors, name)
    error = again(kind("why"))
    assert (type(error), str(error)) == (kind, "why")


# ---- what is not known here


def test_an_unknown_exception_is_remote_and_keeps_its_name_message_and_traceback() -> None:
    error = again(Unknown("odd"))
    assert isinstance(error, RemoteException)
    assert str(error) == f"{__name__}.Unknown: odd"
    assert "test_codec_failures.py" in error.remote_traceback


def test_a_remote_exception_that_is_recorded_again_stays_what_it_was() -> None:
    info = recorded(Unknown("odd"))
    once = payloads.decode_failure(info)
    assert recorded(once) == info


def test_a_message_that_raises_is_reported() -> None:
    assert recorded(Unspeakable()).message == "<the message of Unspeakable cannot be read>"


def test_a_message_that_is_not_unicode_is_repaired() -> None:
    assert recorded(ValueError("a\ud800b")).message == "a?b"


# ---- groups


class Closed(ExceptionGroup[Exception]): ...


class Batch(Failure, ExceptionGroup[Exception]):
    """An author's own group."""


def test_a_group_comes_back_with_its_members() -> None:
    error = again(ExceptionGroup("two", [UnluckyCard("x"), ValueError("y")]))
    assert (type(error), str(error), error.message) == (ExceptionGroup, "two (2 sub-exceptions)", "two")
    card, other = error.exceptions
    assert (type(card), card.reason, type(other), other.args) == (UnluckyCard, "x", ValueError, ("y",))
    caught: list[Exception] = []
    try:
        raise error
    except* UnluckyCard as group:
        caught += group.exceptions
    except* ValueError as group:
        caught += group.exceptions
    assert caught == [card, other]


def test_groups_in_groups_and_groups_of_base_exceptions_come_back() -> None:
    looked_up = KeyError("k")
    looked_up.__cause__ = OSError("o")
    error = again(BaseExceptionGroup("a", [SystemExit(3), ExceptionGroup("b", [looked_up])]))
    assert type(error) is BaseExceptionGroup
    stopped, inner = cast("tuple[Any, Any]", error.exceptions)
    assert (type(stopped), stopped.code, type(inner)) == (SystemExit, 3, ExceptionGroup)
    assert isinstance(inner.exceptions[0].__cause__, OSError)


def test_a_group_of_a_class_that_is_not_known_here_is_still_a_group() -> None:
    error = again(Closed("c", [ValueError("x")]))
    assert (type(error), str(error)) == (ExceptionGroup, "c (1 sub-exception)")


def test_a_users_exception_group_keeps_its_class() -> None:
    error = again(Batch("c", [ValueError("x")]))
    assert (type(error), error.message, error.exceptions[0].args) == (Batch, "c", ("x",))


def test_a_group_with_a_failure_in_it_is_final() -> None:
    assert recorded(ExceptionGroup("a", [ValueError(), ExceptionGroup("b", [Plain()])])).is_final
    assert not recorded(ExceptionGroup("a", [ValueError()])).is_final


def test_a_group_asks_for_the_longest_delay_of_its_members() -> None:
    assert (
        recorded(ExceptionGroup("a", [RetryAfter("1s"), RetryAfter("2s"), ValueError()])).retry_after_us
        == 2_000_000
    )


def test_of_a_large_group_the_first_members_come_back_and_a_note_counts_the_others() -> None:
    error = again(ExceptionGroup("many", [ValueError(i) for i in range(1000)]))
    kept = error.exceptions
    assert [each.args for each in kept] == [(i,) for i in range(len(kept))]
    assert f"{1000 - len(kept)} more exceptions were not recorded" in error.__notes__
    almost = again(ExceptionGroup("many", [ValueError(i) for i in range(len(kept) + 1)]))
    assert len(almost.exceptions) == len(kept)
    assert "1 more exceptions were not recorded" in almost.__notes__


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**100, -(10**100)])
def test_integers_of_any_size_come_back(number: int) -> None:
    error = again(ValueError(number, [number], {"n": number}))
    assert error.args == (number, [number], {"n": number})
    assert type(error.args[0]) is int


def test_integers_that_no_other_language_reads_as_such_are_text_on_the_wire() -> None:
    assert b"$int" not in recorded(ValueError(2**63 - 1, -(2**63))).fields
    for number in (2**63, -(2**63) - 1):
        assert b'{"$int":"%b"}' % hex(number).encode() in recorded(ValueError(number)).fields


# ---- causes and tracebacks


def raise_from(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


def test_causes_come_back_in_a_row() -> None:
    error = again(raise_from(UnluckyCard("x"), raise_from(ValueError("y"), KeyError("z"))))
    assert isinstance(error.__cause__, ValueError)
    assert isinstance(error.__cause__.__cause__, KeyError)


def test_what_was_being_handled_is_a_cause_unless_it_was_suppressed() -> None:
    error = ValueError("x")
    error.__context__ = KeyError("y")
    assert isinstance(again(error).__cause__, KeyError)
    error.__suppress_context__ = True
    assert again(error).__cause__ is None


def test_a_row_of_causes_ends_after_five_even_where_it_is_a_circle() -> None:
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first
    info: FailureInfo | None = payloads.encode_failure(first)
    length = 0
    while info is not None:
        info, length = info.cause, length + 1
    assert length == 5


def test_a_traceback_holds_only_frames_of_user_code() -> None:
    async def author() -> None:
        await asyncio.wait_for(fails(), 10)

    async def fails() -> None:
        raise Plain("x")

    with pytest.raises(Plain) as caught:
        asyncio.run(author())
    text = payloads.encode_failure(caught.value).traceback
    assert "in author" in text
    assert "in fails" in text
    assert "raise Plain" in text
    assert "asyncio" not in text.replace("asyncio.run(author())", "").replace("await asyncio.wait_for", "")


def test_a_long_traceback_keeps_its_end() -> None:
    def deep(level: int) -> None:
        if level:
            return other(level - 1)
        raise Plain("x")

    def other(level: int) -> None:
        return deep(level)

    with pytest.raises(Plain) as caught:
        deep(200)
    text = payloads.encode_failure(caught.value).traceback
    assert 4_000 < len(text.encode()) <= 8 * 1024 + 20
    assert text.startswith("  [...]\n")
    assert text.rstrip().endswith('raise Plain("x")')


class Untouchable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class UntouchableFailure(Failure):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


@pytest.mark.parametrize("number", range(3), ids=["exception", "failure", "class"])
def test_an_exception_that_cannot_be_asked_anything_is_recorded_by_its_name(number: int) -> None:
    class NamelessKind(type):  # here, since pytest asks the classes of a module for their attributes
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit(name)

    class Nameless(Exception, metaclass=NamelessKind):
        pass

    kinds: list[type[Exception]] = [Untouchable, UntouchableFailure, Nameless]
    name = type.__getattribute__(kinds[number], "__qualname__")
    found = JsonPayloads().encode_failure(kinds[number]("reason"))
    assert found.type.endswith(name)
    assert found.is_final == (number == 1)
    assert described(kinds[number]("reason")).startswith(name.rpartition(".")[2])
