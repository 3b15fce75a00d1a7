"""Exceptions as they cross the wire.

A `Failure` arrives as itself: its class is found among those that are imported here, and is made again from its dataclass fields, or
from the arguments and attributes it had. Built-in exceptions arrive as themselves, too. Any other comes as a `RemoteException`.
"""

from __future__ import annotations

import builtins
import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, cast

import msgspec

from perdure import errors
from perdure.codec.values import from_json, to_json
from perdure.errors import ActivityFailed, Failure, RemoteException, RetryAfter, UsageError
from perdure.model.duration import microseconds
from perdure.model.failure import FailureInfo
from perdure.model.signature import hints_of

_DEPTH: Final = 5
"""How much of a chain of causes is kept."""
_TRACEBACK_BYTES: Final = 8 * 1024
_MESSAGE_LENGTH: Final = 8 * 1024
"""Characters; what a message has beyond is not recorded."""
_FIELDS_BYTES: Final = 256 * 1024
"""What is larger is not recorded: the class and the message remain."""
_NOT_AUTHORS: Final = frozenset({"perdure", "asyncio", "concurrent", "threading", "contextlib", "msgspec"})


_EVERYTHINGS_BASES: Final = (Exception, BaseException, object)
_RECORDED: Final = "_perdure_recorded"
"""Where a `RemoteException` keeps what it was made of, to be recorded as that again."""


class _Made(msgspec.Struct, forbid_unknown_fields=True):
    """How an exception that is no dataclass was made."""

    args: list[Any]
    attributes: dict[str, Any] = {}


def info_of(error: BaseException, depth: int = _DEPTH) -> FailureInfo:
    """How it is recorded; never raises.

    Args:
        error: with its traceback and causes.
        depth: how many of its causes are recorded, too.
    """
    recorded = vars(error).get(_RECORDED)
    if isinstance(recorded, FailureInfo):
        return recorded
    cause = _cause_of(error)
    return FailureInfo(
        type=_type_name(type(error)),
        message=_text(error),
        fields=_fields_of(error),
        is_final=isinstance(error, Failure),
        traceback=_traceback_of(error),
        cause=info_of(cause, depth - 1) if cause is not None and depth > 1 else None,
        retry_after_us=_retry_after(error),
        attempts=error.attempts if isinstance(error, ActivityFailed) else 0,
        bases=tuple(_type_name(base) for base in type(error).__mro__[1:] if base not in _EVERYTHINGS_BASES),
    )


def failure_of(info: FailureInfo) -> BaseException:
    """The exception that was recorded; never raises."""
    cause = failure_of(info.cause) if info.cause is not None else None
    error = _known(info, cause)
    if error is None:
        error = RemoteException(info.type.replace(":", ".").removeprefix("builtins."), info.message, info.traceback)
        vars(error)[_RECORDED] = info
    if cause is not None:
        error.__cause__ = cause
    return error


# ---- to the wire


def _type_name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        text = str(error)
        if len(text) > _MESSAGE_LENGTH + 1024:  # what was cut, and is part of another message now, is not cut again
            text = f"{text[:_MESSAGE_LENGTH]}… ({len(text)} characters)"
        return text.encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001  an author's __str__ may raise anything
        return f"<the message of {type(error).__qualname__} cannot be read>"


def _cause_of(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error.__context__


def _fields_of(error: BaseException) -> bytes:
    fields = _all_fields_of(error)
    return fields if len(fields) <= _FIELDS_BYTES else b""


def _all_fields_of(error: BaseException) -> bytes:
    try:
        if isinstance(error, ActivityFailed):
            return b""
        if (fields := _dataclass_fields(type(error))) is not None:
            return to_json({f.name: getattr(error, f.name) for f in fields})
        attributes = {k: v for k, v in vars(error).items() if not k.startswith("__")}
        if not isinstance(error, Failure) or not attributes:
            return to_json(list(error.args))
        return to_json(_Made(list(error.args), attributes))
    except Exception:  # noqa: BLE001  an author's values may raise anything; the class and the message remain
        return b""


def _dataclass_fields(kind: Any) -> tuple[dataclasses.Field[Any], ...] | None:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else None


def _retry_after(error: BaseException) -> int:
    if not isinstance(error, RetryAfter):
        return -1
    try:
        return microseconds(error.delay)
    except UsageError:
        return -1


def _traceback_of(error: BaseException) -> str:
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_platforms(frame)]
    if not frames:
        return ""
    text = "".join(traceback.StackSummary.extract(iter(frames)).format())
    data = text.encode("utf-8", "replace")
    if len(data) <= _TRACEBACK_BYTES:
        return data.decode()
    return "  [...]\n" + data[-_TRACEBACK_BYTES:].decode("utf-8", "ignore").partition("\n")[2]


