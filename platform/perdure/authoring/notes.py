"""Facts of a run for people: the memo of its start, and the details that its code sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from perdure.model.limits import DETAILS_BYTES, is_unicode
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from perdure.model.runtime import WorkflowRuntime

T = TypeVar("T")


@overload
def memo() -> dict[str, Any]: ...
@overload
def memo(name: str, /) -> Any: ...
@overload
def memo(name: str, type: type[T], /) -> T | None: ...
def memo(name: str | None = None, type: Any = Any, /) -> Any:
    """The memo of this run: facts that its start has given, by `client.options(memo={"ticket": 7})`
    or, for a child, `workflow.options(memo=…)`. It never changes; a run that continues as new keeps
    it.

    Args:
        name: of one value; None: all of them.
        type: what the value is decoded to; by default a JSON value.

    Returns:
        All as JSON values, by name; or the value, None if the memo has no such name.

    Raises:
        UsageError: this is not workflow code, or the value does not fit the type.
    """
    notes = _runtime("memo").notes
    return notes.memo() if name is None else notes.memo_value(name, type)


@overload
def details() -> str: ...
@overload
def details(text: str, /) -> None: ...
def details(text: str | None = None, /) -> str | None:
    """Say something about this run, for operators: `perdure workflow show`, `describe()`, the HTTP
    API and SQL show it. The last text counts; it is recorded when it has changed. Without a text,
    return the last one.

    It is recorded plainly, also where a codec encodes payloads. A run that continues as new begins
    without.

    Args:
        text: Markdown, at most 4 KiB; empty: there is nothing to say any more.

    Raises:
        UsageError: this is not workflow code, it only reads, or the text is too long or not valid
            Unicode.
    """
    notes = _runtime("details").notes
    if text is None:
        return str(notes.details)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers need not be typed
        raise misuse(f"workflow.details takes text, not {text!r:.200}.")
    if not is_unicode(text):
        raise misuse("workflow.details: the text is not valid Unicode.")
    if len(text) > DETAILS_BYTES // 4 and (size := len(text.encode())) > DETAILS_BYTES:
        raise misuse(
            f"workflow.details: the text is {size} bytes long, the limit is {DETAILS_BYTES}. Say what an "
            "operator needs now, and keep data in the view."
        )
    notes.set_details(text)
    return None


def _runtime(what: str) -> WorkflowRuntime:
    runtime = current()
    if runtime is None:
        raise misuse(f"workflow.{what} is for workflow code; no run is being executed here.")
    return runtime
