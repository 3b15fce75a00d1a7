"""A job: one activity without a workflow of yours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from perdure.authoring.definition import ours
from perdure.model.options import ActivityOptions
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from perdure.workflow import Definition


@dataclass
class JobCall:
    """The call of an activity, as a job records it.

    Attributes:
        activity: its name.
        args: its positional arguments, as JSON values.
        options: its options.
        kwargs: its keyword-only arguments, as JSON values.
    """

    activity: str
    args: list[Any]
    options: ActivityOptions = field(default_factory=ActivityOptions)
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])


class _Named:
    """An activity that is known by its name alone (`model.runtime.ActivitySpec`); the worker has
    its signature.
    """

    returns: Any = Any

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def fn(self) -> Callable[..., Any]:
        """Takes any JSON values."""
        return _anything


def _anything(*args: Any, **kwargs: Any) -> Any:
    """The signature of an activity that is known by its name alone."""


async def _job(call: JobCall) -> Any:
    runtime = current()
    if runtime is None:
        raise misuse("a job is a workflow of perdure; start it with client.submit.")
    return await runtime.schedule_activity(_Named(call.activity), tuple(call.args), call.kwargs, call.options)


JOB: Final = ours(_job, "perdure.job")
"""The workflow type of jobs."""


def job_returning(annotation: Any) -> Definition:
    """The type of a job whose activity returns this annotation, for the handle of a client."""
    found = copy(JOB)
    vars(found)["returns"] = annotation  # where the cached property would keep it
    return found


def attributes_of(activity: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a job: those of the caller, and the name of its activity."""
    return {"activity": activity, **given}
