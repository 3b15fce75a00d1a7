"""Internal records that somebody forges who may write commands: nothing stops, no other run is
touched, and the harm is what the writer could do anyhow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.world import InFile, World

HUGE = 2**63 - 1
SURROGATE = "\ud800"
TEXTS = ("", "nonsense", "accepted", "refused", *Status, SURROGATE, "x" * 100_000, "a\nb")


@activity.defn
async def slow() -> int:
    return 1


@workflow.defn
async def patient() -> int:
    await workflow.sleep("1 day")
    return 1


@workflow.defn
class Victim:
    """Waits for everything that a run can wait for."""

    @workflow.run
    async def process(self) -> str:
        name = workflow.info().workflow_id
        token = workflow.token(int, public=True)
        other = workflow.get(f"{name}/other", patient)
        waits: list[Any] = [
            workflow.execute(f"{name}/child", patient), other.result(), token, slow(), asyncio.sleep(3600)
        ]  # fmt: skip
        found = await asyncio.gather(*waits, return_exceptions=True)
        return "; ".join(type(each).__name__ for each in found)


REGISTRY = Registry.of([Victim, patient], [slow])


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "forged.db") if request.param == "file" else None
    found = World(REGISTRY, medium=medium)
    found.serves_tasks = False
    found.start_workflow("v/other", "patient")
    found.start_workflow("v", "Victim")
    yield found
    found.close()


def forged_answers(run_id: str) -> Iterator[cm.AnyCommand]:
    failure = FailureInfo(SURROGATE, SURROGATE)
    for kind in (cm.AnswerChild, cm.AnswerMessage):
        for number in (-1, 0, 1, 2, HUGE):
            for outcome in TEXTS:
                yield kind("v", run_id, number=number, outcome=outcome, result=b"{", failure=failure)
                yield kind("v", run_id, number=number, outcome=outcome, code="nonsense", message=SURROGATE)
                yield kind("v", run_id, number=number, outcome=outcome, other_run_id=SURROGATE)


def forged_expiries(run_id: str) -> Iterator[cm.AnyCommand]:
    for number in (-1, 0, 1, 2, HUGE):
        for kind in (cm.FireTimer, cm.RetryActivity, cm.ExpireActivity, cm.ExpireToken, cm.ExpireAnswer):
            yield kind("v", run_id, number=number)
        yield cm.ExpireLease("v", run_id, number=number, token="")
        yield cm.ExpireLease("v", run_id, number=number, token=SURROGATE)
        yield cm.DeferActivity("v", run_id, number=number, token="guessed", ran_us=-HUGE)
        yield cm.WriteStream("v", run_id, number=number, token="guessed", name="", first=-1, values=(b"{",))
    for without in (cm.ExpireWorkflow, cm.BeginWorkflow, cm.ResumeWorkflow):
        yield without("v", run_id)
        yield without("nobody", SURROGATE)


ADDRESSES = (
    "workflow:",
    "workflow:child/run/1/v",
    "workflow:child/run/9999999999999999999/v",
    "workflow:message/run/-1/v",
    "workflow:nonsense/run/1/v",
    "workflow:child-stop/run/1/v",
    "workflow:detached//1/v",
    "workflow:child/run/1/" + "x" * 50_000,
    "workflow:child/run/1/" + SURROGATE,
    "kafka:",
    "kafka:-1:x",
    "kafka:99999:x",
    "kafka:99999999999999999999:x",
    "kafka:0:" + SURROGATE,
    "udp:0:x",
    "udp:99999:x",
    "local:",
    "local:" + SURROGATE,
    "dead-letter:",
    "dead-letter:x/0/9999999999999999999",
    SURROGATE,
    ":",
)


def forged_requests(run_id: str) -> Iterator[cm.AnyCommand]:
    for number, address in enumerate(ADDRESSES):
        asked: Any = {"request_id": f"forged-{number}", "reply_to": address}
        yield cm.StartWorkflow(f"stray-{number}", type="patient", input=b"[]", **asked)
        yield cm.StartWorkflow(f"none-{number}", type="unknown", input=b"[]", **asked)
        yield cm.AwaitWorkflow("v", run_id, **asked)
        yield cm.QueryWorkflow("v", run_id, name="none", input=b"[]", **asked)
        yield cm.ReadHistory("v", run_id, from_event_id=-HUGE, **asked)
        yield cm.CancelWorkflow("v", run_id, reason="", started_by="another start", **asked)
        yield cm.TerminateWorkflow("v", run_id, reason="", started_by="another start", **asked)


def others_go_on(world: World) -> None:
    """Another run starts and ends, also after a restart; every history is sound."""
    world.serves_tasks = True
    world.crash()
    world.settle()
    world.start_workflow("bystander", "patient")
    world.advance(86_400)
    assert world.state("bystander").status is Status.COMPLETED
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)


def test_expiries_that_no_timer_has_made_change_nothing(world: World) -> None:
    run_id, before = world.state("v").run_id, world.names("v")
    for command in forged_expiries(run_id):
        world.log.submit([command])
        world.settle()
    assert [name for name in world.names("v") if name != "CommandIgnored"] == before
    others_go_on(world)
    assert world.state("v").status is Status.RUNNING
    assert world.names("v").count("TimerFired") == 1


def test_forged_answers_hit_only_the_run_that_they_name(world: World) -> None:
    run_id = world.state("v").run_id
    for command in forged_answers(run_id):
        world.log.submit([command])
        world.settle()
    shown = world.state("v")
    assert shown.status in {Status.RUNNING, Status.SUSPENDED}, shown.reason
    assert world.names("v").count("MessageAnswered") <= 1
    assert world.state("v/child").status is Status.RUNNING, "the real child goes on"
    others_go_on(world)
    assert world.state("v/other").status is Status.COMPLETED


@pytest.mark.parametrize("outcome", TEXTS)
def test_an_answer_with_an_odd_outcome_leaves_a_run_that_says_why(outcome: str, world: World) -> None:
    run_id = world.state("v").run_id
    world.log.submit([cm.AnswerChild("v", run_id, number=1, outcome=outcome, code="none", message="m")])
    world.log.submit([cm.AnswerMessage("v", run_id, number=1, outcome=outcome, code="none", message="m")])
    world.settle()
    shown = world.state("v")
    assert shown.status is Status.RUNNING or shown.reason
    others_go_on(world)


def test_forged_reply_addresses_and_parents_stop_nothing(world: World) -> None:
    run_id, before = world.state("v").run_id, world.names("v")
    for command in forged_requests(run_id):
        world.log.submit([command])
        world.settle()
    for number, kind in enumerate(("child", "message", "detached"), 100):  # as of the victim's own
        address = f"workflow:{kind}/{run_id}/1/v"
        world.log.submit([cm.StartWorkflow(f"kin-{number}", "", "r", address, type="patient", input=b"[]")])
        world.settle()
    names = world.names("v")
    assert not {"WorkflowCancelRequested", "WorkflowTerminated", "WorkflowCancelled"} & set(names)
    assert names[: len(before)] == before
    others_go_on(world)
