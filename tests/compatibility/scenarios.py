"""The runs that a release leaves behind: how each gets into its state, how it continues, and how it
must end.

They are written down with the data, so that what is changed here concerns the next release only.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

Ask = list[Any]
"""One request: `["signal", name, *args]`, `["cancel", reason]`, `["terminate", reason]`, `["start
again"]`."""


class Scenario(Struct, kw_only=True, omit_defaults=True):
    """One workflow id.

    Attributes:
        id: says in which state it is.
        type: of its workflow.
        args: of its start, JSON values.
        options: of its start, as `Client.options` takes them.
        before: how many events of a type its history must have before anything is asked.
        asks: after that, one after the other.
        reached: how many events of a type its history has when it is in its state.
        status: the public one, in that state.
        is_leased: a worker has begun its activity. It is run again immediately in one process, and
            on Kafka when the lease has expired.
        is_last: begun shortly before the engine is killed.
        unread: asked when no engine runs any more.
        goes_on: asked later, by another release.
        is_due: it ends by itself as soon as an engine opens it two hours later.
        is_late: it ends only when years have passed.
        ends: the public status at its end.
        result: JSON; at its end.
        result_is_view: the result is the view that was recorded, instead.
        failure: part of the message of its failure, where it fails.
        work: what its activities must have done at its end, in any order, each once.
        ships: whether it has produced a record by its end.
    """

    id: str
    type: str
    args: list[Any] = []
    options: dict[str, Any] = {}
    before: dict[str, int] = {}
    asks: list[Ask] = []
    reached: dict[str, int]
    status: str = "running"
    is_leased: bool = False
    is_last: bool = False
    unread: list[Ask] = []
    goes_on: list[Ask] = []
    is_due: bool = False
    is_late: bool = False
    ends: str = "completed"
    result: Any = None
    result_is_view: bool = False
    failure: str = ""
    work: list[str] = []
    ships: bool = False


def receipt(order_id: str) -> dict[str, Any]:
    return {"order_id": order_id, "price": "12", "at": "2026-01-31T12:30:00Z"}


PARCEL: Final[dict[str, Any]] = {
    "id": "0b5c1c7e-7c3e-4a63-9c6e-0e3f5c1f8f11",
    "state": "picked up",
    "due": "2031-02-28",
    "lifetime": "P3DT4.000005S",
    "weights": [0.1, -2.5e300, 3.0],
    "content": {"apples": [3, "red"], "": [-9223372036854775808, None]},
    "seal": "AAH/",
    "receipt": None,
    "text": "größer → ‰ 🍕",
}
BURRATA: Final = ["burrata", 1200]
PICKED_UP: Final = ["signal", "picked_up"]
END: Final = ["signal", "end"]

OPEN: Final = (
    Scenario(
        id="delayed", type="Order", args=BURRATA, options={"delay": "1 day"}, asks=[PICKED_UP],
        reached={"SignalReceived": 1}, result=receipt("delayed"), work=["charge"], ships=True,
    ),
    Scenario(
        id="waits-for-a-signal", type="Order", args=BURRATA,
        options={"timeout": "200 days", "attributes": {"customer": "c-7", "vip": True}},
        reached={"TimerStarted": 1}, goes_on=[PICKED_UP], result=receipt("waits-for-a-signal"),
        work=["charge"], ships=True,
    ),
    Scenario(
        id="has-an-unread-signal", type="Order", args=BURRATA, reached={"TimerStarted": 1},
        unread=[PICKED_UP], result=receipt("has-an-unread-signal"), work=["charge"], ships=True,
    ),
    Scenario(
        id="timer-is-due", type="remind", args=["now", "1 hour"], reached={"TimerStarted": 1}, is_due=True,
        result="now",
    ),
    Scenario(
        id="timer-is-far", type="remind", args=["in ten years", "3650 days"], reached={"TimerStarted": 1},
        is_late=True, result="in ten years",
    ),
    Scenario(
        id="times-out-later", type="remind", args=["never", "7300 days"], options={"timeout": "3650 days"},
        reached={"TimerStarted": 1}, is_late=True, ends="timed_out",
    ),
    Scenario(
        id="activity-is-out", type="Errand", args=["pack"], is_last=True, reached={"ActivityScheduled": 1},
        result="a pizza is packed", work=["pack"],
    ),
    Scenario(
        id="activity-is-leased", type="Errand", args=["call_driver"], is_leased=True,
        reached={"ActivityStarted": 1}, result="a driver is on the way", work=["call"],
    ),
    Scenario(
        id="activity-backs-off", type="Errand", args=["post"], reached={"ActivityAttemptFailed": 2},
        result="a letter is posted, attempt 3", work=["post"],
    ),
    Scenario(
        id="activity-is-declined", type="Errand", args=["label"], reached={"ActivityDeclined": 1},
        result="a box is labelled",
    ),
    Scenario(
        id="steps-are-done", type="Chores", args=[["a cup", "a plate"]], reached={"ActivityCompleted": 2},
        goes_on=[END], result=[5, 7],
    ),
    Scenario(
        id="handler-waits", type="Chores", args=[["a cup"]], asks=[["signal", "add", "an umbrella"]],
        reached={"TimerStarted": 1}, goes_on=[END], result=[5, 11],
    ),
    Scenario(
        id="cancel-is-requested", type="Careful", asks=[["cancel", "rain"]],
        reached={"WorkflowCancelRequested": 1}, goes_on=[["signal", "stop"]], ends="cancelled",
    ),
    Scenario(
        id="is-cancelled-later", type="Order", args=BURRATA, reached={"TimerStarted": 1},
        goes_on=[["cancel", "too late"]], ends="cancelled", work=["charge", "refund"],
    ),
    Scenario(
        id="is-suspended", type="Changed", reached={"WorkflowSuspended": 1}, status="suspended",
        goes_on=[END], result="5 pounds",
    ),
    Scenario(
        id="draws-by-chance", type="Dice", reached={"TimerFired": 1}, goes_on=[END], result_is_view=True,
    ),
    Scenario(
        id="holds-many-types", type="Storage", args=[PARCEL], reached={"WorkflowStarted": 1},
        goes_on=[["signal", "fetch", receipt("x")]], result={**PARCEL, "receipt": receipt("x")},
    ),
    Scenario(
        id="has-produced", type="Seller", args=["burrata"], reached={"RecordProduced": 1}, goes_on=[END],
        result="burrata is sold", ships=True,
    ),
    Scenario(
        id="runs-again", type="Chores", args=[["a cup"]], asks=[END, ["start again"]],
        reached={"ActivityCompleted": 1}, goes_on=[END], result=[5],
    ),
)  # fmt: skip

CLOSED: Final = (
    Scenario(
        id="completed", type="Chores", args=[["a cup", "a plate"]], asks=[END],
        reached={"WorkflowCompleted": 1}, status="completed", result=[5, 7],
    ),
    Scenario(
        id="failed", type="Order", args=["swordfish", 3500], reached={"WorkflowFailed": 1}, status="failed",
        ends="failed", failure="the card has no 35 dollars", work=["refund"],
    ),
    Scenario(
        id="cancelled", type="Order", args=BURRATA, before={"TimerStarted": 1},
        asks=[["cancel", "changed my mind"]], reached={"WorkflowCancelled": 1}, status="cancelled",
        ends="cancelled", work=["charge", "refund"],
    ),
    Scenario(
        id="terminated", type="Order", args=BURRATA, before={"TimerStarted": 1},
        asks=[["terminate", "a test"]], reached={"WorkflowTerminated": 1}, status="terminated",
        ends="terminated", work=["charge"],
    ),
    Scenario(
        id="timed-out", type="remind", args=["never", "1 day"], options={"timeout": "50ms"},
        reached={"WorkflowTimedOut": 1}, status="timed_out", ends="timed_out",
    ),
)  # fmt: skip

SCENARIOS: Final = (*CLOSED, *OPEN)
