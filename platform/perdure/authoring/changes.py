"""Change during the life of a run: continuing as a new run, and patches of its code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

from perdure.authoring.members import RunRef
from perdure.model.limits import fault_of_id
from perdure.model.runtime import ContinueAsNew, current, misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from perdure.model.runtime import WorkflowRuntime

P = ParamSpec("P")


def continue_as_new(
    run: Callable[P, Coroutine[Any, Any, object]], /, *args: P.args, **kwargs: P.kwargs
) -> NoReturn:
    """End this run, and continue in another one of the same workflow id, with an empty history.

    Call it in the run itself: `workflow.continue_as_new(self.process, state)`. It raises, so
    nothing after it runs. The run waits for signal handlers that are still running, but their
    changes are not in the arguments: wait for `all_handlers_finished` first. Signals that arrive
    later go to the next run, which starts in the same transaction. `result()` waits for the last
    run. Open activities and timers are cancelled; children keep running, and `workflow.get` finds
    them.

    If the run has not waited for anything, the next run starts a second later.

    Args:
        run: the run of this workflow, `self.process`; or the function, of a function workflow.
        args: the arguments of the next run.
        kwargs: its keyword arguments.

    Raises:
        UsageError: this is not the run of a workflow (but a handler, a query or a task of its own),
            `run` is another one, or the arguments do not fit.
    """
    runtime = _runtime("continue_as_new")
    definition = runtime.definition
    if not _is_of(run, definition):
        name = definition.run_fn.__name__
        own = name if definition.cls is None else f"self.{name}"
        raise misuse(
            f"workflow.continue_as_new takes the run of this workflow: continue_as_new({own}, …), not "
            f"{run!r}."
        )
    if asyncio.current_task() is not runtime.main:
        raise misuse(
            "workflow.continue_as_new is called in a handler or in a task of its own: only the run itself "
            "can continue as new. Set a field, and let the run look at it."
        )
    raise ContinueAsNew(
        runtime.encode_arguments(definition.run_fn, args, kwargs, f"workflow {definition.name!r}")
    )


def all_handlers_finished() -> bool:
    """Whether all signal handlers have finished.

    Wait for it before a run continues as new, so that the arguments of the next run hold their
    changes: `await workflow.wait_until(workflow.all_handlers_finished)`.

    Raises:
        UsageError: this is not workflow code.
    """
    return bool(_runtime("all_handlers_finished", changes=False).handlers.are_finished)


def patched(id: str, /) -> bool:
    """Whether this run has a change of the code: `if workflow.patched("new-fee"): … else: …`.

    True, and recorded, for runs that reach this place for the first time with the changed code;
    false for runs that passed it before. Within a run, the answer for an id never changes.

    When no open run needs the old branch (`perdure check --db` says so), delete it together with
    the call.

    Args:
        id: names the change; never reuse one.

    Raises:
        UsageError: this is not workflow code, or the id is not a text of up to 255 bytes.
    """
    runtime = _runtime("patched", changes=False)
    if fault := fault_of_id(id, "id"):
        raise misuse(f"workflow.patched: {fault}.")
    return bool(runtime.patches.is_applied(id))


def _is_of(run: Any, definition: Any) -> bool:
    if isinstance(run, RunRef):
        return run.definition is definition
    cls = definition.cls
    return cls is not None and (
        type(getattr(run, "__self__", None)) is cls and run.__name__ == definition.run_fn.__name__
    )


def _runtime(what: str, *, changes: bool = True) -> WorkflowRuntime:
    runtime = current()
    if runtime is None:
        raise misuse(f"workflow.{what} is for workflow code; no run is being executed here.")
    if changes and runtime.is_read_only:
        raise misuse(f"workflow.{what} is called in a query, a view or a condition. Those may only read.")
    return runtime
