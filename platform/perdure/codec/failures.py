"""Encodes exceptions, and restores them in another process.

A `Failure` keeps its class: the class is looked up among the imported ones, and the object is made
from its dataclass fields, or from its arguments and attributes. The same applies to exceptions of
Python and its standard library, and to exception groups with their members. Any other exception
becomes a `RemoteException`. Notes, causes and your part of the traceback are restored, too; the
traceback becomes a note.
"""

from __future__ import annotations

import builtins
import dataclasses
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from perdure import errors
from perdure.codec.exception_values import from_plain, to_plain
from perdure.codec.values import encoder_for, from_json, to_json
from perdure.errors import ActivityFailed, Failure, RemoteException, RetryAfter, UsageError
from perdure.model.duration import microseconds
from perdure.model.failure import CUT, FAILURE_BYTES, FailureInfo, bounded, head, tail
from perdure.model.signature import hints_of

_DEPTH: Final = 5
"""Maximum depth of a chain of causes."""
_EXCEPTIONS: Final = 32
"""Maximum number of recorded exceptions, with all causes and group members."""
_NAME_BYTES: Final = 255
_BASES: Final = 16
_NOTES: Final = 16
_NOT_AUTHORS: Final = frozenset({"perdure", "asyncio", "concurrent", "threading", "contextlib", "msgspec"})
_EVERYTHINGS_BASES: Final = (Exception, BaseException, object)
_RECORDED: Final = "_perdure_recorded"
"""Attribute of an exception that has its constructor arguments."""
_SUFFIX: Final = re.compile(r" \(\d+ sub-exceptions?\)\Z")
_REMOTE: Final = "Remote traceback (most recent call last):\n"
_BUILTIN_ATTRIBUTES: Final[Mapping[type[BaseException], tuple[str, ...]]] = {
    # not `obj`: it may be anything, secrets too; Python's own pickle leaves it out as well
    AttributeError: ("name",),
    ImportError: ("msg", "name", "path"),
    NameError: ("name",),
}
"""Attributes that the constructor takes by name only, and `args` lacks."""
_GROUPS: Final[tuple[type[BaseException], ...]] = (BaseExceptionGroup, ExceptionGroup)


class _Made(msgspec.Struct, forbid_unknown_fields=True):
    """Constructor arguments of an exception that is not a dataclass."""

    args: list[Any]
    attributes: dict[str, Any] = {}


