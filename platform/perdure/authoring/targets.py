"""Resolves the targets of calls: the run of a workflow, or a signal, query or view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from perdure.authoring.definition import definition_of
from perdure.authoring.members import QueryRef, RunRef, SignalRef, UpdateRef, ViewRef
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from perdure.authoring.workflow_type import Definition

_KINDS: dict[type[Any], str] = {
    RunRef: "run",
    SignalRef: "signal",
    QueryRef: "query",
    UpdateRef: "update",
    ViewRef: "view",
}
_BY_NAME: dict[type[Any], str] = {
    SignalRef: "signal_by_name()",
    QueryRef: "query_by_name()",
    UpdateRef: "update_by_name()",
}

M = TypeVar("M", SignalRef[Any, Any], QueryRef[Any, Any, Any], UpdateRef[Any, Any, Any], ViewRef[Any, Any])


def definition_for(run: object) -> Definition:
    """The definition of the workflow whose run the caller has given.

    Args:
        run: `Order.process`, or a function workflow.

    Raises:
        UsageError: `run` is not the run of a workflow; the message says what to pass.
    """
    if isinstance(run, RunRef):
        return run.definition
    advice = "give the run of a workflow seen from its class, such as Order.process, or a function workflow"
    if isinstance(run, type):
        name = definition_of(run).run_fn.__name__  # raises what is wrong with a class that is no workflow
        raise misuse(f"{run.__name__} is the class of a workflow: give its run, {run.__name__}.{name}")
    if isinstance(run, str):
        by_name = "" if current() else "; by name: start_by_name() and get_by_name()"  # of a client
        raise misuse(f"{run!r} is text: {advice}{by_name}")
    raise misuse(f"{_shown(run)} is not a run: {advice}")


def member_for(target: object, kind: type[M], definition: Definition | None) -> M:
    """The signal, query, update or view that the caller has given.

    Args:
        target: `Order.picked_up`.
        kind: the expected kind of member.
        definition: the workflow that receives the message; None: it is not known here.

    Raises:
        UsageError: `target` is of another kind, or belongs to another workflow; the message says
            what to pass.
    """
    word = _KINDS[kind]
    if not isinstance(target, kind):
        has_name = isinstance(target, str) and kind in _BY_NAME and not current()
        by_name = f"; by name: {_BY_NAME[kind]}" if has_name else ""
        raise misuse(
            f"{_shown(target)} is not a {word}: give one seen from its class, such as "
            f"Order.{word}_name{by_name}"
        )
    cls = None if definition is None else definition.cls
    owner: Any = target.owner
    if definition is not None and (cls is None or not (issubclass(cls, owner) or issubclass(owner, cls))):
        raise misuse(f"{target!r} is not a {word} of workflow {definition.name!r}")
    # as the class has it: overridden, or of known types
    if cls is not None and owner is not cls and issubclass(cls, owner):
        found: object = getattr(cls, target.attribute)
        return found if isinstance(found, kind) else target
    return target


def _shown(value: object) -> str:
    for kind, word in _KINDS.items():
        if isinstance(value, kind):
            return f"the {word} {value!r}"
    return f"the text {value!r}" if isinstance(value, str) else f"{value!r}"
