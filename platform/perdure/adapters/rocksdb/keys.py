"""The keys of a partition's RocksDB: a letter for the table, then what orders it; numbers are
big-endian.

| table | key after the letter | value |
|---|---|---|
| c checkpoint | | `Checkpoint` |
| d closed runs, by kind | type, 0, status, 0, closed_at, run id, 0, workflow id | nothing |
| e events | run id, 0, first event id | `values.py` |
| k tasks | run id, 0, activity number | the task |
| s states | workflow id | `values.py` |
| t timers | fires_at, run id, 0, kind, number, workflow id | nothing |
| u suspended | workflow id | run id |
| w closed runs, by workflow | workflow id, 0, run id | its key in d |
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from perdure.model.retention import ClosedRun
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


EVENTS: Final = b"e"


def run_of_event(key: bytes) -> str:
    """The run of a record's key."""
    return key[1 : len(key) - _NUMBER.size - 1].decode()


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


CLOSED: Final = b"d"
CLOSED_END: Final = b"e"


def kind(type: str, status: str) -> bytes:
    """Prefix of the closed runs of a type and status."""
    return b"d%b\0%b\0" % (type.replace("\0", "?").encode(), status.encode())


def closed(run: ClosedRun) -> bytes:
    """Of a closed run; runs of one kind are in the order in which they closed."""
    return b"%b%b%b\0%b" % (
        kind(run.type, run.status),
        _NUMBER.pack(run.closed_at + _SIGN),
        run.run_id.encode(),
        run.workflow_id.encode(),
    )


def closed_run_of(key: bytes) -> ClosedRun:
    """The closed run of a key."""
    type_end = key.index(0)
    status_end = key.index(0, type_end + 1)
    begin = status_end + 1 + _NUMBER.size
    (closed_at,) = _NUMBER.unpack_from(key, status_end + 1)
    run_end = key.index(0, begin)
    return ClosedRun(
        key[1:type_end].decode(),
        key[type_end + 1 : status_end].decode(),
        closed_at - _SIGN,
        key[begin:run_end].decode(),
        key[run_end + 1 :].decode(),
    )


def closed_of_workflow(workflow_id: str, run_id: str) -> bytes:
    """Of the entry by which a workflow's closed run is found; its value is `closed` of the run."""
    return b"w%b\0%b" % (workflow_id.encode(), run_id.encode())


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
