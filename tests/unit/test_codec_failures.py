"""Exceptions that cross the wire as themselves, and those that cannot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import errors
from perdure.codec.payloads import JsonPayloads
from perdure.errors import ActivityFailed, ActivityTimedOut, Failure, RemoteException, RetryAfter
from perdure.model.failure import FailureInfo

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


def again(error: BaseException) -> Any:
    return payloads.decode_failure(recorded(error))


# ---- failures arrive as themselves


@given(st.text(st.characters(codec="utf-8")), st.none() | st.builds(Money, st.decimals(allow_nan=False, allow_infinity=False)))
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


def test_a_name_that_two_failures_have_is_no_help() -> None:
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
    ],
)
def test_built_in_exceptions_come_back(made: BaseException) -> None:
    error = again(made)
    assert (type(error), error.args, str(error)) == (type(made), made.args, str(made))


def test_a_built_in_exception_that_cannot_be_made_again_is_remote() -> None:
    error = again(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"))
    assert isinstance(error, RemoteException)
    assert error.type_name == "UnicodeDecodeError"


def test_a_cancellation_comes_back() -> None:
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


def test_a_message_that_raises_is_said_to() -> None:
    assert recorded(Unspeakable()).message == "<the message of Unspeakable cannot be read>"


def test_a_message_that_is_no_unicode_is_mended() -> None:
    assert recorded(ValueError("a\ud800b")).message == "a?b"


def test_a_group_is_recorded_with_its_first_exception() -> None:
    error = again(ExceptionGroup("two", [UnluckyCard("x"), ValueError("y")]))
    assert str(error) == "ExceptionGroup: two (2 sub-exceptions)"
    assert isinstance(error.__cause__, UnluckyCard)


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


def test_a_traceback_holds_the_authors_frames_only() -> None:
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