def _is_platforms(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _NOT_AUTHORS


# ---- from the wire


def _known(info: FailureInfo, cause: BaseException | None) -> BaseException | None:
    kind = _class_of(info.type)
    if kind is None:
        return None
    try:
        error = _made_again(kind, info, cause)
    except Exception:  # noqa: BLE001  an author's class may have changed since: what was recorded still says what it was
        return None
    if _text(error) != info.message:
        _set_args(error, (info.message,) if info.message else ())
    return error


def _made_again(kind: type[BaseException], info: FailureInfo, cause: BaseException | None) -> BaseException:
    if issubclass(kind, ActivityFailed):
        return kind(info.message, cause or RemoteException("unknown", ""), info.attempts)
    if issubclass(kind, RetryAfter):
        return kind(timedelta(microseconds=max(info.retry_after_us, 0)), info.message)
    if (fields := _dataclass_fields(kind)) is not None:
        if not info.fields:
            return _without_init(kind, [], dict.fromkeys(f.name for f in fields))
        return _from_fields(kind, fields, info)
    if not info.fields:
        return _without_init(kind, [], {})
    if info.fields.startswith(b"{"):
        made = from_json(info.fields, _Made)
        return _without_init(kind, made.args, made.attributes)
    args: list[Any] = from_json(info.fields, list[Any])
    error = kind(*args)
    return error if _text(error) == info.message else _without_init(kind, args, {})


def _from_fields(kind: Any, fields: tuple[dataclasses.Field[Any], ...], info: FailureInfo) -> BaseException:
    hints: Mapping[str, Any] = {}
    with suppress(UsageError):  # a name that is imported for type checkers only: plain JSON values are better than another class
        hints = hints_of(kind)
    raw: dict[str, msgspec.Raw] = from_json(info.fields, dict[str, msgspec.Raw])
    values = {f.name: from_json(raw[f.name], hints.get(f.name, Any)) for f in fields if f.name in raw}
    positional = [f.name for f in fields if f.init and not f.kw_only]
    if all(name in values for name in positional):
        named = {f.name: values[f.name] for f in fields if f.init and f.kw_only and f.name in values}
        error = kind(*(values[name] for name in positional), **named)
    else:
        error = kind(**{f.name: values[f.name] for f in fields if f.init and f.name in values})
    for field in fields:
        if not field.init and field.name in values:
            object.__setattr__(error, field.name, values[field.name])
    return cast("BaseException", error)


def _without_init(kind: type[BaseException], args: list[Any], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    _set_args(error, tuple(args))
    vars(error).update(attributes)
    return error


def _set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    descriptor: Any = vars(BaseException)["args"]  # a frozen dataclass forbids the plain assignment
    descriptor.__set__(error, args)


def _class_of(name: str) -> type[BaseException] | None:
    module, _, qualname = name.partition(":")
    if module == "builtins":
        found = getattr(builtins, qualname, None)
        return found if isinstance(found, type) and issubclass(found, BaseException) else None
    if module == errors.__name__:
        found = getattr(errors, qualname, None)
        return found if isinstance(found, type) and issubclass(found, BaseException) else None
    if module == "asyncio.exceptions" and qualname == "CancelledError":
        from asyncio import CancelledError

        return CancelledError
    return _failure_class(name, qualname)


def _failure_class(name: str, qualname: str) -> type[Failure] | None:
    """By its full name; else, where that is clear, by its own: `__main__:Declined` is `app:Declined` elsewhere."""
    known = list(_subclasses(Failure))
    same = [k for k in known if _type_name(k) == name] or [k for k in known if k.__qualname__ == qualname]
    if not same or len({_type_name(k) for k in same}) > 1:
        return None
    return same[-1]  # a module that was loaded again has left its old classes behind


def _subclasses(kind: type[Failure]) -> Iterator[type[Failure]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)
