"""Where the commands of a partition begin that was taken over: what the events say they were caused
by against what was committed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from perdure.adapters.kafka.engine.first_command import Bounds
from perdure.adapters.kafka.engine.takeover import Restored, Takeover, _Phase, _Restore
from perdure.adapters.kafka.status import Status


class Restorer:
    """A store whose events name `caused_by` as the last command."""

    def __init__(self, caused_by: int) -> None:
        self.caused_by = caused_by
        self.restored_to: list[tuple[int, int]] = []

    def restored(self, partition: int, offset: int) -> int:
        self.restored_to.append((partition, offset))
        return self.caused_by


def finished(
    committed: int, caused_by: int, low: int = 10, high: int = 50
) -> tuple[Restored, Takeover, list[str]]:
    said: list[str] = []

    def report(message: str, /, **_where: str | int) -> None:
        said.append(message)

    clients: Any = SimpleNamespace(transactional_id="ns.me")
    layout: Any = SimpleNamespace(commands="ns.commands", events="ns.events")
    restorer: Any = Restorer(caused_by)
    woken: list[int] = []
    takeover = Takeover(clients, layout, restorer, status=Status(report), wake=lambda: woken.append(1))
    state = _Restore(7, _Phase.READING, Bounds(committed, low, high), 90, 95)
    takeover._restores[3] = state
    takeover._status.restoring[3] = 5
    takeover._finish(3, state)
    assert restorer.restored_to == [(3, 95)], "as far as it was read"
    assert (state.phase, takeover._status.restoring, woken) == (_Phase.RESTORED, {}, [1])
    (done,) = takeover.done()
    assert (done.partition, done.generation) == (3, 7)
    return done, takeover, said


@pytest.mark.parametrize(("committed", "caused_by"), [(20, 19), (20, -1), (20, 4)])
def test_commands_continue_at_the_committed_offset(committed: int, caused_by: int) -> None:
    done, takeover, said = finished(committed, caused_by)
    assert (done.offset, done.is_ahead, said, takeover._status.counts.events_ahead) == (20, False, [], 0)


@pytest.mark.parametrize(("caused_by", "offset"), [(20, 21), (26, 27), (49, 50)])
def test_commands_whose_events_exist_are_skipped_even_a_single_one(caused_by: int, offset: int) -> None:
    done, takeover, said = finished(20, caused_by)
    assert (done.offset, done.is_ahead, takeover._status.counts.events_ahead) == (offset, True, 1)
    assert f"The commands up to {caused_by} are skipped" in said[0]


def test_a_partition_without_a_committed_offset_begins_at_its_first_record() -> None:
    done, _, said = finished(-1, -1)
    assert (done.offset, done.is_ahead, said) == (10, False, [])


def test_commands_deleted_before_they_were_taken_are_reported() -> None:
    done, _, said = finished(4, 3)
    assert (done.offset, done.is_ahead) == (10, False)
    assert "from offset 4 to 10 were deleted" in said[0]


def test_a_recreated_commands_topic_is_read_from_its_beginning() -> None:
    done, takeover, said = finished(-1, 50, low=0)
    assert (done.offset, done.is_ahead, takeover._status.counts.events_ahead) == (0, False, 0)
    assert "was created again" in said[0]
