"""Engine flags: the rules of the engine that a run began under, numbered and recorded in its
WorkflowStarted.

A run must replay under the rules that it began under, for as long as it lives. So a release that
changes what the core or the replay does with a history adds a flag here and asks for it where the
rule applies:

    if flags.has(run.started.flags, Flag.SOME_RULE): ...

New runs have all flags of the process that starts them. A run that has a flag which this process
does not know was started by a newer
version: it is suspended until that version runs, since its history may mean something else. A
number is never used twice.

The idea is that of Temporal's sdk-core (`internal_flags.rs`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final


class Flag(IntEnum):
    """All flags, by number; 1 to 63."""

    RECORDED = 1
    """The run records its flags. One without it began on 2026-11-30 or before, and has no other
    flag."""
    COMPENSATIONS = 2
    """The compensations of sagas are recorded."""
    CANCELS_AGAIN = 3
    """Each cancellation of the run cancels its handlers, once the main coroutine has ended; before,
    the first did."""
    TIMEOUT_FROM_BEGIN = 4
    """The timeout of the run counts from when its code begins; before, from its start, so that a
    delay could use it up."""


def bits_of(flags: Iterable[Flag]) -> int:
    """Flags in their recorded form: bit n-1 is set for flag n."""
    return sum(1 << (flag - 1) for flag in flags)


CURRENT: Final = bits_of(Flag)
"""The flags that are recorded for new runs."""


class UnknownFlagsError(LookupError):
    """The run began under rules of a newer version."""


def has(recorded: int, flag: Flag) -> bool:
    """Whether a run began under the rule.

    Args:
        recorded: its `WorkflowStarted.flags`.
        flag: the rule.
    """
    return bool(recorded >> (flag - 1) & 1)


def check(recorded: int) -> None:
    """Raise if the run has flags that this version does not know.

    Args:
        recorded: its `WorkflowStarted.flags`.

    Raises:
        UnknownFlagsError: it does.
    """
    if unknown := recorded & ~CURRENT:
        numbers = [number for number in range(1, 64) if unknown >> (number - 1) & 1]
        raise UnknownFlagsError(
            "the run was started by a newer version of perdure, under engine rules that this version does "
            "not know (flags "
            f"{', '.join(map(str, numbers))}); run the newer version again, or terminate the run"
        )