class _Count:
    """The number of exceptions that may still be recorded."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _EXCEPTIONS


def info_of(error: BaseException) -> FailureInfo:
    """Encode an exception in at most `FAILURE_BYTES`; never raises.

    Args:
        error: with its traceback, notes and causes.
    """
    return bounded(_info_of(error, _DEPTH, _Count()))


def failure_of(info: FailureInfo) -> BaseException:
    """The exception that was recorded; never raises."""
    return _failure_of(info, _DEPTH)


def recorded_of(error: BaseException) -> FailureInfo | None:
    """The record from which `failure_of` made an exception."""
    recorded = vars(error).get(_RECORDED)
    return recorded if isinstance(recorded, FailureInfo) else None


# ---- to the wire


def _info_of(error: BaseException, depth: int, count: _Count) -> FailureInfo:
    count.left -= 1
    try:
        recorded = vars(error).get(_RECORDED)
        if isinstance(error, RemoteException) and isinstance(recorded, FailureInfo):
            return replace(recorded, notes=_notes_of(error))
        return _described(error, depth, count)
    except BaseException:  # noqa: BLE001  an author's class may raise anything from anywhere
        name = type.__getattribute__(type(error), "__qualname__")
        is_final = issubclass(type(error), Failure)  # `isinstance` asks the object for its class
        return FailureInfo(_clean(f"unknown:{name}", _NAME_BYTES), _text(error), is_final=is_final)


def _described(error: BaseException, depth: int, count: _Count) -> FailureInfo:
    members: list[FailureInfo] = []
    left_out = 0
    is_group = _is_group(type(error))
    if is_group:
        for member in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            if depth > 1 and count.left > 0:
                members.append(_info_of(member, depth - 1, count))
            else:
                left_out += 1
    cause = _cause_of(error)
    described = FailureInfo(
        type=_type_name(type(error)),
        message=_text(error),
        fields=_fields_of(error),
        is_final=isinstance(error, Failure | UsageError) or any(member.is_final for member in members),
        traceback=_traceback_of(error),
        cause=_info_of(cause, depth - 1, count)
        if cause is not None and depth > 1 and count.left > 0
        else None,
        retry_after_us=max([_retry_after(error), *(member.retry_after_us for member in members)]),
        attempts=error.attempts if isinstance(error, ActivityFailed) else 0,
        bases=tuple(_type_name(base) for base in type(error).__mro__[1:] if base not in _EVERYTHINGS_BASES)[
            :_BASES
        ],
        notes=_notes_of(error),
        exceptions=tuple(members) if is_group else None,
    )
    if left_out:
        described = replace(
            described, notes=(*described.notes, f"{left_out} more exceptions were not recorded")
        )
    return described


def _type_name(kind: type[BaseException]) -> str:
    return _clean(f"{kind.__module__}:{kind.__qualname__}", _NAME_BYTES)


def _clean(text: str, limit: int = FAILURE_BYTES) -> str:
    """Valid Unicode of a bounded length."""
    if len(text) > 2 * limit:  # what was cut, and is part of another message now, is not cut again
        text = f"{text[:limit]}… ({len(text)} characters)"
    return head(text.encode("utf-8", "replace").decode(), limit)


def _text(error: BaseException) -> str:
    try:
        return _clean(str.__str__(str(error)))
    except BaseException:  # noqa: BLE001  an author's __str__ may raise anything
        return (
            f"<the message of {_clean(type.__getattribute__(type(error), '__qualname__'), _NAME_BYTES)} "
            "cannot be read>"
        )


def _cause_of(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _notes_of(error: BaseException) -> tuple[str, ...]:
    """Without the one that `failure_of` has added."""
    notes: Any = vars(error).get("__notes__")
    if not isinstance(notes, list | tuple):
        return ()
    remote = _remote_note(_recorded_traceback(error))
    texts = [str.__str__(note) for note in cast("list[object]", notes) if isinstance(note, str)]
    return tuple(_clean(note) for note in texts if note != remote)[:_NOTES]


def _fields_of(error: BaseException) -> bytes:
    """Empty if the message has everything, or if there is no JSON form: the class and the message
    remain.
    """
    if isinstance(error, ActivityFailed | RetryAfter) or type(error) in _GROUPS:
        return b""
    if (fields := _dataclass_fields(type(error))) is not None:
        hints = _hints_of(type(error))
        found = ((field.name, _json_of(error, field.name, hints)) for field in fields)
        parts = {name: part for name, part in found if part is not None}
        return (
            to_json({name: msgspec.Raw(part) for name, part in parts.items()}) if parts or not fields else b""
        )
    attributes = {
        name: part for name in _attributes_of(error) if (part := _plain_of(error, name)) is not None
    }
    try:
        args = to_plain(list(_args_of(error)))
    except Exception:  # noqa: BLE001  an author's values may raise anything
        args = None
    if args is None or (
        not attributes and len(args) == 1 and type(args[0]) is str and args[0] and args[0] == str(error)
    ):
        return to_json(_Made([_text(error)], attributes)) if attributes else b""
    return to_json(_Made(args, attributes) if attributes else args)


def _json_of(error: BaseException, name: str, hints: Mapping[str, Any]) -> bytes | None:
    try:
        return encoder_for(hints.get(name, Any))(getattr(error, name))
    except Exception:  # noqa: BLE001  an author's values may raise anything
        return None


def _plain_of(error: BaseException, name: str) -> Any:
    try:
        return to_plain(getattr(error, name))
    except Exception:  # noqa: BLE001  an author's values may raise anything
        return None


def _args_of(error: BaseException) -> tuple[Any, ...]:
    """The constructor's arguments: OSError stores its file names elsewhere."""
    if isinstance(error, OSError) and type(error).__reduce__ is OSError.__reduce__:
        made: Any = error.__reduce__()
        return cast("tuple[Any, ...]", made[1])
    return error.args


