"""The keys of a partition's RocksDB: a letter for the table, then what orders it; numbers are
big-endian.

| table | key after the letter | value |
|---|---|---|
| c checkpoint | | `Checkpoint` |
| e events | run id, 0, first event id | `values.py` |
| k tasks | run id, 0, activity number | the task |
| s states | workflow id | `values.py` |
| t timers | fires_at, run id, 0, kind, number, workflow id | nothing |
| u suspended | workflow id | run id |
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from perdure.model.timers import Timer, TimerKind

CHECKPOINT: Final = b"c"
TASKS: Final = b"k"
TIMERS: Final = b"t"
TIMERS_END: Final = b"u"
SUSPENDED: Final = b"u"

_NUMBER: Final = Struct(">Q")
_KIND_AND_NUMBER: Final = Struct(">BQ")
_SIGN: Final = 1 << 63
"""Added to a time, so that times before 1970 order before the others."""


def event(run_id: str, first_event_id: int) -> bytes:
    """Of a record."""
    return b"e%b\0%b" % (run_id.encode(), _NUMBER.pack(first_event_id))


def events(run_id: str) -> bytes:
    """Prefix of the keys of a run's records."""
    return b"e%b\0" % run_id.encode()


def event_id_of(key: bytes) -> int:
    """The first event id of a record's key."""
    (number,) = _NUMBER.unpack_from(key, len(key) - _NUMBER.size)
    return int(number)


def state(workflow_id: str) -> bytes:
    """Of the state of a workflow id."""
    return b"s" + workflow_id.encode()


def suspended(workflow_id: str) -> bytes:
    """Of the entry that says that its run is suspended."""
    return b"u" + workflow_id.encode()


def task(run_id: str, number: int) -> bytes:
    """Of the task of an activity."""
    return b"k%b\0%b" % (run_id.encode(), _NUMBER.pack(number))


def timer(timer: Timer) -> bytes:
    """Keys order as timers do."""
    return b"t%b%b\0%b%b" % (
        _NUMBER.pack(timer.fires_at + _SIGN),
        timer.run_id.encode(),
        _KIND_AND_NUMBER.pack(timer.kind, timer.number),
        timer.workflow_id.encode(),
    )


def timer_of(key: bytes) -> Timer:
    """The timer of a key."""
    (fires_at,) = _NUMBER.unpack_from(key, 1)
    end = key.index(0, 9)
    kind, number = _KIND_AND_NUMBER.unpack_from(key, end + 1)
    return Timer(fires_at - _SIGN, key[9:end].decode(), TimerKind(kind), number, key[end + 10 :].decode())


def after_all(prefix: bytes) -> bytes:
    """The first key after those that begin with a prefix (whose last byte is less than 255)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