def _attributes_of(error: BaseException) -> list[str]:
    kind = type(error)
    names = [name for name in vars(error) if not name.startswith(("__", "_perdure"))]
    if _is_authors(error):
        slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
        names += [
            name
            for slot in slots
            for name in ([slot] if isinstance(slot, str) else slot)
            if not name.startswith("__")
        ]
    names += [
        name for base, extra in _BUILTIN_ATTRIBUTES.items() if isinstance(error, base) for name in extra
    ]
    return names


def _is_group(kind: type[BaseException]) -> bool:
    return issubclass(kind, _GROUPS)


def _is_authors(error: BaseException) -> bool:
    return isinstance(error, Failure)


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
    """Your frames, followed by those of the other process if the exception came from one."""
    frames = [
        (frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_platforms(frame)
    ]
    text = "".join(traceback.StackSummary.extract(iter(frames)).format()) if frames else ""
    return tail(text.encode("utf-8", "replace").decode() + _recorded_traceback(error), FAILURE_BYTES)


def _recorded_traceback(error: BaseException) -> str:
    recorded = vars(error).get(_RECORDED)
    return recorded.traceback if isinstance(recorded, FailureInfo) else ""


def _is_platforms(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _NOT_AUTHORS


# ---- from the wire


def _failure_of(info: FailureInfo, depth: int) -> BaseException:
    cause = _failure_of(info.cause, depth - 1) if info.cause is not None and depth > 1 else None
    members = [_failure_of(member, depth - 1) for member in info.exceptions or ()] if depth > 1 else []
    error = _known(info, cause, members)
    if error is None:
        error = RemoteException(
            info.type.replace(":", ".").removeprefix("builtins."), info.message, info.traceback
        )
    own: dict[str, Any] = object.__getattribute__(error, "__dict__")
    own[_RECORDED] = info
    notes = [*info.notes, *([_remote_note(info.traceback)] if info.traceback else [])]
    if notes:  # not by add_note, which a frozen dataclass forbids
        own["__notes__"] = notes
    if cause is not None:
        BaseException.__setattr__(error, "__cause__", cause)
    return error


def _remote_note(text: str) -> str:
    return f"{_REMOTE}{text.rstrip()}"


def _known(
    info: FailureInfo, cause: BaseException | None, members: list[BaseException]
) -> BaseException | None:
    kind = _class_of(info.type)
    if members and (kind is None or not _is_group(kind)):
        kind = _GROUPS[0]  # a group whose class is not known here is still a group, for `except*`
    if kind is None:
        return None
    try:
        error = _made_again(kind, info, cause, members)
        if _text(error) == info.message:
            return error
        if not (CUT.search(info.message) and info.fields) and not _is_group(kind):
            _set_args(error, (info.message,) if info.message else ())
    except BaseException:  # noqa: BLE001  an author's class may have changed since: what was recorded still says what it was
        return None
    return error if isinstance(error, Failure) or _is_group(kind) or _says(error, info.message) else None


def _says(error: BaseException, message: str) -> bool:
    """Whether an exception without its fields still says what happened; `KeyError` quotes."""
    said = _text(error)
    return said == message or said == repr(message) or bool(CUT.search(message))


def _made_again(
    kind: type[BaseException], info: FailureInfo, cause: BaseException | None, members: list[BaseException]
) -> BaseException:
    if _is_group(kind):
        return _group(kind, info, members)
    if issubclass(kind, ActivityFailed):
        return kind(info.message, cause or RemoteException("unknown", ""), info.attempts)
    if issubclass(kind, RetryAfter):
        return kind(timedelta(microseconds=max(info.retry_after_us, 0)), info.message)
    if (fields := _dataclass_fields(kind)) is not None:
        if not info.fields:
            return _without_init(kind, [], dict.fromkeys(f.name for f in fields))
        return _from_fields(kind, fields, info)
    if not info.fields:
        return _without_fields(kind, info)
    if info.fields.startswith(b"{"):
        made = from_json(info.fields, _Made)
        attributes = {name: from_plain(value) for name, value in made.attributes.items()}
        return _without_init(kind, from_plain(made.args), attributes)
    args: list[Any] = from_plain(from_json(info.fields, list[Any]))
    if issubclass(kind, Failure):
        with suppress(Exception):  # an __init__ with other parameters
            error = kind(*args)
            if _text(error) == info.message:
                return error
        return _without_init(kind, args, {})
    return kind(*args)


def _without_fields(kind: type[BaseException], info: FailureInfo) -> BaseException:
    args = [info.message] if info.message else []
    if (
        kind.__module__ != "builtins"
        and not issubclass(kind, Failure)
        and kind.__init__ is not BaseException.__init__
    ):
        return kind(*args)  # of the standard library: as a whole or not at all
    return _without_init(kind, args, {})


def _group(kind: type[BaseException], info: FailureInfo, members: list[BaseException]) -> BaseException:
    if not members:
        raise ValueError("its members were not recorded")
    message = _SUFFIX.sub("", info.message)
    if kind in _GROUPS:
        return BaseExceptionGroup(message, members)
    made = _Made([])
    if info.fields.startswith(b"{"):
        made = from_json(info.fields, _Made)
    group = kind.__new__(kind, message, members)
    _set_attributes(group, {name: from_plain(value) for name, value in made.attributes.items()})
    return group


def _from_fields(kind: Any, fields: tuple[dataclasses.Field[Any], ...], info: FailureInfo) -> BaseException:
    hints = _hints_of(kind)
    raw: dict[str, msgspec.Raw] = from_json(info.fields, dict[str, msgspec.Raw])
    if raw and not any(f.name in raw for f in fields):
        raise ValueError("its fields have changed")
    values = {f.name: _field_of(raw[f.name], hints.get(f.name, Any)) for f in fields if f.name in raw}
    positional = [f.name for f in fields if f.init and not f.kw_only]
    error: Any = None
    with suppress(TypeError):  # a field without JSON was left out, and has no default
        if all(name in values for name in positional):
            named = {f.name: values[f.name] for f in fields if f.init and f.kw_only and f.name in values}
            error = kind(*(values[name] for name in positional), **named)
        else:
            error = kind(**{f.name: values[f.name] for f in fields if f.init and f.name in values})
    if error is None:
        return _without_init(kind, [], dict.fromkeys(f.name for f in fields) | values)
    _set_attributes(error, {f.name: values[f.name] for f in fields if not f.init and f.name in values})
    return cast("BaseException", error)


def _hints_of(kind: Any) -> Mapping[str, Any]:
    # a name that is imported for type checkers only: plain JSON values are better than another
    # class
    with suppress(UsageError):
        return hints_of(kind)
    return {}


def _field_of(raw: msgspec.Raw, hint: Any) -> Any:
    try:
        return from_json(raw, hint)
    except UsageError:  # the value of your attribute never had this type
        return from_json(raw, Any)


def _without_init(kind: type[BaseException], args: list[Any], attributes: dict[str, Any]) -> BaseException:
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    error: BaseException = builtin.__new__(kind, *args)
    _set_args(error, tuple(args))
    _set_attributes(error, attributes)
    return error


def _set_attributes(error: BaseException, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        with suppress(AttributeError, TypeError):  # a property by now
            BaseException.__setattr__(error, name, value)  # a frozen dataclass forbids the plain assignment


def _set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    BaseException.__setattr__(error, "args", args)


def _class_of(name: str) -> type[BaseException] | None:
    module, _, qualname = name.partition(":")
    if module in {"builtins", errors.__name__} or module.partition(".")[0] in sys.stdlib_module_names:
        found = (
            vars(builtins).get(qualname)
            if module == "builtins"
            else _attribute(sys.modules.get(module), qualname)
        )
        return (
            found
            if isinstance(found, type) and issubclass(found, BaseException)
            else _failure_class(name, qualname)
        )
    return _failure_class(name, qualname)


def _attribute(module: object, qualname: str) -> object:
    found = module
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _failure_class(name: str, qualname: str) -> type[Failure] | None:
    """Find a class by its full name or, if that is unambiguous, by its own name:
    `__main__:Declined` is `app:Declined` elsewhere.
    """
    known = list(_subclasses(Failure))
    same = [k for k in known if _type_name(k) == name] or [k for k in known if k.__qualname__ == qualname]
    if not same or len({_type_name(k) for k in same}) > 1:
        return None
    return same[-1]  # a module that was loaded again has left its old classes behind


def _subclasses(kind: type[Failure]) -> Iterator[type[Failure]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)
